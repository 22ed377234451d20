"""One fork server for all who need an equal one, as long as both they and this process live."""

import os
import threading
import weakref

from .client import ForkServer
from .launch import ServerSettings


class _Servers:
    """The servers of this process: one for equal settings, as long as it is used, and the last one even longer.

    Starting one takes seconds, and one episode's end is often followed by the next one's beginning.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: ForkServer | None = None
        self._known: weakref.WeakValueDictionary[tuple[int, ServerSettings], ForkServer] = weakref.WeakValueDictionary()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it
        self._last = None

    def get(self, settings: ServerSettings) -> ForkServer:
        """Returns a live server, started if necessary."""
        with self._lock:
            key = (os.getpid(), settings)
            server = self._known.get(key)
            if server is None or not server.usable:
                server = self._known[key] = ForkServer(settings)
            self._last = server
            return server

    def close_idle(self) -> None:
        """Ends the last one if it is not in use."""
        with self._lock:
            self._last = None


_servers = _Servers()


def fork_server(settings: ServerSettings) -> ForkServer:
    """Returns this process's server for these settings; the last one stays when nothing refers to it any more.

    Raises:
        SandboxUnavailable: the machine cannot give what the settings ask for.
    """
    return _servers.get(settings)


def close_idle_server() -> None:
    """Ends the server that was kept for the next episode, if no session uses it; the next episode starts another."""
    _servers.close_idle()
