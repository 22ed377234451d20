"""A small web server of the host's on the loopback interface, for attacks that want to reach it."""

import socket
import threading

_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nopen"


class Door:
    """Listens on a port of 127.0.0.1 and answers whoever comes, until it is closed."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                visitor, _ = self._listening.accept()
            except OSError:
                return
            with visitor:
                visitor.recv(1 << 12)
                visitor.sendall(_ANSWER)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
