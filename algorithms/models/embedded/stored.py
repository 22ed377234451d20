"""The start that comes with this package: the embedded policy after a cold start in the default environment.

It saves a run in the default environment the minutes of its cold start. Any other environment is recognised by its lessons,
and needs a cold start of its own.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from ...rollout import MakeEnv
from ..demonstrations.expert import Demonstration, demonstrations, demonstrator
from .cold_start import ColdStartConfig, Report, build

FOLDER = Path(__file__).with_name("start")
_LESSONS = 50
"""How many episodes of each kind are compared to tell environments apart."""


def stored(make_env: MakeEnv, size: ColdStartConfig, *, report: Report, folder: Path = FOLDER) -> tuple[Any, Any] | None:
    """Returns the stored start as (model, tokenizer), or None if a cold start here would not lead to it.

    Args:
        make_env: training environments, whose tasks are `Demonstrable`.
        size: see `ColdStartConfig`.
        report: called with the progress.
        folder: where the start is stored.

    Raises:
        ConfigError: its weights are damaged.
    """
    record = json.loads((folder / "start.json").read_text(encoding="utf-8"))
    if record["size"] != asdict(size) or record["lessons"] != _lessons_digest(make_env):
        return None
    model, tokenizer = build(make_env, size, seed=record["seed"], report=report)
    if record["vocabulary"] != _vocabulary_digest(tokenizer):  # another version of a library may number words differently
        return None
    model.load_state_dict(_weights(folder / "start.safetensors", record["weights"]))
    return model, tokenizer


def store(make_env: MakeEnv, size: ColdStartConfig, model: Any, tokenizer: Any, *, seed: int, folder: Path = FOLDER) -> None:
    """Writes a start: the weights in half precision, and a record of what they belong to.

    Args:
        make_env: as given to the cold start.
        size: as given to the cold start.
        model: after the cold start.
        tokenizer: of the model.
        seed: as given to the cold start.
        folder: where to write.
    """
    from safetensors.torch import save

    packed = save({name: weight.half().contiguous() for name, weight in model.state_dict().items()})
    record = {
        "seed": seed,
        "size": asdict(size),
        "lessons": _lessons_digest(make_env),
        "vocabulary": _vocabulary_digest(tokenizer),
        "weights": hashlib.sha256(packed).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "start.safetensors").write_bytes(packed)
    (folder / "start.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _weights(file: Path, digest: str) -> Mapping[str, Any]:
    from safetensors.torch import load

    packed = file.read_bytes()
    if hashlib.sha256(packed).hexdigest() != digest:
        raise ConfigError(f"{file} is damaged. Install the package again, or make a new start with --cold-start fresh.")
    return {name: weight.float() for name, weight in load(packed).items()}


def _lessons_digest(make_env: MakeEnv) -> str:
    """Returns a digest of an environment's lessons, which depends on its names, tasks, tools, wording and habits."""
    env = make_env()
    names = list(demonstrator(env).lexicon())
    env.close()
    shown = [demonstrations(make_env, _LESSONS, seed=0, perfect=perfect) for perfect in (True, False)]
    return _digest([names, [_text(one) for some in shown for one in some]])


def _text(shown: Demonstration) -> Mapping[str, Any]:
    """Returns what the embedded policy reads and writes."""
    return {"instructions": shown.instructions, "question": shown.question, "turns": shown.turns}


def _vocabulary_digest(tokenizer: Any) -> str:
    return _digest(sorted(tokenizer.get_vocab().items()))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
