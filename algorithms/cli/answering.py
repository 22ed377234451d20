"""The rollouts of an evaluation: the parts that training would use, asked block by block."""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..durable import fingerprint
from ..evaluation import Attempt, AttemptFile, ask, attempts_of
from ..models.agreement import require_engine
from ..models.loading import load_tokenizer
from ..policies import FORGET, MODEL, Policy
from ..rendering.renderer import Renderer
from ..rollout import GROWN_AGAIN, Collected, Ended, Failures, Limits, MakeEnv, Start, try_collect
from ..tree import RolloutTree
from .alone import alone
from .asked import Asked, asked, chosen
from .config import TrainConfig
from .environments import env_maker
from .eval_config import EvalConfig, run_measured
from .graded import Grader
from .parts import dialect_of, renderer_for
from .progress import Progress
from .tools import ToolAnswers

_HOPELESS = 8
"""Questions after which an evaluation ends if none of their answers says anything about the model."""


@dataclass(frozen=True)
class Answering:
    """What answers questions.

    Args:
        config: of the evaluation.
        make_env: makes the environments.
        policy: draws the actions.
        renderer: turns text into tokens, and back.
        limits: of the rollouts.
        failures: reports and counts what fails in them.
    """

    config: EvalConfig
    make_env: MakeEnv
    policy: Policy
    renderer: Renderer
    limits: Limits
    failures: Failures | None = None

    async def __call__(self, starts: Sequence[Start], first: int = 0, say: Callable[[float], None] | None = None) -> Collected:
        """Asks questions as if nothing had been asked before.

        Args:
            starts: one per question.
            first: position of the first one in the evaluation.
            say: is told, whenever an answer is finished, to how many of these questions all answers so far amount.
        """
        await FORGET.of(self.policy)()
        return await ask(
            self.make_env,
            starts,
            self.policy,
            self.renderer,
            seed=self.config.seed,
            first=first,
            limits=self.limits,
            temperature=self.config.temperature,
            samples=self.config.samples,
            failures=self.failures,
            collect=partial(try_collect, ended=_adding_up(self.config.samples, say)) if say is not None else try_collect,
        )


def _adding_up(samples: int, say: Callable[[float], None]) -> Ended:
    counts: dict[int, int] = {}

    def ended(question: int, count: int) -> None:
        counts[question] = count
        say(sum(counts.values()) / samples)

    return ended


@asynccontextmanager
async def answering(
    config: EvalConfig, folder: Path, made: MakeEnv, tools: ToolAnswers, failures: Failures | None = None
) -> AsyncIterator[Answering]:
    """Gives what answers the questions of an evaluation.

    Args:
        config: of the evaluation.
        folder: of the model.
        made: makes the environments.
        tools: answers the calls of their tools.
        failures: reports and counts what fails; by default it is logged.
    """
    given = sizes(config, folder)
    make_env, tokenizer = tools.before(made, "evaluation"), load_tokenizer(folder)
    renderer = renderer_for(folder, tokenizer, dialect_of(make_env), evaluating=True)
    config.prompting.require_read(renderer.with_instructions)
    policy = config.source.make(
        folder=folder,
        tokenizer=tokenizer,
        context_length=given.context_length or 4096,
        device=config.device,
        training=False,
    )
    try:
        if (model := MODEL.of(policy)) is not None:
            await require_engine(policy, model)
        yield Answering(config, make_env, policy, renderer, given.limits or Limits(), failures)
    finally:
        await policy.close()


async def trees_of(
    config: EvalConfig,
    folder: Path,
    starts: Sequence[Start],
    made: MakeEnv,
    look: Callable[[Sequence[RolloutTree]], None],
    say: Callable[[str], None],
) -> list[RolloutTree]:
    """Returns the trees of all questions: the first is asked by itself, then the others in blocks.

    Args:
        config: of the evaluation, as for `answering`.
        folder: of the model.
        starts: one per question.
        made: makes the environments.
        look: is shown the first tree before the long work; what it raises ends it.
        say: is told how many questions were asked.

    Raises:
        RolloutError: every single path failed; see `collect`.
    """
    async with answering(config, folder, made, ToolAnswers()) as answer:
        found = [await answer(starts[:1])]
        look(found[0].trees)
        for first in range(1, len(starts), config.block):

            def so_far(more: float, first: int = first) -> None:
                say(f"{first + int(more):,} of {len(starts):,} questions asked")

            so_far(0)
            found.append(await answer(starts[first : first + config.block], first, so_far))
    errors = [part.error for part in found if part.error is not None]
    if len(errors) == len(found):
        raise errors[0]
    return [tree for part in found for tree in part.trees]


@dataclass(frozen=True)
class Sitting:
    """Questions that are asked in one way.

    Args:
        env: id of the environment, or a mixture.
        words: its arguments.
        questions: all of them.
        make_env: makes the environments.
    """

    env: str
    words: tuple[str, ...]
    questions: Asked
    make_env: MakeEnv

    @classmethod
    def of(cls, config: EvalConfig, env: str, words: Sequence[str]) -> "Sitting":
        """Returns what an evaluation asks.

        Raises:
            ConfigError: the benchmark cannot be read, or the environment cannot be made or cannot ask it.
        """
        questions = asked(config, env, words)
        return cls(env, tuple(words), questions, env_maker(env, dict(questions.options), config.prompting))


