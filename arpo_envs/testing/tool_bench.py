"""What every law of tools needs: sessions to call and to clone, and what the calls return in one that was never cloned."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import CloneError
from ..forking import ForkLevel
from ..tasks import Task
from ..tools import Session, Tool
from .bench import spread
from .laws import Law
from .report import Finding, SkippedLaw

Call = tuple[str, Mapping[str, Any]]
Place = tuple[int, int]
"""A seed, and how many calls were made before a clone."""

_FEW = 6
"""Calls that are repeated, so that what the first ones changed also shows after the last one."""


@dataclass(frozen=True)
class ToolBench:
    """A tool under test.

    Args:
        tool: what is checked.
        calls: made in order.
        slow: a call that takes long, if there is one.
        task: what sessions are opened for.
        seeds: seeds of the generators that `open` is given.
        timeout: seconds each call may take.
    """

    tool: Tool
    calls: tuple[Call, ...]
    slow: Call | None
    task: Task
    seeds: tuple[int, ...]
    timeout: float

    def open(self, seed: int) -> Session:
        """Returns a new session."""
        return self.tool.open(self.task, np.random.default_rng(seed))

    def run(self, session: Session, calls: Sequence[Call]) -> list[Any]:
        """Makes calls in order and returns their results."""
        return [session.call(name, dict(arguments), timeout=self.timeout) for name, arguments in calls]

    @property
    def script(self) -> tuple[Call, ...]:
        """The calls and, if there are few, all of them again."""
        return self.calls * 2 if len(self.calls) <= _FEW else self.calls

    @cached_property
    def wanted(self) -> dict[int, list[Any]]:
        """What the script returns in a session that was never cloned, by seed."""
        results = {}
        for seed in self.seeds:
            session = self.open(seed)
            results[seed] = self.run(session, self.script)
            session.close()
        return results

    def clones(self, session: Session, n: int) -> list[Session]:
        """Returns `n` clones.

        Raises:
            SkippedLaw: the tool declares that it cannot be cloned.
        """
        if self.tool.fork_level is ForkLevel.NONE:
            raise SkippedLaw("the tool declares fork_level NONE")
        children = session.clone(n)
        if len(children) != n:
            raise AssertionError(f"clone({n}) returned {len(children)} sessions")
        failed = next((child for child in children if isinstance(child, CloneError)), None)
        if failed is not None:
            raise failed
        return [child for child in children if not isinstance(child, CloneError)]

    @property
    def every_cut(self) -> Iterator[Place]:
        """Yields (seed, calls of the script made before the clone), after every call; if there are many, after some."""
        return ((seed, cut) for seed in self.seeds for cut in spread(min(len(self.calls) + 1, len(self.script))))

    @property
    def cuts(self) -> Iterator[Place]:
        """Yields (seed, calls made before the clone) for a few places."""
        return ((seed, cut) for seed in self.seeds for cut in sorted({0, 1, len(self.calls) // 2}) if cut < len(self.calls))

    def compare(self, law: Law, who: str, seen: list[Any], seed: int, hint: str, cut: int | None = None) -> Iterator[Finding]:
        """Yields a finding if calls returned something else than in a session that was never cloned.

        Args:
            law: the law that is then broken.
            who: what returned it, in words.
            seen: what the calls returned.
            seed: the session's.
            hint: the finding's.
            cut: calls made before the clone; None if nothing was cloned.
        """
        where = f"seed {seed}" if cut is None else f"seed {seed}, cloned after {cut} call(s)"
        for number, (one, other) in enumerate(zip(seen, self.wanted[seed][cut or 0 :], strict=False), start=(cut or 0) + 1):
            if one != other:
                name = self.script[number - 1][0]
                yield Finding(law, f"{who}: call {number} ({name}) returned {one}; {where}", str(other), hint)
                return
