"""`arpo train`: cold start if needed, evaluation, training, evaluation, report; resumable at every checkpoint."""

import asyncio
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from arpo_envs import ConfigError

from ..checkpoint import Best, Checkpoint, Unsaved, best, latest, newest_step, no_room, save, save_best
from ..durable import sync
from ..evaluation import Evaluation, evaluate
from ..learner import require_peft
from ..models.agreement import Agreement, WeightProbe, check
from ..models.built_in import MARK
from ..models.loading import load_tokenizer
from ..models.named import require_model
from ..policies import FORGET
from ..rollout import Failures, MakeEnv, reason, require_prompts
from ..tracking import keep_steps_before
from ..tracking.trees import compress_trees, forget_trees_before, keep_trees_before, write_trees
from .budget import CallBudget
from .config import OPTIONS, TrainConfig, describe_algorithm
from .elsewhere import engines_for
from .evaluations import Evaluations, Record, brief
from .flat import parsed
from .groups import GROUPS
from .kept import Kept
from .mixtures import described
from .parts import (
    Parts,
    assemble,
    dialect_of,
    evaluation_starts,
    learner_config,
    rehearsed_policy,
    renderer_for,
    starting_policy,
    training_starts,
)
from .patience import Patience
from .policy_source import policy_folder
from .progress import Progress
from .results import write_json
from .resume import resumed, start_of
from .signals import BrokenOff, Signals
from .summary import report
from .tools import FILE, ToolAnswers, require_answerable
from .tracked import METRICS, Tracked, require_tracker
from .verified import Verification

