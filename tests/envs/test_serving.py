"""What every HTTP server of this suite does alike."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import pytest

from arpo_envs.serving import Handler, Server


class Large(Handler):
    """Answers with more than a socket takes at once."""

    def do_GET(self) -> None:
        self.answer(HTTPStatus.OK, b"x" * (16 << 20), {})


class Broken(Handler):
    """Has a mistake of its own."""

    def do_GET(self) -> None:
        raise KeyError("a mistake")


@contextmanager
def serving(handler: type[Handler], host: str = "127.0.0.1") -> Iterator[Server]:
    with Server(host, 0, handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "127.1"])
def test_on_loopback_it_goes_by_its_own_names_however_they_are_written(host: str) -> None:
    with Server(host, 0, Broken) as server:
        assert server.is_for_us(f"{host}:{server.server_address[1]}")
        assert server.is_for_us("localhost:1")
        assert not server.is_for_us("evil.example")


def test_to_other_machines_it_answers_by_any_name() -> None:
    with Server("0.0.0.0", 0, Broken) as server:
        assert server.is_for_us("node7.cluster")


def test_a_client_that_hangs_up_is_nothing_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Large) as server:
        with socket.create_connection(server.server_address[:2]) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.recv(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
        connection.request("GET", "/")
        assert len(connection.getresponse().read()) == 16 << 20
        connection.close()
    assert capsys.readouterr().err == ""


def test_a_mistake_of_its_own_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Broken) as server:
        connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
        connection.request("GET", "/")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()
    assert "a mistake" in capsys.readouterr().err
