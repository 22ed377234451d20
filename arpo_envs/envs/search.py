"""`ARPO/Search-v0`: questions of one to four hops, answered with a search engine, offline."""

from collections.abc import Sequence
from pathlib import Path

from ..core import ToolEnv
from ..errors import ConfigError, require_effect
from ..outcome import RewardRule
from ..rewards import HierarchicalReward
from ..tasks import TaskSource
from ..tasks.documents import FileCorpus
from ..tasks.files import FileTasks
from ..tasks.world import Corpus, Habits, QuestionSource, load_world
from ..tools.named import Asked, make_tools
from ..tools.python import PythonTool
from ..tools.search import DenseEngine, is_elsewhere, make_search

GUIDANCE = "Answer the question. Look facts up with search, one name at a time; give the answer as the documents write it."

COMPUTE = " Compute with python rather than in your head: variables keep their values from call to call."


class SearchEnv(ToolEnv):
    r"""Answer a question by searching documents.

    Without `tasks` and `corpus`, both come from the built-in world of cities, countries and elements.

    Args:
        hops: how many documents a built-in question needs, 1 to 4; default 2.
        split: "train" (default), "validation" or "test" of the built-in questions.
        world: "real" facts (default), or "counterfactual" ones, which memory cannot answer.
        cities_per_country: size of the built-in world; None for all cities.
        relations: relations that built-in questions may use; None for all.
        results: documents that one search returns.
        tasks: your own questions: a source or the path of a JSON Lines file (see `FileTasks`).
        corpus: your own documents: a corpus, or the path of a JSON Lines or Parquet file (see `FileCorpus`); needs `tasks`.
        engine: "auto", "tantivy" or "sqlite" for an index of the documents' words; "dense:package.module:object" or a
            `DenseEngine` for one of vectors by a model of yours; the URL of a Search-R1 server; or an engine on the web, by its
            name or the JSON file that describes it (see `arpo_envs.tools.search`).
        python: also offer the tool `python`, confined on this machine; using both tools earns the paper's bonus.
        tools: more tools: a name, "package.module:object", a tool, several of these, or a mapping from names to arguments.
        habits: shares of the demonstrator's habits, as `Habits` or its keyword arguments.
        reward: a reward rule; default `HierarchicalReward()`.
        dialect: "tags" or "json".
        max_turns: actions until the episode is truncated.
        max_tool_calls: searches that are executed.
        result_characters: a result is cut to this length.
        tool_timeout: seconds one search may take.
        render_mode: None, "ansi", or "human", which prints the conversation as it goes.

    Raises:
        ConfigError: an argument is unknown, out of range, or would have no effect with another.

    >>> env = SearchEnv(split="test", cities_per_country=10, results=1, result_characters=75, render_mode="ansi")
    >>> question, info = env.reset(options={"task": "city-2886242/country/capital"})
    >>> for action in ("<search>Köln</search>", "<search>Germany</search>", "<answer>Berlin</answer>"):
    ...     result, reward, *_ = env.step(action)
    >>> print(env.render().replace("\n\n", "\n"))
    What is the capital of the country of Köln?
    <search>Köln</search>
    <result>Köln: city in Germany; population 1,024,621; time zone Europe/Berlin; neare… [cut: 19 more characters]</result>
    <search>Germany</search>
    <result>Germany: country in Europe; capital Berlin; currency Euro; calling code 49;… [cut: 203 more characters]</result>
    <answer>Berlin</answer>
    >>> reward
    1.0
    """

    def __init__(
        self,
        *,
        hops: int | None = None,
        split: str | None = None,
        world: str | None = None,
        cities_per_country: int | None = None,
        relations: Sequence[str] | None = None,
        results: int = 3,
        tasks: TaskSource | str | Path | None = None,
        corpus: Corpus | str | Path | None = None,
        engine: str | DenseEngine = "auto",
        python: bool = False,
        tools: Asked | None = None,
        habits: Habits | dict[str, float] | None = None,
        reward: RewardRule | None = None,
        dialect: str = "tags",
        max_turns: int = 8,
        max_tool_calls: int = 6,
        result_characters: int = 4000,
        tool_timeout: float = 30.0,
        render_mode: str | None = None,
    ) -> None:
        about_questions = {"hops": hops, "split": split, "relations": relations, "habits": habits}
        about_world = {"world": world, "cities_per_country": cities_per_country}
        if tasks is not None:
            require_effect(about_questions, "with tasks=", "they choose among the built-in questions")
        if corpus is not None:
            if tasks is None:
                raise ConfigError("corpus= needs tasks=: the built-in questions are about the built-in documents.")
            require_effect(about_world, "with corpus=", "they choose the built-in documents")
            if is_elsewhere(engine):
                raise ConfigError(f"corpus= would have no effect: engine={engine!r} has documents of its own.")
        documents = _documents(corpus) if corpus is not None else load_world(cities_per_country, world or "real")
        if tasks is None:
            source: TaskSource = QuestionSource(
                hops=2 if hops is None else hops,
                split=split or "train",
                world=load_world(cities_per_country, world or "real"),
                relations=relations,
                habits=Habits(**habits) if isinstance(habits, dict) else habits,
            )
        else:
            source = FileTasks(tasks) if isinstance(tasks, str | Path) else tasks
        super().__init__(
            tasks=source,
            tools=[
                make_search(engine, documents, results=results),
                *([PythonTool()] if python else []),
                *make_tools(tools),
            ],
            reward=reward or HierarchicalReward(),
            dialect=dialect,
            guidance=GUIDANCE + (COMPUTE if python else ""),
            max_turns=max_turns,
            max_tool_calls=max_tool_calls,
            result_characters=result_characters,
            tool_timeout=tool_timeout,
            render_mode=render_mode,
        )


def _documents(corpus: Corpus | str | Path) -> Corpus:
    return FileCorpus(Path(corpus)) if isinstance(corpus, str | Path) else corpus