TREES = "trees.jsonl.zst"
_GROWING = (METRICS, TREES, f"{TREES}.index")


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo train`."""
    description = "Train a policy on an environment with an algorithm."
    given = parsed(arguments, OPTIONS, GROUPS, prog="arpo train", description=description)
    config = (TrainConfig.of(given) if given["resume"] is None else resumed(given, arguments)).resolved()
    console = Console()
    if config.dry_run:
        _check(config)
        agreement = asyncio.run(_rehearse(config))
        console.print_json(data=asdict(config), default=str)
        description = escape(f"{described(config.env)}\n{describe_algorithm(config.make_algorithm())}")
        console.print(
            f"{description}\nEverything fits together: {agreement}. Nothing was trained.", highlight=False, soft_wrap=True
        )
        return 0
    try:
        with Signals() as signals:
            return asyncio.run(train(config, console, signals))
    except KeyboardInterrupt as error:
        if config.output is None or not (config.output / "config.json").is_file():
            raise
        console.print(f"Interrupted. Continue with: [bold]arpo train --resume {config.output}[/]", highlight=False)
        return 128 + getattr(error, "number", signal.SIGINT)
    except Exception as error:
        reason = no_room(error)
        if reason is None or isinstance(error, Unsaved):
            raise
        raise Unsaved(f"{reason} ({error}). Make room, then continue with: arpo train --resume {config.output}") from error


async def train(config: TrainConfig, console: Console, signals: Signals) -> int:
    """Trains, and returns the exit status: 0 when done, 128 plus the number of the signal if interrupted and saved."""
    run = config.output
    assert run is not None, "train() takes a resolved configuration"
    with Progress(console) as progress:
        done = None
        if config.resume is not None:
            done = latest(run, lambda line: progress.note(f"[yellow]{escape(line)}[/]"))
        else:
            if run.exists() and any(run.iterdir()):
                raise ConfigError(f"{run} is not empty. Continue with `arpo train --resume {run}`, or choose another --output.")
            _check(config)
            run.mkdir(parents=True, exist_ok=True)
            config.save(run)
        torch.set_num_threads(config.threads or torch.get_num_threads())
        if config.tools == "record" and done is not None and not (run / FILE).is_file():
            raise ConfigError(f"The recording {run / FILE} is gone: put it back, or the run could not be replayed.")
        with ToolAnswers.of(config.tools, run if config.tools == "record" else config.recording) as tools:
            return await _train(config, run, done, tools, progress, signals, console)


async def _train(
    config: TrainConfig,
    run: Path,
    done: Checkpoint | None,
    tools: ToolAnswers,
    progress: Progress,
    signals: Signals,
    console: Console,
) -> int:
    """Trains in a folder that is ready; see `train`."""
    began = time.perf_counter() - (float(done.state["seconds"]) if done is not None else 0.0)
    line = f"{described(config.env)} · {describe_algorithm(config.make_algorithm())} · seed {config.seed} · {run}"
    console.print(escape(line), highlight=False)
    if config.tools != "live":
        progress.note(_answerable(config, *config.train_args))
    start = start_of(config, run, done, lambda: starting_policy(config, run, progress.phase, tools))
    engines = partial(engines_for, listener=progress.listener)
    with _nothing_left_of_what_is_refused(config, run):
        parts = assemble(config, start, done.policy if done is not None else None, progress.failures, tools, engines)
    if done is not None:
        parts.learner.load(done.learner)
        parts.trainer.adaptation.memory = done.state.get("branching")
    first = done.step if done is not None else 0
    try:
        await _ready(config, run, parts, done, progress)
        with closing(Tracked(config, run, first, lambda line: progress.note(f"[yellow]{escape(line)}[/]"))) as tracked:
            before = await _measured(run / "before.json", config, parts, progress)
            progress.note(f"before: {brief(before)}")
            tracked.held_out("before", before)
            evaluations = _evaluations(config, run, start, parts, before, progress)
            if not await _loop(config, run, start, parts, done, progress, began, tracked, signals, evaluations):
                word = "Saved" if (run / "policy").exists() else "Interrupted"
                console.print(f"{word}. Continue with: [bold]arpo train --resume {run}[/]", highlight=False)
                return 128 + (signals.asked or signal.SIGINT)
            after = await _measured(run / "after.json", config, parts, progress)
            progress.note(f"after:  {brief(after)}")
            evaluations.take(newest_step(run), after)
            closed = await _closed_book(config, parts, progress)
            tracked.held_out("after", after | {"closed_book": closed})
            if told := tools.told():
                progress.note(told)
            kept = best(run) if config.eval_every else None
            report(config, run, before, after, closed, time.perf_counter() - began, console, kept)
            tracked.report()
    finally:
        await parts.policy.close()
    return 0


async def _ready(config: TrainConfig, run: Path, parts: Parts, done: Checkpoint | None, progress: Progress) -> None:
    """Gives the policy its weights, and compares it with the learner and the model itself.

    Raises:
        ConfigError: they do not agree; nothing is left of a run that has just begun.
    """
    await parts.policy.load(parts.learner.weights(), done.step if done is not None else 0)
    with _nothing_left_of_what_is_refused(config, run):
        agreement = await check(parts.policy, parts.learner, engine_tolerance=config.engine_tolerance)
    progress.note(f"checked: {agreement}")


@contextmanager
def _nothing_left_of_what_is_refused(config: TrainConfig, run: Path) -> Iterator[None]:
    """Removes the folder of a run that cannot begin: the run made it, and there is nothing in it to keep."""
    try:
        yield
    except ConfigError:
        if config.resume is None:
            shutil.rmtree(run)
        raise


async def _loop(
    config: TrainConfig,
    run: Path,
    start: Path,
    parts: Parts,
    done: Checkpoint | None,
    progress: Progress,
    origin: float,
    tracked: Tracked,
    signals: Signals,
    evaluations: Evaluations,
) -> bool:
    """Takes the steps that are left; False if it was interrupted (and saved)."""
    first = done.step if done is not None else 0
    keep_steps_before(run / METRICS, first)
    compress_trees(run / "trees.jsonl", run / TREES)  # of a run that an earlier version began
    keep_trees_before(run / TREES, first)
    await _forget(parts)
    probe = WeightProbe(parts.policy, parts.learner, engine_tolerance=config.engine_tolerance)
    verification = Verification(probe, config.verify_every, progress)
    await verification.begin()

    def checkpoint(step: int) -> None:
        for name in _GROWING:
            if (run / name).is_file():
                sync(run / name)
        state = {"seconds": time.perf_counter() - origin, "branching": parts.trainer.adaptation.memory}
        save(run, step, parts.model, parts.tokenizer, parts.learner, state, **_more(start, parts))

    kept = Kept(checkpoint, run, first if done is not None else None)
    patience, budget = Patience(progress), CallBudget.of(config.budget_calls, run / "metrics.jsonl")
    with signals.during_steps(), kept.whatever_happens():
        for step in range(first if not budget.is_spent else config.steps, config.steps):
            held_out = await signals.breaking_off(evaluations.due(step))
            if signals.asked:
                raise BrokenOff
            with kept.during(step, parts.learner):
                result = await signals.breaking_off(parts.trainer.learn(step))
                budget.spend(result.metrics)
                is_last = step + 1 == config.steps or budget.is_spent
                patience.count(step, result, first=done is None and step == first)
                if config.keep_trees != "none":
                    write_trees(run / TREES, result.trees)
                if isinstance(config.keep_trees, int) and _is_time_to_forget(config.keep_trees, step + 1, is_last):
                    forget_trees_before(run / TREES, step + 1 - config.keep_trees)
                tracked.step(step, replace(result, metrics=result.metrics | held_out))
            await signals.breaking_off(parts.trainer.load(step + 1))
            await signals.breaking_off(verification.due(step + 1))
            progress.step(step + 1, config.steps, result.metrics)
            if is_last:
                break
            if signals.asked or patience.is_over or (step + 1) % config.checkpoint_every == 0:
                kept.save()
            if patience.is_over:
                raise patience.error(run)
            if signals.asked:
                return False
            await signals.breaking_off(patience.pause())
        kept.save()
        return not signals.is_urgent
    await signals.tidy()
    return False


def _more(start: Path, parts: Parts) -> dict[str, Any]:
    """Returns what a saved policy needs besides its model and tokenizer."""
    weights = parts.learner.weights() if parts.learner.config.lora is not None else None
    return {"weights": weights, "beside": [start / MARK]}


def _evaluations(config: TrainConfig, run: Path, start: Path, parts: Parts, before: Record, progress: Progress) -> Evaluations:
    """Returns the evaluations of a run while it trains."""

    async def measure(part: str) -> Record:
        try:
            return await _measure(config, parts, part, progress)
        finally:
            await _forget(parts)  # so that the next step is as it would be without

    def keep(found: Best) -> None:
        save_best(run, found, parts.model, parts.tokenizer, **_more(start, parts))

    return Evaluations(config.eval_every, run, before, measure, keep, progress)


def _is_time_to_forget(kept: int, done: int, is_last: bool) -> bool:
    """Whether to remove old trees now: at the end, and before that so seldom that each tree is copied about once."""
    return done % kept == 0 or is_last


def _check(config: TrainConfig) -> None:
    """Builds what is quick to build, so that mistakes are found before the long part.

    Raises:
        ConfigError: something does not fit.
    """
    config.make_algorithm()
    if learner_config(config).lora is not None:
        require_peft()
    source, make_env = config.source, config.make_env(*config.train_args)
    if source.is_made:
        require_model(source.model, make_env)
    else:
        folder = policy_folder(source.model, weights=False)
        renderer_for(folder, load_tokenizer(folder), dialect_of(make_env))
    source.require()
    config.placement.require()
    config.make_env(*config.eval_args)
    if config.tools != "live":
        for arguments in (config.train_args, config.eval_args):
            _answerable(config, *arguments)
        with ToolAnswers.of("replay" if config.recording is not None else "live", config.recording):
            pass  # it can be opened
    require_tracker(config)


def _answerable(config: TrainConfig, *arguments: str) -> str:
    """Returns which tools' calls are recorded or replayed; see `require_answerable`."""
    assert config.limits is not None, "it takes a resolved configuration"
    return require_answerable(config.make_env(*arguments), config.limits)


async def _rehearse(config: TrainConfig) -> Agreement:
    """Builds everything as a run does, and compares sampler, learner and model; the embedded model is left untrained.

    Raises:
        ConfigError: something does not fit, or they do not agree.
    """
    with tempfile.TemporaryDirectory(prefix="arpo-dry-run-") as folder:
        config = replace(config, output=Path(folder))
        parts = assemble(config, rehearsed_policy(config, Path(folder) / "policy"), engines=engines_for)
        try:
            await parts.policy.load(parts.learner.weights(), 0)
            for make_env in config.make_members(*config.train_args):
                require_prompts(make_env, training_starts(config, 0), parts.policy, parts.renderer, parts.trainer.limits)
            return await check(parts.policy, parts.learner, engine_tolerance=config.engine_tolerance)
        finally:
            await parts.policy.close()


async def _measured(file: Path, config: TrainConfig, parts: Parts, progress: Progress) -> dict[str, Any]:
    """Returns sampled and greedy held-out success; measured once per run and file."""
    with suppress(FileNotFoundError, ValueError):  # if the file is damaged, it is measured again
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return stored
    record = await _measure(config, parts, file.stem, progress)
    write_json(file, record)
    return record


async def _measure(config: TrainConfig, parts: Parts, part: str, progress: Progress) -> dict[str, Any]:
    """Returns sampled and greedy held-out success of the policy as it is; `part` of the run is what it is measured for."""
    record: dict[str, Any] = {}
    for name, temperature in (("sampled", parts.trainer.limits.temperature), ("greedy", 0.0)):
        progress.note(f"asking {config.eval_questions} held-out questions, {name}")
        result = await _ask(config, parts, parts.held_out, temperature, part=f"{part}, {name}", failures=parts.trainer.failures)
        record[name] = result.success
        record[f"{name}_interval"] = list(result.interval)
        for env, own in result.by_env.items():
            record |= {f"{name}/{env}": own.success, f"{name}_interval/{env}": list(own.interval)}
        record[f"{name}_tool_calls"] = result.metrics["executed_tool_calls_per_prompt"]
        for measure, interval in result.intervals.items():
            record[f"{name}_{measure}"] = result.metrics[measure]
            record[f"{name}_{measure}_interval"] = list(interval)
    return record


async def _forget(parts: Parts) -> None:
    """Makes an engine drop what it remembers: earlier requests would otherwise show in the last bits of later results."""
    await FORGET.of(parts.policy)()


async def _ask(
    config: TrainConfig, parts: Parts, make_env: MakeEnv, temperature: float, *, part: str, failures: Failures
) -> Evaluation:
    await _forget(parts)
    return await evaluate(
        parts.tools.before(make_env, part),
        evaluation_starts(config.eval_questions),
        parts.policy,
        parts.renderer,
        seed=config.seed,
        limits=parts.trainer.limits,
        temperature=temperature,
        failures=failures,
        collect=parts.trainer.collect,
    )


async def _closed_book(config: TrainConfig, parts: Parts, progress: Progress) -> float | None:
    """Returns the success without tools, None for an environment that cannot be asked that way."""
    try:
        make_env = config.make_env(*config.eval_args, "max_tool_calls=0")
    except Exception:  # noqa: BLE001  # it has no such argument, and says so in its own way
        return None
    progress.note(f"asking {config.eval_questions} held-out questions, without tools")
    try:
        temperature, part = parts.trainer.limits.temperature, "without tools"
        return (await _ask(config, parts, make_env, temperature, part=part, failures=progress.failures)).success
    except Exception as error:  # noqa: BLE001  # one figure among others; the run is done
        progress.note(f"[yellow]not measured without tools[/]: {escape(reason(error))}")
        return None
