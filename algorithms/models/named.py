"""Models by name: those of this package and those of others."""

import inspect
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError, Registry

from ..options import REQUIRE

MODELS = Registry("model", "arpo.models", {name: f"{__package__}.built_in:{name}" for name in ("embedded", "smollm2")})
"""Those of this package, and what installed packages offer under the entry points `arpo.models`."""

TOLD = ("folder", "make_env", "seed", "device", "report", "rehearsal", "cold_start", "say")
"""What a run tells the maker of a model, as far as it asks for it; see `built_in.Embedded`."""


def is_made(name: str) -> bool:
    """Whether a model is made for each run, instead of being found."""
    return MODELS.knows(name) and "folder" in inspect.signature(MODELS.find(name)).parameters


def make_model(name: str, **told: Any) -> Path:
    """Returns the folder of a model.

    Args:
        name: one of `MODELS`.
        told: by the run, see `TOLD`.

    Raises:
        ConfigError: there is no such model, or it cannot be made.
    """
    maker = MODELS.find(name)
    folder = maker(**{one: told[one] for one in inspect.signature(maker).parameters if one in told})
    if not isinstance(folder, Path):
        raise ConfigError(f"The model {name} returned {folder!r}; expected the path of its folder.")
    return folder


def require_model(name: str, make_env: Any) -> None:
    """Has the maker of a model find out, before the long work, what would stop it, if it can.

    Args:
        name: one of `MODELS`.
        make_env: makes the training environment.

    Raises:
        ConfigError: something would.
    """
    require = REQUIRE.of(MODELS.find(name))
    if require is not None:
        require(make_env)
