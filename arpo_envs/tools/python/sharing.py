"""One fork server for all who want an equal one, as long as this process lives and they do."""

import os
import threading
import weakref

from .client import ForkServer
from .launch import ServerSettings


class _Servers:
    """The servers of this process: one for equal settings, as long as anybody uses it, and the last one even longer.

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
        """Returns a server that lives, started if need be."""
        with self._lock:
            key = (os.getpid(), settings)
            server = self._known.get(key)
            if server is None or not server.usable:
                server = self._known[key] = ForkServer(settings)
            self._last = server
            return server

    def close_idle(self) -> None:
        """Ends the last one, if nobody uses it."""
        with self._lock:
            self._last = None


_servers = _Servers()


def fork_server(settings: ServerSettings) -> ForkServer:
    """Returns this process's server for these settings; the last one stays when nobody refers to it any more.

    Raises:
        SandboxUnavailable: the machine cannot give what the settings ask for.
    """
    return _servers.get(settings)


def close_idle_server() -> None:
    """Ends the server that was kept for the next episode, if no session uses it; the next episode starts another one."""
    _servers.close_idle()
