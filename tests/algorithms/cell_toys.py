"""Players of Python cells in sandboxes, which are killed at a certain cell, or the worker around them."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_toys import lives
from disaster_toys import descendants, happened, wait_for
from rollout_toys import results

from algorithms.cluster import Equipment
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from arpo_envs.envs.python import PythonEnv


class Played:
    """Makes the equipment of a worker that plays cells, each of which needs the state that the ones before have left."""

    def __call__(self) -> Equipment:
        return Equipment(ScriptedPolicy(self.script), ScriptedRenderer())

    @staticmethod
    def script(before: str, seed: int) -> str:
        if results(before) == 3:
            return f"<answer>{seed % 7}</answer>"
        return f"<python>x = globals().get('x', 1) * 31 + {seed % 97}; x</python>"


@dataclass(frozen=True)
class Cells:
    """Makes environments with a sandbox; before a certain cell that needs an earlier one, something happens.

    Args:
        folder: as in `Struck`; None if nothing shall happen.
        at: number of the cell, counted over all processes; first cells of episodes do not count, as they have nothing to lose.
        what: "server" or "child" (of the sandbox), "worker", or "server and other worker" is killed. The other worker kills
            itself in its next such cell: by the time a busy machine killed it from here, it might have no work left.
        killer: seed of an episode whose every cell kills the server; None for none.
    """

    folder: Path | None = None
    at: int = 0
    what: str = ""
    killer: int | None = None

    def __call__(self) -> "_Cells":
        return _Cells(self)

    def strike(self, server: int) -> None:
        if self.folder is None:
            return
        own = b"%8d" % os.getpid()
        number = happened(self.folder / "journal", own)
        if number == self.at:
            (self.folder / "struck").touch()
            below = descendants(server)
            victim = {"worker": os.getpid(), "child": min(below)}.get(self.what, server)
            os.kill(victim, signal.SIGKILL)
            doomed = {victim} if self.what == "child" else {victim, *below}
            wait_for(lambda: not any(map(lives, doomed)))  # until then, one may still run the cell, which may be the last
        elif "other" in self.what and number > self.at:
            journal = (self.folder / "journal").read_bytes()
            struck, *after = [journal[start : start + 8] for start in range(8 * (self.at - 1), 8 * number, 8)]
            if own != struck and all(pid == struck for pid in after[:-1]):
                os.kill(os.getpid(), signal.SIGKILL)


class _Cells(PythonEnv):
    def __init__(self, cells: Cells) -> None:
        super().__init__(interpreter={"imports": ()})
        self.cells = cells
        self.kills = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.kills = seed is not None and seed == self.cells.killer
        return super().reset(seed=seed, options=options)

    def step(self, action: str) -> Any:
        if "<python>" in action:
            server = self.tools[0]._server._program.pid  # type: ignore[attr-defined]
            if self.kills:
                os.kill(server, signal.SIGKILL)
            elif self._tool_calls:
                self.cells.strike(server)
        return super().step(action)
