"""The best policy of a run, kept beside its checkpoints."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..durable import sync_all
from .writing import copy, point, replace, save_policy, written

BEST = "best"
"""The best policy of a run, in its folder."""
_SCORE = "best.json"


@dataclass(frozen=True)
class Best:
    """The policy of a run that did best in an evaluation.

    Args:
        step: steps that it has taken.
        success: that it reached.
    """

    step: int
    success: float


def save_best(
    run: Path,
    found: Best,
    model: Any,
    tokenizer: Any,
    *,
    weights: Mapping[str, Any] | None = None,
    beside: Sequence[Path] = (),
) -> None:
    """Writes a policy atomically and to the disk itself, points `run/best` at it and drops the one before.

    Args:
        run: folder of the run.
        found: how far it is and how well it did, written as best.json beside the model.
        model: see `save`, as for the rest.
        tokenizer: has `save_pretrained`.
        weights: the model's, where they differ from its state dict.
        beside: files to copy into the folder, where they exist.

    Raises:
        Unsaved: there is no room, or no permission.
    """
    final = run / "checkpoints" / f"best-{found.step:06d}"
    with written(run, f"the best policy, that of step {found.step},", "arpo train") as temporary:
        save_policy(temporary, model, tokenizer, weights)
        copy(beside, temporary)
        (temporary / _SCORE).write_text(json.dumps(asdict(found)), encoding="utf-8")
        sync_all(temporary)
        replace(temporary, final)
        point(run / BEST, final)
    for old in final.parent.glob("best-*"):
        if old != final:
            shutil.rmtree(old)


def best(run: Path) -> Best | None:
    """Returns what `save_best` wrote last, or None if there is nothing, or it is damaged."""
    try:
        return Best(**json.loads((run / BEST / _SCORE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
