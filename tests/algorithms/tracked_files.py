"""What trackers write, read back: the files of wandb and TensorBoard, with their own libraries' messages."""

import json
import math
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32_768


def wandb_records(file: Path) -> Iterator[Any]:
    """Yields the records of an offline run, which lie in a log of LevelDB's format after seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = file.read_bytes()
    assert data.startswith(b":W&B")
    at, whole = 7, b""
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


class WandbRun:
    """An offline run: its configuration, history by step, summary, tables and files.

    Args:
        folder: that wandb wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.history: dict[int, dict[str, Any]] = defaultdict(dict)
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.files: set[str] = set()
        self.id = ""
        self._folder = folder
        (file,) = folder.glob("run-*.wandb")
        for record in wandb_records(file):
            self._take(record)

    def _take(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = {_name(item): _value(item.value_json) for item in record.history.item}
            self.history[int(row.get("_step", record.history.step.num))] |= row
        elif kind == "summary":
            self.summary |= {_name(item): _value(item.value_json) for item in record.summary.update}
        elif kind == "run":
            self.id = record.run.run_id
            self.config |= {_name(item): _value(item.value_json) for item in record.run.config.update}
        elif kind == "files":
            self.files |= {file.path for file in record.files.files}

    def table(self, step: int, name: str) -> list[dict[str, Any]]:
        """Returns the rows of a table."""
        table = json.loads((self._folder / "files" / self.history[step][f"{name}.path"]).read_text(encoding="utf-8"))
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _value(text: str) -> Any:
    return json.loads(text)


def events(folder: Path) -> Iterator[Any]:
    """Yields what is in TensorBoard's event files: each event lies between its length and two checksums."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.glob("events.out.tfevents.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = Event()
            event.ParseFromString(data[at + 12 : at + 12 + length])
            yield event
            at += 16 + length


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Returns the scalars in TensorBoard's event files, by name and step; texts have the value NaN."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for event in events(folder):
        for value in event.summary.value:
            found[value.tag][event.step] = value.simple_value if value.HasField("simple_value") else math.nan
    return found
