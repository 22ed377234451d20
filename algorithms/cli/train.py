"""`arpo train`: cold start if needed, evaluation, training, evaluation, report; resumable at every checkpoint."""

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from arpo_envs import ConfigError

from ..checkpoint import Best, Checkpoint, Unsaved, best, latest, newest_step, no_room, save_best
from ..cluster import clear
from ..evaluation import Evaluation, evaluate
from ..models.agreement import Agreement, WeightProbe, require_agreement
from ..models.built_in import MARK
from ..policies import FORGET
from ..rollout import Failures, MakeEnv, reason
from ..tracking import keep_steps_before
from ..tracking.trees import compress_trees, forget_trees_before, keep_trees_before, write_trees
from .alone import alone
from .budget import CallBudget
from .checkpoints import TREES, Checkpoints, merged
from .config import OPTIONS, TrainConfig, describe_algorithm
from .elsewhere import engines_for, learner_for
from .evaluations import Evaluations, Record, brief
from .flat import parsed
from .groups import GROUPS
from .kept import Kept
from .mixtures import described
from .outputs import require_folder
from .parts import (
    Parts,
    assemble,
    evaluation_starts,
    starting_policy,
)
from .patience import Patience
from .progress import Progress
from .rehearsal import answerable, rehearse, require_fitting
from .results import write_json
from .resume import resumed, start_of
from .signals import BrokenOff, Signals
from .summary import report
from .tools import FILE, ToolAnswers
from .tracked import METRICS, Tracked
from .verified import Verification, checked


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo train`."""
    description = "Train a policy on an environment with an algorithm."
    given = parsed(arguments, OPTIONS, GROUPS, prog="arpo train", description=description)
    with ExitStack() as held:
        config = TrainConfig.of(given) if given["resume"] is None else resumed(given, arguments, held)
        return _obey(config.resolved())


def _obey(config: TrainConfig) -> int:
    """Trains, or only tries whether everything fits together; returns the exit status."""
    assert config.output is not None, "a resolved configuration has an output"
    require_folder(config.output)
    if config.weights_folder is not None:
        require_folder(config.weights_folder, "--weights-folder")
    console = Console()
    if config.dry_run:
        require_fitting(config)
        agreement = asyncio.run(rehearse(config))
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
        if not (config.output / "config.json").is_file():
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
    with Progress(console) as progress, ExitStack() as held:
        done = None
        if config.resume is not None:
            done = latest(run, lambda line: progress.note(f"[yellow]{escape(line)}[/]"))
        else:
            _require_empty(run)
            require_fitting(config)
        for line in await config.placement.same_versions():
            progress.note(f"[yellow]{escape(line)}[/]")
        if config.resume is None:
            run.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(run))  # a resumed one is locked already
            _require_empty(run)
            config.save(run)
        clear(run)  # what a run that was killed has left, wherever its parts were put then
        torch.set_num_threads(config.threads or torch.get_num_threads())
        if config.tools == "record" and done is not None and not (run / FILE).is_file():
            raise ConfigError(f"The recording {run / FILE} is gone: put it back, or the run cannot be replayed.")
        with ToolAnswers.of(config.tools, run if config.tools == "record" else config.recording) as tools:
            return await _train(config, run, done, tools, progress, signals, console)


def _require_empty(run: Path) -> None:
    """Refuses to begin a run where something is."""
    if run.exists() and any(run.iterdir()):
        raise ConfigError(f"{run} is not empty. Continue with `arpo train --resume {run}`, or choose another --output.")


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
        progress.note(answerable(config, *config.train_args))
    start = start_of(config, run, done, lambda: starting_policy(config, run, progress.phase, tools))
    engines, ranks = partial(engines_for, listener=progress.listener), partial(learner_for, listener=progress.listener)
    with _nothing_left_of_what_is_refused(config, run):
        weights = done.policy if done is not None else None
        parts = await assemble(config, start, weights, progress.failures, tools, engines, ranks)
    first = done.step if done is not None else 0
    try:
        if done is not None:
            parts.learner.load(done.learner)
            parts.trainer.adaptation.memory = done.state.get("branching")
            if parts.trainer.ahead is not None and (previous := done.previous()) is not None:
                several = config.placement.learners > 1  # all of them and the engines see the run's folder
                parts.trainer.ahead.weights[done.step - 1] = previous if several else previous.read()
                del previous  # or they would be kept until the run ends
        await _ready(config, run, parts, done, progress)

        def tell(line: str) -> None:
            progress.note(f"[yellow]{escape(line)}[/]")

        with closing(Tracked(config, run, first, tell)) as tracked:
            before = await _measured(run / "before.json", config, parts, progress)
            progress.note(f"before: {brief(before)}")
            tracked.held_out("before", before)
            with Checkpoints(config, start, parts, began, tell) as checkpoints:
                evaluations = _evaluations(config, run, start, parts, before, progress, checkpoints)
                is_done = await _loop(config, run, parts, done, progress, checkpoints, tracked, signals, evaluations)
            if not is_done:
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
            tracked.report(progress.note)
    finally:
        await parts.close()
    return 0


async def _ready(config: TrainConfig, run: Path, parts: Parts, done: Checkpoint | None, progress: Progress) -> None:
    """Gives the policy its weights, and compares it with the learner and the model itself.

    Raises:
        ConfigError: they do not agree; nothing is left of a run that has just begun.
    """

    async def compare() -> Agreement:
        await parts.policy.load(parts.learner.weights(), done.step if done is not None else 0)
        return await require_agreement(parts.policy, parts.learner, engine_tolerance=config.engine_tolerance)

    with _nothing_left_of_what_is_refused(config, run):
        await checked(compare, progress)


@contextmanager
def _nothing_left_of_what_is_refused(config: TrainConfig, run: Path) -> Iterator[None]:
    """Removes the folder of a run that cannot begin, as the run made it; unless it holds a cold start, which takes long."""
    try:
        yield
    except ConfigError as error:
        start = run / "cold_start"
        if config.resume is None and (start / MARK).is_file():
            error.add_note(
                f"The cold start is kept. Use it with other options: arpo train --policy {start}; or, if only --cluster, "
                f"--engines, --learners or the machine has to change: arpo train --resume {run}"
            )
        elif config.resume is None:
            shutil.rmtree(run, ignore_errors=True)  # ranks may still have files open there; the error counts
        raise


async def _loop(
    config: TrainConfig,
    run: Path,
    parts: Parts,
    done: Checkpoint | None,
    progress: Progress,
    checkpoints: Checkpoints,
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

    trainer = parts.trainer

    def tell(line: str) -> None:
        progress.note(f"[yellow]{escape(line)}[/]")

    kept = Kept(checkpoints, run, first if done is not None else None, lambda: trainer.is_updating, tell)
    patience, budget = Patience(progress), CallBudget.of(config.budget_calls, run / "metrics.jsonl")
    with signals.during_steps(), kept.whatever_happens():
        for step in range(first if not budget.is_spent else config.steps, config.steps):
            held_out = await signals.breaking_off(evaluations.due(step))
            if signals.asked:
                raise BrokenOff
            with kept.during(step, parts.learner):
                result = await signals.breaking_off(trainer.learn(step), lambda: trainer.is_updating)
                budget.spend(result.metrics)
                is_last = step + 1 == config.steps or budget.is_spent
                patience.count(step, result, first=done is None and step == first)
                if config.keep_trees != "none":
                    write_trees(run / TREES, result.trees)
                if isinstance(config.keep_trees, int) and _is_time_to_forget(config.keep_trees, step + 1, is_last):
                    forget_trees_before(run / TREES, step + 1 - config.keep_trees)
                measured = replace(result, metrics=result.metrics | held_out | kept.metrics())
                tracked.step(step, measured, is_last=is_last)
            after = signals.breaking_off if is_last else signals.unless_asked  # the last one is followed by an evaluation
            await after(trainer.load(step + 1))
            await after(verification.due(step + 1))
            progress.step(step + 1, config.steps, result.metrics)
            if is_last:
                break
            if signals.asked or patience.is_over:
                kept.save()
            elif (step + 1) % config.checkpoint_every == 0:
                kept.begin()
            else:
                kept.look()
            if patience.is_over:
                raise patience.error(run)
            if signals.asked:
                return False
            await signals.unless_asked(patience.pause())
        kept.save()
        return not signals.is_urgent
    await signals.tidy()
    return False


def _evaluations(
    config: TrainConfig, run: Path, start: Path, parts: Parts, before: Record, progress: Progress, checkpoints: Checkpoints
) -> Evaluations:
    """Returns the evaluations of a run while it trains."""

    async def measure(part: str) -> Record:
        try:
            return await _measure(config, parts, part, progress)
        finally:
            await _forget(parts)  # so that the next step is as it would be without

    def keep(found: Best) -> None:
        checkpoints.rest()
        save_best(run, found, parts.model, parts.tokenizer, weights=merged(parts), beside=[start / MARK])

    return Evaluations(config.eval_every, run, before, measure, keep, progress)


def _is_time_to_forget(kept: int, done: int, is_last: bool) -> bool:
    """Whether to remove old trees now: at the end, and before that so seldom that each tree is copied about once."""
    return done % kept == 0 or is_last


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
