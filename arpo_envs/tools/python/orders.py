"""Orders to a session's process, and its replies; nothing a session says is trusted."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import ToolFault
from .process import Process
from .server.frames import Channel, ChannelError, Closed, Overdue

OBEYING = 5.0
"""Seconds within which a session must obey an order that is not a cell, or its copy say hello: a machine may be very busy."""
WORKING = 1.0
"""Seconds of processor time that it may use for that; a thousandth of this is usual."""
WATCHING = 0.2
"""Seconds between two checks on a session that is watched while it runs."""


class SessionLost(ToolFault):
    """A session's process has died, or did what an obedient one never does.

    Args:
        reason: what happened.
        overdue: it may still be busy.
    """

    def __init__(self, reason: str, *, overdue: bool = False) -> None:
        super().__init__(reason)
        self.overdue = overdue


def ask(
    process: Process,
    order: dict[str, Any],
    seconds: float,
    files: Sequence[int] = (),
    watch: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Returns a session's reply to an order; before and after that, the session is stopped.

    Args:
        process: the session.
        order: what it should do.
        seconds: how long it may take.
        files: descriptors sent with the order.
        watch: called a few times a second until the reply arrives; its exceptions propagate.

    Raises:
        SessionLost: there is no reply in time, or an impossible one.
    """
    deadline = time.monotonic() + seconds
    nonce = os.urandom(8).hex()
    try:
        if process.channel.waiting():
            raise SessionLost("it spoke without being asked")
        process.go_on()
        process.channel.send(order | {"place": process.place, "nonce": nonce}, files, deadline=deadline)
        process.place = None
        reply = _receive(process.channel, deadline, watch)
        if reply.get("nonce") != nonce or process.channel.waiting():
            raise SessionLost("its answer was forged")
    except ChannelError as error:
        reason = "it crashed or ended itself" if isinstance(error, Closed) else str(error)
        raise SessionLost(reason, overdue=isinstance(error, Overdue)) from None
    finally:
        process.rest()
    return reply


def order(process: Process, what: dict[str, Any], files: Sequence[int] = (), *, more: float = 0.0) -> dict[str, Any]:
    """Returns a session's reply to an order that is not a cell; a session that works on its own instead is lost.

    Args:
        process: the session.
        what: what it should do.
        files: descriptors sent with the order.
        more: seconds allowed beyond the usual ones.

    Raises:
        SessionLost: there is no reply in time, or an impossible one.
    """
    most = process.processor_time() + WORKING + more

    def watch() -> None:
        if process.processor_time() > most:
            raise SessionLost("it worked on its own instead of obeying")

    return ask(process, what, OBEYING + more, files, watch)


def _receive(channel: Channel, deadline: float, watch: Callable[[], None] | None) -> dict[str, Any]:
    while watch is not None and time.monotonic() + WATCHING < deadline:
        try:
            return channel.receive(deadline=time.monotonic() + WATCHING)
        except Overdue:
            watch()
    return channel.receive(deadline=deadline)
