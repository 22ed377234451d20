"""`arpo sft`: a policy learns from demonstrations, as a cold start before `arpo train`; resumable at every checkpoint."""

import json
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from arpo_envs import ConfigError

from .. import seeds
from ..checkpoint import Checkpoint, Unsaved, latest, no_room, save
from ..durable import fingerprint, sync, write_text
from ..learner import SupervisedLearner, require_peft
from ..models.built_in import MARK
from ..models.demonstrations.lesson import Lesson, load_lessons, save_lessons, tree_of
from ..models.devices import find_device
from ..models.loading import load_policy
from ..tracking import JsonlTracker, keep_steps_before
from .alone import alone
from .ends import end_ids, keep_ends
from .flat import is_given, parsed
from .outputs import require_folder
from .policy_source import policy_folder
from .progress import Progress
from .results import write_json
from .sft_config import FILE, GROUPS, OPTIONS, SftConfig
from .shown import lessons_for, split
from .signals import Signals

LESSONS = "demonstrations.npz"
_METRICS, _START = "metrics.jsonl", "start.json"


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo sft`."""
    given = parsed(arguments, OPTIONS, GROUPS, prog="arpo sft", description="Train a policy on demonstrations.")
    with ExitStack() as held:
        config = SftConfig.of(given).resolved() if given["resume"] is None else _resumed(given, arguments, held)
        return _obey(config, held)


def _obey(config: SftConfig, held: ExitStack) -> int:
    """Trains, and returns the exit status."""
    run, console = config.output, Console()
    assert run is not None, "a resolved configuration has an output"
    require_folder(run)
    try:
        with Signals():
            return sft(config, run, console, held)
    except KeyboardInterrupt as error:
        if not (run / FILE).is_file():
            raise
        console.print(f"Interrupted. Continue with: [bold]arpo sft --resume {run}[/]", highlight=False)
        return 128 + getattr(error, "number", signal.SIGINT)
    except Exception as error:
        reason = no_room(error)
        if reason is None or isinstance(error, Unsaved):
            raise
        raise Unsaved(f"{reason} ({error}). Make room, then continue with: arpo sft --resume {run}") from error


def sft(config: SftConfig, run: Path, console: Console, held: ExitStack) -> int:
    """Trains, and returns the exit status 0.

    Args:
        config: resolved.
        run: its folder.
        console: where to report.
        held: keeps other commands away from a new run until it is closed.
    """
    torch.set_num_threads(config.threads or torch.get_num_threads())
    with Progress(console) as progress:
        done = None
        if config.resume is not None:
            done = latest(run, lambda line: progress.note(f"[yellow]{escape(line)}[/]"))
        start = _start(config, run, done)
        lessons = load_lessons(run / LESSONS) if config.resume is not None else _begin(config, run, start, progress, held)
        learned, held_out = split(lessons, config.held_out, config.seed)
        progress.note(f"{len(learned)} demonstrations to learn from, {len(held_out)} held out")
        learner, tokenizer = _learner(config, start, done)
        measured = _measured(run, learner, held_out, config.batch, "before")
        _steps(config, run, start, learner, tokenizer, learned, done, progress)
        measured |= _measured(run, learner, held_out, config.batch, "after")
        write_json(run / "summary.json", {"learned": len(learned), "held_out": len(held_out), **measured})
    before, after = (measured.get(f"held_out_nats_{when}") for when in ("before", "after"))
    if before is not None and after is not None:
        console.print(f"Held-out demonstrations: {before:.3f} nats per token before, {after:.3f} after.", highlight=False)
    console.print(f"Written to {run}. Go on with: [bold]arpo train --policy {run}[/]", highlight=False, soft_wrap=True)
    return 0


def _resumed(asked: dict[str, Any], words: Sequence[str], held: ExitStack) -> SftConfig:
    """Returns the configuration of the run to continue, from which `held` then keeps other commands away.

    Raises:
        ConfigError: there is no such run, another command is at work on it, or other options were given, which would have no
            effect.
    """
    given = [name for name in OPTIONS if name != "resume" and is_given(words, name)]
    _require_effect([name for name in given if asked[name] != OPTIONS[name].default])
    config = SftConfig.load(asked["resume"])
    _require_effect([name for name in given if not OPTIONS[name].has(config, asked[name])])
    held.enter_context(alone(asked["resume"]))
    return config


def _require_effect(idle: Sequence[str]) -> None:
    """Refuses options that a resumed run would not heed."""
    if idle:
        names = ", ".join("--" + name.replace("_", "-") for name in idle)
        raise ConfigError(f"{names} would have no effect with --resume: a resumed run keeps its own configuration.")


def _begin(config: SftConfig, run: Path, start: Path, progress: Progress, held: ExitStack) -> list[Lesson]:
    """Makes the folder of a run, with its configuration and its demonstrations.

    Raises:
        ConfigError: there is something in it already, or there are no demonstrations.
    """
    _require_empty(run)
    if config.learner.lora is not None:
        require_peft()
    find_device(config.device)
    lessons = lessons_for(
        config,
        start,
        lambda count, of: progress.phase("episodes of the expert", count, of, None),
        lambda line: progress.note(f"[yellow]{escape(line)}[/]"),
    )
    run.mkdir(parents=True, exist_ok=True)
    held.enter_context(alone(run))
    _require_empty(run)
    save_lessons(run / LESSONS, lessons)
    write_text(run / _START, json.dumps(fingerprint(start)))
    config.save(run)  # last: it says that the rest is there
    return lessons


def _require_empty(run: Path) -> None:
    """Refuses to begin a run where something is."""
    if run.exists() and any(run.iterdir()):
        raise ConfigError(f"{run} is not empty. Continue with `arpo sft --resume {run}`, or choose another --output.")


def _start(config: SftConfig, run: Path, done: Checkpoint | None) -> Path:
    """Returns the folder of the model that the run begins with, or continues with; adapters need the first one.

    Raises:
        ConfigError: it is gone, or has changed since the run began.
    """
    if done is not None and config.learner.lora is None:
        return done.policy
    assert config.policy is not None, "a resolved configuration names a policy"
    start = policy_folder(config.policy)
    known = run / _START
    if config.resume is not None and known.is_file() and json.loads(known.read_text(encoding="utf-8")) != fingerprint(start):
        raise ConfigError(f"{start} is not the model that the run began with.")
    return start


def _learner(config: SftConfig, start: Path, done: Checkpoint | None) -> tuple[SupervisedLearner, Any]:
    """Returns the learner as far as it has come, and the tokenizer."""
    model, tokenizer = load_policy(start)
    keep_ends(model, end_ids(start, tokenizer))
    learner = SupervisedLearner(model, config.learner, device=find_device(config.device))
    if done is not None:
        learner.load(done.learner)
    return learner, tokenizer


def _steps(
    config: SftConfig,
    run: Path,
    start: Path,
    learner: SupervisedLearner,
    tokenizer: Any,
    learned: Sequence[Lesson],
    done: Checkpoint | None,
    progress: Progress,
) -> None:
    """Takes the steps that are left."""
    first = done.step if done is not None else 0
    tracker = JsonlTracker(run / _METRICS)
    keep_steps_before(tracker.path, first)
    for step in range(first, config.steps):
        found = learner.learn([tree_of([learned[i] for i in chosen(step, config.batch, len(learned), config.seed)])])
        tracker.log(step, found)
        progress.phase("demonstrations", step + 1, config.steps, found["accuracy"])
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            sync(tracker.path)
            weights = learner.weights() if config.learner.lora is not None else None
            whole = run / "policy" if (run / "policy").exists() else start  # an older checkpoint may be gone by now
            kept: dict[str, Any] = {"weights": weights, "beside": [whole / MARK], "command": "arpo sft"}
            save(run, step + 1, learner.model, tokenizer, learner, {}, **kept)


def chosen(step: int, batch: int, count: int, seed: int) -> list[int]:
    """Returns which demonstrations a step learns from: all of them in random order, then all in another order, and so on.

    >>> sorted(chosen(0, 2, 4, 7) + chosen(1, 2, 4, 7))
    [0, 1, 2, 3]
    """
    places = range(step * batch, (step + 1) * batch)
    orders = {epoch: seeds.generator(seed, "order", epoch).permutation(count) for epoch in {place // count for place in places}}
    return [int(orders[place // count][place % count]) for place in places]


def _measured(run: Path, learner: SupervisedLearner, held_out: Sequence[Lesson], batch: int, when: str) -> dict[str, float]:
    """Returns the surprise at held-out demonstrations, measured once per run; nothing if none are held out."""
    if not held_out:
        return {}
    file = run / f"{when}.json"
    if file.is_file():
        return {f"held_out_nats_{when}": float(json.loads(file.read_text(encoding="utf-8"))["nats"])}
    nats = learner.surprise([tree_of(held_out[at : at + batch]) for at in range(0, len(held_out), batch)])
    write_json(file, {"nats": nats})
    return {f"held_out_nats_{when}": nats}
