"""`arpo train`: cold start if needed, evaluation, training, evaluation, report; resumable at every checkpoint."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.markup import escape

from arpo_envs import ConfigError

from ..adapters import require_peft
from ..agreement import Agreement, check
from ..checkpoint import Checkpoint, latest, save
from ..embedded.lessons import demonstrator
from ..evaluate import Evaluation, evaluate
from ..failures import Failures, reason
from ..loading import load_tokenizer
from ..optimization import Diverged
from ..policies.served import is_url
from ..prompts import check_prompts
from ..tracking import JsonlTracker, Tracker, WandbTracker, keep_steps_before, log_all
from ..tree import write_trees
from .config import MARK, TrainConfig, describe_algorithm
from .engine import require_vllm
from .parts import (
    Parts,
    assemble,
    dialect_of,
    evaluation_starts,
    learner_config,
    new_embedded,
    renderer_for,
    starting_policy,
    training_starts,
)
from .patience import Patience
from .policy_source import EMBEDDED, policy_folder
from .progress import Progress
from .remote import refuse_unsynced
from .report import report
from .results import write_json


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo train`."""
    config = tyro.cli(TrainConfig, args=list(arguments), prog="arpo train", description="Train a policy on an environment.")
    if config.resume is not None:
        config = _resumed(config)
    config = config.resolved()
    console = Console()
    if config.dry_run:
        _check(config)
        agreement = asyncio.run(_rehearse(config))
        console.print_json(data=asdict(config), default=str)
        description = escape(describe_algorithm(config.make_algorithm()))
        console.print(
            f"{description}\nEverything fits together: {agreement}. Nothing was trained.", highlight=False, soft_wrap=True
        )
        return 0
    try:
        return asyncio.run(train(config, console))
    except KeyboardInterrupt:
        if config.output is None or not (config.output / "config.json").is_file():
            raise
        console.print(f"Interrupted. Go on with: [bold]arpo train --resume {config.output}[/]", highlight=False)
        return 130


def _resumed(asked: TrainConfig) -> TrainConfig:
    """Returns the configuration of the run to go on with.

    Raises:
        ConfigError: other arguments were given, which would have no effect.
    """
    assert asked.resume is not None
    idle = [one.name for one in fields(asked) if one.name != "resume" and getattr(asked, one.name) != one.default]
    if idle:
        names = ", ".join("--" + name.replace("_", "-") for name in idle)
        raise ConfigError(f"{names} would have no effect beside --resume: a resumed run keeps its own configuration.")
    return TrainConfig.load(asked.resume)


async def train(config: TrainConfig, console: Console) -> int:
    """Trains, and returns the exit status: 0 when done, 130 when interrupted and saved."""
    run = config.output
    assert run is not None, "train() takes a resolved configuration"
    done = latest(run)
    if config.resume is None:
        if run.exists() and any(run.iterdir()):
            raise ConfigError(f"{run} is not empty. Go on with `arpo train --resume {run}`, or choose another --output.")
        _check(config)
        run.mkdir(parents=True, exist_ok=True)
        config.save(run)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    began = time.perf_counter()
    elapsed = float(done.state["seconds"]) if done is not None else 0.0
    line = f"{config.env} · {describe_algorithm(config.make_algorithm())} · seed {config.seed} · {run}"
    console.print(escape(line), highlight=False)
    with Progress(console) as progress:
        start = starting_policy(config, run, progress.phase)
        weights = done.policy if done is not None else None
        parts = assemble(config, start, weights, progress.failures)
        if done is not None:
            parts.learner.load_state_dict(done.learner_state())
        await parts.policy.load(parts.learner.weights(), done.step if done is not None else 0)
        try:
            agreement = await check(parts.policy, parts.learner, engine_tolerance=config.engine_tolerance)
        except ConfigError:
            await parts.policy.close()
            if config.resume is None:
                shutil.rmtree(run)  # it is ours, and nothing was earned
            raise
        progress.note(f"checked: {agreement}")
        before = await _measured(run / "before.json", config, parts)
        progress.note(f"before: {_brief(before)}")
        finished = await _loop(config, run, start, parts, done, progress, began - elapsed)
        if not finished:
            console.print(f"Saved. Go on with: [bold]arpo train --resume {run}[/]", highlight=False)
            await parts.policy.close()
            return 130
        after = await _measured(run / "after.json", config, parts)
        progress.note(f"after:  {_brief(after)}")
        closed = await _closed_book(config, parts, progress)
    await parts.policy.close()
    seconds = time.perf_counter() - began + elapsed
    report(config, run, before, after, closed, seconds, console)
    return 0