@dataclass
class Answers:
    """All answers so far.

    Args:
        attempts: in order of questions and samples.
        file: they are written to; None for none.
        trees: to show.
        lost: what growing trees again has cost, by the names in `rollout.GROWN_AGAIN`; of earlier calls it is not known.
    """

    attempts: list[Attempt]
    file: AttemptFile | None = None
    trees: list[RolloutTree] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    async def complete(
        self, config: EvalConfig, folder: Path, sitting: Sitting, tools: ToolAnswers, progress: Progress
    ) -> None:
        """Asks what is still to be asked, block by block.

        Args:
            config: of the evaluation, as for `answering`.
            folder: of the model.
            sitting: what is asked.
            tools: answers the calls of their tools.
            progress: is told how far it is, and what fails.

        Raises:
            RolloutError: every path of the first questions failed; see `collect`.
        """
        starts, made = sitting.questions.starts, sitting.make_env
        answered = {one.question for one in self.attempts}
        blocks = [first for first in range(0, len(starts), config.block) if first not in answered]
        if not blocks:
            return
        tried = len(answered)
        reached: float | None = None

        def so_far(more: float) -> None:
            progress.asked(tried + more, len(starts), reached)

        so_far(0)
        async with answering(config, folder, made, tools, progress.failures) as answer:
            benchmark = chosen(config)
            grade = Grader.of(made, answer.renderer, benchmark.name if benchmark is not None else None)
            for first in blocks:
                found = await answer(starts[first : first + config.block], first, so_far)
                new = attempts_of(found.trees, grade, first=first)
                if self.file is not None:
                    self.file.append(new)
                self.attempts += new
                self.lost.update({name: int(found.counts[name]) for name in GROWN_AGAIN})
                self.trees += found.trees[: max(0, config.show - len(self.trees))]
                tried = len({one.question for one in self.attempts})
                right = [one.success for one in self.attempts if one.success is not None]
                reached = sum(right) / len(right) if right else None
                so_far(0)
                is_hopeless = tried >= min(len(starts), _HOPELESS) and not any(one.counts for one in self.attempts)
                if found.error is not None and is_hopeless:
                    raise found.error
        if blocks[0] < max(answered, default=0):  # between blocks that were finished before
            self.attempts.sort(key=lambda one: (one.question, one.sample))
            if self.file is not None:
                self.file.put_in_order()


def begun(config: EvalConfig, sitting: Sitting, folder: Path, records: Path | None, held: ExitStack) -> Answers:
    """Returns the answers that an earlier call has written, or begins their file; none if they are not kept.

    Args:
        config: of the evaluation.
        sitting: what is asked.
        folder: of the model.
        records: the file; None for none.
        held: keeps other commands away from the file until it is closed.

    Raises:
        ConfigError: the file cannot be begun, or not be continued, or another command is at work on it.
    """
    if records is None:
        return Answers([])
    file = AttemptFile(records, len(sitting.questions.starts), config.samples, config.block)
    settings = settings_of(config, sitting, folder)
    is_old = config.resume and (records == config.records or records.exists())
    if not is_old:
        file.begin(settings)
    held.enter_context(alone(file.settings, records))  # the file itself is replaced when lines are dropped
    return Answers(file.resume(settings) if is_old else [], file)


def sizes(config: EvalConfig, folder: Path) -> TrainConfig:
    """Returns the lengths to evaluate with: those asked for, those of the run, or what `arpo train` would choose."""
    home = run_measured(Path(config.source.model))
    run = TrainConfig.load(home) if home is not None else TrainConfig()
    context_length = config.context_length or run.context_length
    found = TrainConfig(policy=str(folder), output=folder, context_length=context_length)
    usual = run.limits or found.resolved().limits or Limits()
    idle_turns = usual.idle_turns if config.idle_turns is None else config.idle_turns
    limits = Limits(action_tokens=config.action_tokens or usual.action_tokens, idle_turns=idle_turns)
    return replace(found, limits=limits).resolved()


_DECISIVE = ("policy", "policy_args", "engine", "engine_args", "device", "samples", "temperature", "seed", "concurrency")


def settings_of(config: EvalConfig, sitting: Sitting, folder: Path) -> Mapping[str, object]:
    """Returns what the answers of an evaluation depend on, for the file that keeps them.

    Args:
        config: of the evaluation.
        sitting: what is asked.
        folder: of the model.
    """
    questions = sitting.questions
    given, benchmark = sizes(config, folder), chosen(config)
    source = questions.options["tasks"] if benchmark is not None else None
    asked = [source.get(start.options["task"]) for start in questions.starts if source is not None and start.options]
    digest = hashlib.blake2b(repr((questions.starts, asked)).encode("utf-8", "backslashreplace"), digest_size=8)
    return {
        **{name: getattr(config, name) for name in _DECISIVE},
        "model": fingerprint(folder),
        "prompt": config.prompting.prompt,
        "examples": config.prompting.examples,
        "env": sitting.env,
        "args": list(sitting.words),
        **{name: value for name, value in questions.record.items() if name != "data"},
        "questions": len(questions.starts),
        "digest of the questions": digest.hexdigest(),
        "action_tokens": given.limits.action_tokens if given.limits is not None else None,
        "idle_turns": given.limits.idle_turns if given.limits is not None else None,
        "context_length": given.context_length,
    }
