"""Time in the tests of E2B, without a clock: what requests are granted, and who sleeps how long."""

from dataclasses import dataclass, field

import pytest

from arpo_envs.tools import e2b


@dataclass
class Clock:
    """A clock that only sleeping moves; stands for the module `time`.

    Args:
        now: seconds since the test began.
        slept: every sleep's length.
    """

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def frozen(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Returns the clock that our calls and the SDK's repetitions use from now on."""
    retry = pytest.importorskip("e2b.retry")
    connecting = pytest.importorskip("pyqwest.middleware.retry._sync")
    clock = Clock()
    for module in (e2b.calls, e2b.session, connecting):
        monkeypatch.setattr(module, "time", clock)
    for name in ("sleep", "monotonic"):
        monkeypatch.setitem(retry.RetryableTransport.__init__.__kwdefaults__, name, getattr(clock, name))
    return clock


def granted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns a list that grows with every request by the seconds after which the transport gives it up."""
    transport = pytest.importorskip("pyqwest.httpx._transport")
    seconds: list[float] = []
    limit = transport.set_sync_timeout

    def limited(timeout: float) -> object:
        seconds.append(timeout)
        return limit(timeout)

    monkeypatch.setattr(transport, "set_sync_timeout", limited)
    return seconds
