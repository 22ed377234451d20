"""Resuming a run: where it is, and which of its options may change."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from ..checkpoint import Checkpoint, newest_step, point
from ..durable import fingerprint, write_text
from .alone import alone
from .config import OPTIONS, TrainConfig
from .flat import is_given

_PLACES = ("cluster", "engines", "learners")
_COUNTING = ("resume", "steps", "dry_run", *_PLACES)
"""Options that count even if they are given with their default."""
_CHANGEABLE = ("policy", "model_folder", *_COUNTING)


def resumed(asked: Mapping[str, Any], words: Sequence[str], held: ExitStack) -> TrainConfig:
    """Returns the configuration of the run to continue.

    Args:
        asked: the options of the command; only `resume`, more `steps`, where the model is now (`policy`, `model_folder`) and
            where the run's parts run (`cluster`, `engines`, `learners`) have an effect.
        words: of the command line, which tell what was given that is a default.
        held: keeps other commands away from the run until it is closed.

    Raises:
        ConfigError: there is no such run, another command is at work on it, or other options were given, which would have no
            effect.
    """
    given = {name for name, option in OPTIONS.items() if asked[name] != option.default}
    _require_effect(given.difference(_CHANGEABLE), words)
    run = run_of(asked["resume"])
    if not asked["dry_run"]:  # which changes nothing
        held.enter_context(alone(run))
    config = TrainConfig.load(run)
    usual = {name for name in OPTIONS if is_given(words, name)}.difference(given, _COUNTING)
    _require_effect({name for name in usual if not OPTIONS[name].has(config, asked[name])}, words)
    moved = {name: asked[name] for name in ("policy", "model_folder") if name in given}
    placed = {name: asked[name] for name in _PLACES if is_given(words, name)}
    if placed.get("cluster") == "none":
        placed = {"engines": None, "learners": 1} | placed
    changed = replace(config, **moved, placement=replace(config.placement, **placed), dry_run=asked["dry_run"])
    if is_given(words, "steps"):
        changed = _extended(changed, asked["steps"])
    if changed != config and not asked["dry_run"]:
        if changed.steps != config.steps:  # first: these were measured at the end of the shorter run
            for file in ("after.json", "summary.json"):
                (run / file).unlink(missing_ok=True)
        changed.save(run)
    return changed


def _require_effect(idle: Collection[str], words: Sequence[str]) -> None:
    """Refuses options that a resumed run would not heed."""
    if idle:
        named = [name for name in OPTIONS if name in idle or (name == "steps" and is_given(words, name))]
        names = ", ".join("--" + name.replace("_", "-") for name in named)
        raise ConfigError(
            f"{names} would have no effect with --resume: a resumed run keeps its own configuration. To extend it, give a "
            "larger --steps; besides, only where it runs may change (--cluster, --engines, --learners)."
        )


def _extended(config: TrainConfig, steps: int) -> TrainConfig:
    """Returns a run's configuration with more steps.

    Raises:
        ConfigError: they are not more, or the learning rate was to reach its end with the old ones.
    """
    assert config.output is not None
    assert config.learner is not None
    done = newest_step(config.output)
    if steps <= done:
        raise ConfigError(f"The run already has {done} steps: to extend it, give more than that, not --steps {steps}.")
    if steps == config.steps:
        return config
    if config.learner.schedule.decay != "constant":
        raise ConfigError(
            f"The learning rate of this run decays until step {config.steps}; in a run of {steps} it would have been "
            f"different all along. Start a new run from its policy: --policy {config.output} --steps {max(1, steps - done)}."
        )
    return replace(config, steps=steps)


def run_of(path: Path) -> Path:
    """Returns the folder of the run that a path belongs to: itself, or one above it.

    Raises:
        ConfigError: it does not belong to a run.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not belong to a run: there is no such file or folder.")
    for folder in (path, *path.absolute().parents, *path.resolve().parents):
        if TrainConfig.is_in(folder):
            return folder
    raise ConfigError(
        f"{path} does not belong to a run: there is no config.json of `arpo train` in it or above it. Give the folder that "
        "was the run's --output."
    )


def start_of(config: TrainConfig, run: Path, done: Checkpoint | None, usual: Callable[[], Path]) -> Path:
    """Returns the folder of the policy that a run starts from, or that of its newest checkpoint if the first one is gone.

    This one is returned as the link `run/policy`, which stays: checkpoints are dropped in time, and an engine that is lost then
    is made anew from this folder. A run with adapters always needs the first one: adapters belong to the model they were made
    for.

    Args:
        config: of the run.
        run: its folder.
        done: its newest checkpoint.
        usual: returns the folder; raises a `ConfigError` if it is gone.

    Raises:
        ConfigError: it is gone or has changed, and is needed.
    """
    try:
        start = usual()
        _require_known(start, run / "start.json")
    except ConfigError as error:
        if config.resume is None:
            raise
        if done is not None and config.learner is not None and config.learner.lora is None:
            if not (run / "policy").is_dir():  # the run was killed before it pointed there
                point(run / "policy", done.policy)
            return run / "policy"
        raise ConfigError(
            f"{error} The run needs the model it began with. If it was moved, say where it is now: "
            f"arpo train --resume {run} --policy FOLDER"
        ) from error
    return start


def _require_known(start: Path, file: Path) -> None:
    """Records a model by its files, or compares it with the recorded one.

    Raises:
        ConfigError: it is another model.
    """
    found = fingerprint(start)
    if not file.is_file():
        write_text(file, json.dumps(found))
    elif json.loads(file.read_text(encoding="utf-8")) != found:
        raise ConfigError(f"{start} is not the model that the run began with.")
