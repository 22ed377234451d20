"""`ARPO/Python-v0`: computational questions, answered with a Python interpreter that keeps its state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import ToolEnv
from ..errors import ConfigError, require_effect, unknown_name
from ..outcome import RewardRule
from ..rewards import HierarchicalReward
from ..tasks import TaskSource
from ..tasks.computations import ComputationSource
from ..tasks.world import Habits
from ..tools.interpreter import make_interpreter
from ..tools.named import Asked, make_tools

GUIDANCE = (
    "Answer the question. Compute with python rather than in your head: variables keep their values from call to call, "
    "and a call shows what it prints and the value of its last expression. Give only the result as the answer: a number "
    "in full, a fraction as p/q in lowest terms."
)

REASONING_GYM = "reasoning-gym:"


class PythonEnv(ToolEnv):
    r"""Answer a question by running Python code, cell by cell, in one namespace.

    Without `tasks`, the questions are generated; see `ComputationSource`.

    Args:
        difficulty: of the generated questions, 1 to 5; default 1, which a very small policy can learn.
        split: "train" (default), "validation" or "test" of generated questions and of reasoning-gym's.
        families: families of generated questions; None for all.
        tasks: other questions: a source, "reasoning-gym:NAME", or the path of a file (see `layout`).
        layout: how the file is laid out: "own" for JSON Lines as in `FileTasks`, otherwise a kind of `load_benchmark`.
            By default a file that states its answers' types ("answer_type") is "own", and others are detected.
        backend: "local", a confined process on this machine, or "e2b", a sandbox in E2B's cloud.
        unsafe: with the local backend, run even where this machine cannot confine it.
        interpreter: more arguments of the tool, `PythonTool` or `E2BTool`.
        tools: more tools: a name, "package.module:object", a tool, several of these, or a mapping from names to arguments.
        habits: shares of the demonstrator's habits, as `Habits` or its keyword arguments.
        reward: a reward rule; default `HierarchicalReward` without a bonus, as there is only one tool.
        dialect: "tags" or "json".
        max_turns: actions until the episode is truncated.
        max_tool_calls: cells that are executed.
        result_characters: a result is cut to this length.
        tool_timeout: seconds one cell may take.
        render_mode: None, "ansi", or "human", which prints the conversation as it goes.

    Raises:
        ConfigError: an argument is unknown, out of range, or would have no effect with another.

    >>> env = PythonEnv(split="test", families=["primes"], render_mode="ansi")
    >>> env.tasks.name, [spec.name for spec in env.tool_specs]
    ('computations(difficulty 1, test, only primes)', ['python'])
    >>> cells = "x = sum(all(n % d for d in range(2, n)) for n in range(306, 975)); x", "(x * x + 72) % 232"
    >>> actions = *(env.dialect.call("python", {"code": cell}) for cell in cells), "<answer>36</answer>"
    >>> question, info = env.reset(options={"task": "primes-1-4155105776"})  # doctest: +SKIP
    >>> for action in actions:  # doctest: +SKIP
    ...     result, reward, *_ = env.step(action)
    >>> print(env.render().replace("\n\n", "\n"))  # doctest: +SKIP
    Let x be the number of primes between 306 and 974. What is the remainder when x squared plus 72 is divided by 232?
    <python>x = sum(all(n % d for d in range(2, n)) for n in range(306, 975)); x</python>
    <result>102</result>
    <python>(x * x + 72) % 232</python>
    <result>36</result>
    <answer>36</answer>
    >>> reward  # doctest: +SKIP
    1.0
    """

    def __init__(
        self,
        *,
        difficulty: int | None = None,
        split: str | None = None,
        families: Sequence[str] | None = None,
        tasks: TaskSource | str | Path | None = None,
        layout: str | None = None,
        backend: str = "local",
        unsafe: bool = False,
        interpreter: Mapping[str, Any] | None = None,
        tools: Asked | None = None,
        habits: Habits | dict[str, float] | None = None,
        reward: RewardRule | None = None,
        dialect: str = "tags",
        max_turns: int = 6,
        max_tool_calls: int = 5,
        result_characters: int = 4000,
        tool_timeout: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        about_questions = {"difficulty": difficulty, "families": families, "habits": habits}
        if tasks is None:
            require_effect({"layout": layout}, "where there is no tasks=", "it says how a file of tasks is laid out")
            source: TaskSource = ComputationSource(
                difficulty=1 if difficulty is None else difficulty,
                split=split or "train",
                families=families,
                habits=Habits(**habits) if isinstance(habits, dict) else habits,
            )
        else:
            require_effect(about_questions, "where tasks= is given", "they choose among the generated questions")
            source = _source(tasks, split, layout)
        super().__init__(
            tasks=source,
            tools=[make_interpreter(backend, unsafe=unsafe, arguments=interpreter or {}), *make_tools(tools)],
            reward=reward or HierarchicalReward(bonus_tools=frozenset()),
            dialect=dialect,
            guidance=GUIDANCE,
            max_turns=max_turns,
            max_tool_calls=max_tool_calls,
            result_characters=result_characters,
            tool_timeout=tool_timeout,
            render_mode=render_mode,
        )


def _source(tasks: TaskSource | str | Path, split: str | None, layout: str | None) -> TaskSource:
    """Returns the given source, as it is or loaded; heavy modules are imported here."""
    if isinstance(tasks, str) and tasks.startswith(REASONING_GYM):
        from ..tasks.reasoning import ReasoningGymTasks

        require_effect({"layout": layout}, f"where tasks={tasks!r} is given", "it says how a file of tasks is laid out")
        return ReasoningGymTasks(tasks.removeprefix(REASONING_GYM), split=split or "train")
    require_effect({"split": split}, "where tasks= is given", "the source, or the file, decides what is in it")
    if not isinstance(tasks, str | Path):
        require_effect({"layout": layout}, "where tasks= is a source", "it says how a file of tasks is laid out")
        return tasks
    return _file(Path(tasks), layout)


def _file(path: Path, layout: str | None) -> TaskSource:
    from ..tasks.benchmarks import KINDS, load_benchmark
    from ..tasks.files import FileTasks

    known = ("own", "auto", *KINDS)
    if layout is not None and layout not in known:
        raise unknown_name("layout", layout, known)
    if layout == "own":
        return FileTasks(path)
    if layout is None and path.is_file() and _says_types(path):
        return FileTasks(path)
    try:
        return load_benchmark(path, kind=layout or "auto")
    except ConfigError as error:
        if layout is not None:
            raise
        raise ConfigError(f"{error} (In this environment: layout=….)") from error


def _says_types(path: Path) -> bool:
    """Returns whether the first line of a file has an answer type; the reader reports what is wrong with a line."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    return '"answer_type"' in first or '"scorer"' in first