async def _loop(
    config: TrainConfig, run: Path, start: Path, parts: Parts, done: Checkpoint | None, progress: Progress, origin: float
) -> bool:
    """Takes the steps that are left; False if it was interrupted (and saved)."""
    first = done.step if done is not None else 0
    for name in ("metrics.jsonl", "trees.jsonl"):
        keep_steps_before(run / name, first)
    trackers: list[Tracker] = [JsonlTracker(run / "metrics.jsonl")]
    if config.track == "wandb":
        name = f"{run.name}"
        trackers.append(WandbTracker(config.wandb_project, name, run, asdict(config), run_id=_run_id(run)))

    def checkpoint(step: int) -> None:
        seconds = time.perf_counter() - origin
        state = parts.learner.state_dict()
        weights = parts.learner.weights() if config.lora is not None else None
        save(run, step, parts.model, parts.tokenizer, state, {"seconds": seconds}, weights=weights, beside=[start / MARK])

    patience = Patience(progress)
    with _Interrupt() as interrupt:
        for step in range(first, config.steps):
            try:
                result = await parts.trainer.step(step)
            except Diverged as error:
                checkpoint(step)
                raise Diverged(f"{error} They are saved as step {step} of {run}.") from error
            patience.count(step, result, first=done is None and step == first)
            write_trees(run / "trees.jsonl", result.trees)
            log_all(trackers, step, result.metrics)
            progress.step(step + 1, config.steps, result.metrics)
            over = step + 1 == config.steps
            if over or interrupt.asked or (step + 1) % config.checkpoint_every == 0:
                checkpoint(step + 1)
            if patience.is_over:
                checkpoint(step + 1)
                raise patience.error(run)
            if interrupt.asked and not over:
                break
            await patience.pause()
        else:
            if first == config.steps == 0:
                checkpoint(0)
    for tracker in trackers:
        tracker.close()
    return not interrupt.asked or over


class _Interrupt:
    """Turns the first Ctrl-C into a wish that is fulfilled after the current step; the second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "_Interrupt":
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)


def _check(config: TrainConfig) -> None:
    """Builds what can be built without work, so that mistakes are found before the long part.

    Raises:
        ConfigError: something does not fit.
    """
    config.make_algorithm()
    learner_config(config)
    if config.lora is not None:
        require_peft()
    folder = policy_folder(config.model, weights=False) if config.model != EMBEDDED else None
    if folder is not None and is_url(config.policy):
        refuse_unsynced(config.policy)
    make_env = config.make_env(*config.train_args)
    if folder is not None:
        renderer_for(folder, load_tokenizer(folder), dialect_of(make_env))
    else:
        env = make_env()
        demonstrator(env)
        env.close()
    config.make_env(*config.eval_args)
    if config.engine == "vllm":
        require_vllm()


async def _rehearse(config: TrainConfig) -> Agreement:
    """Builds everything as a run does, and compares sampler, learner and model; the embedded model is as it was drawn.

    Raises:
        ConfigError: something does not fit, or they do not agree.
    """
    with tempfile.TemporaryDirectory(prefix="arpo-dry-run-") as folder:
        config = replace(config, output=Path(folder))
        start = policy_folder(config.model) if config.model != EMBEDDED else new_embedded(config, Path(folder) / "policy")
        parts = assemble(config, start)
        try:
            check_prompts(parts.trainer.make_env, training_starts(config, 0), parts.policy, parts.renderer, config.limits())
            await parts.policy.load(parts.learner.weights(), 0)
            return await check(parts.policy, parts.learner, engine_tolerance=config.engine_tolerance)
        finally:
            await parts.policy.close()


async def _measured(file: Path, config: TrainConfig, parts: Parts) -> dict[str, Any]:
    """Returns sampled and greedy held-out success; measured once per run and file."""
    if file.is_file():
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return stored
    record: dict[str, Any] = {}
    for name, temperature in (("sampled", config.temperature), ("greedy", 0.0)):
        result = await _ask(config, parts, temperature, failures=parts.trainer.failures)
        record[name] = result.success
        record[f"{name}_interval"] = list(result.interval)
        record[f"{name}_tool_calls"] = result.metrics["executed_tool_calls_per_prompt"]
    write_json(file, record)
    return record


async def _ask(config: TrainConfig, parts: Parts, temperature: float, *arguments: str, failures: Failures) -> Evaluation:
    return await evaluate(
        config.make_env(*config.eval_args, *arguments),
        evaluation_starts(config.eval_questions),
        parts.policy,
        parts.renderer,
        seed=config.seed,
        limits=config.limits(),
        temperature=temperature,
        failures=failures,
    )


async def _closed_book(config: TrainConfig, parts: Parts, progress: Progress) -> float | None:
    """Returns the success without tools, None for an environment that cannot be asked that way."""
    without = "max_tool_calls=0"
    try:
        config.make_env(*config.eval_args, without)
    except Exception:  # noqa: BLE001  # it has no such argument, and says so in a way of its own
        return None
    try:
        return (await _ask(config, parts, config.temperature, without, failures=progress.failures)).success
    except Exception as error:  # noqa: BLE001  # a figure beside others; the run is done
        progress.note(f"[yellow]not measured without tools[/]: {escape(reason(error))}")
        return None


def _run_id(run: Path) -> str:
    """Returns a name of the run that survives a resume."""
    file = run / "wandb_id"
    if not file.is_file():
        file.write_text(os.urandom(6).hex(), encoding="utf-8")
    return file.read_text(encoding="utf-8")


def _brief(record: dict[str, Any]) -> str:
    return f"held-out success {record['sampled']:.3f} sampled, {record['greedy']:.3f} greedy"
