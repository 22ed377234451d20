"""A Python interpreter as a tool: cells with a persistent namespace, which can be copied at any point.

The local backend is a fork server: a session is a confined process, and a clone of it is a fork, so that
generators, classes, arrays and whatever cannot be pickled survive. See `docs/python-environment.md`. `SPEC`, `strip_fences`
and `Output` are for interpreters elsewhere, so that a model writes and reads the same with each; `probe_isolation` says what
confines a model's code on this machine.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import CloneError, ConfigError, ToolFault, unknown_name
from ...forking import ForkLevel
from ...tasks import Task
from .. import Session
from ..spec import ToolSpec
from .budget import Budget
from .client import ForkServer, SandboxUnavailable, ServerLost
from .code import strip_fences
from .launch import ServerSettings
from .server.isolation import Report as IsolationReport
from .server.isolation import probe as probe_isolation
from .server.output import Output
from .session import PythonSession
from .sharing import close_idle_server, fork_server

__all__ = [
    "EXAMPLES",
    "SPEC",
    "IsolationReport",
    "Output",
    "PythonSession",
    "PythonTool",
    "SandboxUnavailable",
    "close_idle_server",
    "probe_isolation",
    "strip_fences",
]

EXAMPLES = (
    {"code": "seen = globals().get('seen', [])\nseen.append(len(seen))\nseen"},
    {"code": "import random\nrandom.random()"},
)
"""Cells that work in any state, each of which shows whether a copy is faithful: by a growing list, and by a random number."""

SPEC = ToolSpec(
    name="python",
    description="Runs Python code in an interpreter that keeps its variables, and returns what it prints and its last value.",
    parameters={
        "type": "object",
        "properties": {"code": {"type": "string", "description": "Python source, one or more lines"}},
        "required": ["code"],
    },
    examples=EXAMPLES,
)

LAYERS = ("auto", "full", "no-namespaces", "none")


class PythonTool:
    """The tool `python`: cells run in a confined process of their own, which can be cloned exactly.

    Args:
        timeout: seconds a cell may take before it is stopped and its state kept; None leaves it to the call.
        memory_mb: mebibytes one process may allocate.
        total_memory_mb: mebibytes that a session, all its clones and their files may take together.
        max_sessions: how many processes these may be, checkpoints included.
        disk_mb: mebibytes in a working directory.
        inodes: files and folders in a working directory.
        output_characters: characters of a cell's output; of a longer one, the beginning and end are kept.
        imports: modules that are imported beforehand. A cell sees their packages and numpy, sympy, scipy and pandas, with what
            these depend on, and no other installed ones: what generates a task's questions would reveal the answers.
        layers: "auto" for all isolation there is, "full" to insist on namespaces, with mounts per session, and on Landlock,
            "no-namespaces" to do without namespaces; "none" for no isolation at all, which needs `unsafe`.
        unsafe: run even if the minimum of isolation is missing.

    Raises:
        ConfigError: an argument is unknown or out of range. What the machine lacks is detected when a session is opened.

    >>> tool = PythonTool(timeout=5.0)
    >>> tool.specs[0].name, tool.fork_level.value
    ('python', 'exact')
    """

    fork_level = ForkLevel.EXACT

    def __init__(
        self,
        *,
        timeout: float | None = None,
        memory_mb: int = 1024,
        total_memory_mb: int = 4096,
        max_sessions: int = 1024,
        disk_mb: int = 64,
        inodes: int = 4096,
        output_characters: int = 8000,
        imports: Sequence[str] = ("numpy", "sympy"),
        layers: str = "auto",
        unsafe: bool = False,
    ) -> None:
        least = {
            "memory_mb": 128,
            "total_memory_mb": 128,
            "max_sessions": 2,
            "disk_mb": 1,
            "inodes": 16,
            "output_characters": 200,
        }
        given = {
            "memory_mb": memory_mb,
            "total_memory_mb": total_memory_mb,
            "max_sessions": max_sessions,
            "disk_mb": disk_mb,
            "inodes": inodes,
            "output_characters": output_characters,
        }
        for name, value in given.items():
            if value < least[name]:
                raise ConfigError(f"{name} must be at least {least[name]}, got {value}.")
        if timeout is not None and timeout <= 0:
            raise ConfigError(f"timeout must be above 0, got {timeout}.")
        if layers not in LAYERS:
            raise unknown_name("layers", layers, LAYERS)
        if layers == "none" and not unsafe:
            raise ConfigError("layers='none' runs a model's code unconfined: say unsafe=True as well, for code you trust.")
        self.timeout, self.max_sessions, self.total_memory_mb = timeout, max_sessions, total_memory_mb
        self.settings = ServerSettings(
            memory_mb=memory_mb,
            disk_mb=disk_mb,
            inodes=inodes,
            output_characters=output_characters,
            imports=tuple(imports),
            layers=layers,
            unsafe=unsafe,
        )
        self._server: ForkServer | None = None

    @property
    def identity(self) -> str:
        """What distinguishes this tool from another `python`: see `ToolEnv.identity`."""
        return f"local/{self.timeout}/{self.total_memory_mb}/{self.max_sessions}/{self.settings}"

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The one name `python`."""
        return (SPEC,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PythonTool":
        """Returns itself: its settings never change, and the server is shared."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the server behind: the other side starts its own."""
        return vars(self) | {"_server": None}

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        """Starts an interpreter, and the server if there is none.

        Raises:
            SandboxUnavailable: this machine cannot isolate it.
            ToolFault: it could not be started.
        """
        seed = int(rng.integers(0, 2**63))
        budget = Budget(self.max_sessions, self.total_memory_mb << 20)
        for attempt in (1, 2):
            server = self._server = fork_server(self.settings)
            try:
                return PythonSession(server, server.open(seed, budget), self.timeout)
            except ServerLost:
                if attempt == 2:
                    raise
            except CloneError as error:
                raise ToolFault(f"No interpreter could be started: {error}") from None
        raise AssertionError("unreachable")
