"""What makes the models of this package by name: `embedded` and `smollm2`.

A maker is called with what it asks for of `named.TOLD` and returns a folder. One that asks for `folder` makes a model for one
run, there; any other finds its model where it is.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..rollout import MakeEnv
    from .embedded.cold_start import Report

MARK = "embedded.json"
"""File in a model's folder that says how to render for an embedded policy."""


class Embedded:
    """Makes the embedded policy: a small model that is built for the run and cold-started."""

    def __call__(
        self,
        *,
        folder: Path,
        make_env: "MakeEnv",
        seed: int,
        device: str,
        report: "Report",
        rehearsal: bool = False,
        cold_start: Literal["auto", "fresh"] = "auto",
    ) -> Path:
        """Returns the model's folder, whose file `MARK` says that it is whole.

        Args:
            folder: where the model goes.
            make_env: makes the training environment.
            seed: of weights and lessons.
            device: cpu or cuda.
            report: is told how far the lessons have come.
            rehearsal: whether the model is only to be looked at, and learns nothing.
            cold_start: "auto" takes the stored start where it fits, see `embedded.stored`.
        """
        from ..checkpoint import save_policy
        from ..durable import sync_all, write_text
        from ..rendering.text import TextRenderer
        from .devices import find_device
        from .embedded.cold_start import ColdStartConfig, build
        from .embedded.cold_start import cold_start as teach
        from .embedded.stored import stored

        size = ColdStartConfig()
        start = stored(make_env, size, report=report) if cold_start == "auto" else None
        model, tokenizer = start or build(make_env, size, seed=seed, report=report)
        if start is None and not rehearsal:
            renderer = TextRenderer(tokenizer, with_instructions=False)
            lessons = (make_env, model, tokenizer, renderer, size)
            teach(*lessons, seed=seed, report=report, device=find_device(device))
        save_policy(folder, model, tokenizer)
        sync_all(folder)
        write_text(folder / MARK, json.dumps({"with_instructions": False}))  # last: it says the folder is whole
        return folder

    def require(self, make_env: "MakeEnv") -> None:
        """Finds out whether the environment has lessons for it.

        Raises:
            ConfigError: it has none.
        """
        from .demonstrations.expert import demonstrator

        env: Any = make_env()
        demonstrator(env)
        env.close()


embedded = Embedded()


def smollm2(*, say: Callable[[str], None]) -> Path:
    """Returns the folder of SmolLM2; see `smollm2_folder`.

    Args:
        say: is told whose the model is before it is converted.
    """
    from .smollm2 import smollm2_folder

    return smollm2_folder(say)
