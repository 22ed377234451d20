"""Results for machines: one flat JSON object in one file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..metrics import as_json

Value = str | int | float | bool | None


def write_json(file: Path, record: Mapping[str, Value]) -> None:
    """Writes a flat record whole or not at all, and makes the folder it belongs in.

    Args:
        file: where to; replaced if it is there.
        record: names and plain values; what is no number becomes null.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(json.dumps(as_json(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, file)
