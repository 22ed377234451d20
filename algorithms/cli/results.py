"""Results for machines: one flat JSON object per file."""

import json
from collections.abc import Mapping
from pathlib import Path

from ..durable import write_text
from ..metrics import as_json

Value = str | int | float | bool | None


def write_json(file: Path, record: Mapping[str, Value]) -> None:
    """Writes a flat record whole or not at all, and makes the folder it belongs in.

    Args:
        file: where to write; replaced if it exists.
        record: names and plain values; NaN and infinity become null.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(as_json(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
