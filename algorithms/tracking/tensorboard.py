"""TensorBoard, whose files are written by tensorboardX; imported only when a run asks for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from .tracker import Rows


def require_tensorboard() -> Any:
    """Returns tensorboardX.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import tensorboardX
    except ImportError as error:
        wanted = "tensorboardX is not installed: pip install 'arpo-envs[tensorboard]', or drop --track tensorboard."
        raise ConfigError(wanted) from error
    return tensorboardX


class TensorboardTracker:
    """TensorBoard: metrics and held-out results as scalars, tables as text.

    Args:
        directory: where its event files go; a resumed run adds one.
        first: the step with which the run begins or goes on; what an interrupted run wrote from there on is hidden.

    Raises:
        ConfigError: tensorboardX is not installed.
    """

    def __init__(self, directory: Path, first: int = 0) -> None:
        self._writer = require_tensorboard().SummaryWriter(str(directory), purge_step=first or None)
        self._step = first

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes a scalar for each metric."""
        self._step = step
        for name, value in metrics.items():
            self._scalar(name, value)
        self._writer.flush()

    def summary(self, values: Mapping[str, Any]) -> None:
        """Writes a scalar for each number; an interval gives two, NAME_low and NAME_high."""
        for name, value in values.items():
            if isinstance(value, list | tuple):
                for end, number in zip(("_low", "_high"), value, strict=True):
                    self._scalar(f"{name.removesuffix('_interval')}{end}", number)
            else:
                self._scalar(name, value)
        self._writer.flush()

    def table(self, name: str, rows: Rows) -> None:
        """Writes a table as Markdown."""
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines = [columns, ["---"] * len(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
        self._writer.add_text(name, "\n".join("| " + " | ".join(cells) + " |" for cells in lines), self._step)
        self._writer.flush()

    def close(self) -> None:
        """Closes its file."""
        self._writer.close()

    def _scalar(self, name: str, number: float | None) -> None:
        """Writes a number; an infinity is None once a resumed run has read it from a file."""
        if number is not None:
            self._writer.add_scalar(name, number, self._step)


def _cell(value: object) -> str:
    r"""Returns a value for a cell of a table; what a model writes can neither end it nor be a tag.

    >>> _cell("a | b\nc <d>")
    'a &#124; b<br>c &lt;d>'
    """
    if value is None:
        return ""
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return "<br>".join(text.splitlines())
