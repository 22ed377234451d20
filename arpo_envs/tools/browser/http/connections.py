"""Connections that lead to the addresses that were checked, end in time, and carry no more than they may.

A name is resolved once for a connection, all its addresses are checked, and one of these is connected to: a name server that
answers differently a moment later changes nothing. The name itself stays in the request (Host), in the handshake (SNI) and in
the check of the certificate.
"""

import errno
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from ....errors import ToolFault
from .addresses import Address, Network, is_allowed
from .errors import TooLate, Unavailable
from .lookups import Lookups

_MOST_TRIED = 4
"""Addresses of one host."""
_NO_NETWORK = (errno.ENETUNREACH, errno.ENETDOWN)
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


@dataclass(frozen=True)
class Bounds:
    """What all connections of one page together may do.

    Args:
        allowed: networks that may be reached though they are not public.
        lookups: what resolves names.
        deadline: when everything ends, as a reading of `time.monotonic()`.
        most_bytes: that one connection may receive, headers included.
    """

    allowed: tuple[Network, ...]
    lookups: Lookups
    deadline: float
    most_bytes: int

    def left(self) -> float:
        """Returns the seconds that are left.

        Raises:
            TooLate: none are.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TooLate
        return left


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to hosts by addresses that it has checked."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds, self._sockets = bounds, httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Returns a connection to the first address that takes one.

        Raises:
            Unavailable: there is no such host, or one of its addresses may not be reached.
            TooLate: the time is up.
            ToolFault: this machine has no network, or no room for a connection.
        """
        found = self._bounds.lookups.addresses(host, deadline=self._bounds.deadline)
        if not all(is_allowed(address, self._bounds.allowed) for address in found):
            raise Unavailable("its address is not a public one")
        tried = found[:_MOST_TRIED]
        for number, address in enumerate(tried):
            try:
                stream = self._sockets.connect_tcp(str(address), port, self._bounds.left() / (len(tried) - number))
                return BoundedStream(stream, self._bounds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                _require_machine(error, address)
        self._bounds.left()
        raise Unavailable("the server cannot be reached")


class BoundedStream(httpcore.NetworkStream):
    """A connection with one deadline for all that is read and written, and a limit on what is read."""

    def __init__(self, stream: httpcore.NetworkStream, bounds: Bounds) -> None:
        self._stream, self._bounds, self._received = stream, bounds, 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Returns what has come.

        Raises:
            TooLate: the time is up.
            Unavailable: more has come than may.
        """
        piece = self._stream.read(max_bytes, timeout=self._bounds.left())
        self._received += len(piece)
        if self._received > self._bounds.most_bytes:
            raise Unavailable("the server sends too much")
        return piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends all of a buffer."""
        self._stream.write(buffer, timeout=self._bounds.left())

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Returns the connection encrypted, with the certificate checked for the host's name.

        Raises:
            Unavailable: the certificate is not valid, or the server speaks no TLS.
        """
        try:
            encrypted = self._stream.start_tls(ssl_context, server_hostname, self._bounds.left())
        except TooLate:  # whoever asked for the connection does not know it yet
            self.close()
            raise
        except httpcore.ConnectError as error:
            is_untrusted = isinstance(error.__cause__, ssl.SSLCertVerificationError)
            raise Unavailable("its certificate is not valid" if is_untrusted else "no secure connection can be made") from None
        return BoundedStream(encrypted, self._bounds)

    def get_extra_info(self, info: str) -> Any:
        """Returns what the connection says about itself."""
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        """Ends the connection."""
        self._stream.close()


class CheckedTransport(httpx.BaseTransport):
    """What an `httpx.Client` sends requests through: each over a connection of its own, so none is taken for another's."""

    def __init__(self, bounds: Bounds, context: ssl.SSLContext) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_keepalive_connections=0, network_backend=CheckedBackend(bounds)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the answer, whose body is still to be read."""
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    def close(self) -> None:
        """Ends all connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


def _require_machine(error: Exception, address: Address) -> None:
    """Raises `ToolFault` if the machine, and not the server, is why there is no connection."""
    number = getattr(error.__cause__, "errno", None)
    if number in _NO_ROOM:
        raise ToolFault(f"No connection can be opened: {error}.") from error
    if number in _NO_NETWORK and address.version == 4:
        raise ToolFault(f"This machine has no network: {error}.") from error
