"""Resuming a run: where it is, and which of its options may change."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from ..checkpoint import Checkpoint, newest_step
from ..durable import fingerprint, write_text
from .config import OPTIONS, TrainConfig

_CHANGEABLE = ("resume", "steps", "policy", "model_folder", "dry_run")


def resumed(asked: Mapping[str, Any], words: Sequence[str]) -> TrainConfig:
    """Returns the configuration of the run to continue.

    Args:
        asked: the options of the command; only `resume`, more `steps`, and where the model is now (`policy`, `model_folder`)
            have an effect.
        words: of the command line, which tell whether --steps was given.

    Raises:
        ConfigError: there is no such run, or other options were given, which would have no effect.
    """
    given = {name for name, option in OPTIONS.items() if asked[name] != option.default}
    if idle := given.difference(_CHANGEABLE):
        named = [name for name in OPTIONS if name in idle or (name == "steps" and _has_steps(words))]
        names = ", ".join("--" + name.replace("_", "-") for name in named)
        raise ConfigError(
            f"{names} would have no effect with --resume: a resumed run keeps its own configuration. To extend it, give a "
            "larger --steps and nothing else."
        )
    run = run_of(asked["resume"])
    config = TrainConfig.load(run)
    moved = {name: asked[name] for name in ("policy", "model_folder") if name in given}
    changed = replace(config, **moved, dry_run=asked["dry_run"])
    if _has_steps(words):
        changed = _extended(changed, asked["steps"])
    if changed != config and not asked["dry_run"]:
        if changed.steps != config.steps:  # first: these were measured at the end of the shorter run
            for file in ("after.json", "summary.json"):
                (run / file).unlink(missing_ok=True)
        changed.save(run)
    return changed


def _has_steps(words: Sequence[str]) -> bool:
    return any(word.partition("=")[0] == "--steps" for word in words)


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

    A run with adapters always needs the first one: adapters belong to the model they were made for.

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
            return done.policy
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
