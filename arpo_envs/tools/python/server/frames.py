"""Framed messages over Unix sockets: four bytes of length, then JSON; descriptors travel with them.

Both sides use it. The side that distrusts the other sets a limit and a deadline, and asks the kernel who sent.
"""

import array
import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

LIMIT = 1 << 26
"""Bytes in the longest frame between parties that trust each other."""

_HEADER = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")
_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size)
_ROOM_WITH_FILES = _ROOM + socket.CMSG_SPACE(4 * array.array("i").itemsize)
_CHUNK = 1 << 16

# A session uses this after a model's code has run, which can replace every function of `json` and `socket` that is written in
# Python, but no method of a type that is not.
_json: Any = json  # the type stubs know only a part of it
_writer = (None, json.JSONEncoder().default, _json.encoder.encode_basestring, None, ": ", ", ", False, False, True)
_encode = _json.encoder.c_make_encoder(*_writer)  # what `json.dumps` ends up calling
_decode = _json.JSONDecoder().scan_once  # what `json.loads` ends up calling
_Socket = socket.SocketType


class ChannelError(Exception):
    """Base of what can go wrong with a channel; after any of these it is useless."""


class Closed(ChannelError):
    """The other side is gone."""


class Overdue(ChannelError):
    """The deadline passed."""


class Forged(ChannelError):
    """What came cannot be from the other side's own code: too long, not a message, or from another process."""


class Channel:
    """One end of a stream socket, as messages.

    Args:
        sock: a connected stream socket, which the channel then owns.
        limit: bytes in the longest frame that is read.
        suspicious: ask the kernel which process sends (the first one to do so is the only one that may), and take no files.
    """

    def __init__(self, sock: socket.SocketType, *, limit: int = LIMIT, suspicious: bool = False) -> None:
        self.sock = sock
        self.limit = limit
        self.sender: int | None = None
        self.files: list[int] = []
        self._buffer = bytearray()
        self._room = _ROOM if suspicious else _ROOM_WITH_FILES
        if suspicious:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def send(self, message: dict[str, Any], files: Sequence[int] = (), *, deadline: float | None = None) -> None:
        """Sends a message, along with open files.

        Args:
            message: anything JSON can hold.
            files: descriptors; the other side gets copies.
            deadline: when to give up, as a reading of `time.monotonic()`; None waits forever.

        Raises:
            ChannelError: it could not be sent completely.
        """
        body = "".join(_encode(message, 0)).encode("utf-8", "backslashreplace")
        data = memoryview(_HEADER.pack(len(body)) + body)
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files).tobytes())] if files else []
        flags = socket.MSG_NOSIGNAL | (socket.MSG_DONTWAIT if deadline is not None else 0)
        while data:
            try:
                sent = _Socket.sendmsg(self.sock, [data], beside, flags)
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)
            except OSError as error:
                raise Closed(f"sending failed: {error}") from None
            else:
                data, beside = data[sent:], []

    def receive(self, *, deadline: float | None = None) -> dict[str, Any]:
        """Returns the next message; its descriptors are appended to `files`.

        Args:
            deadline: when to give up, as a reading of `time.monotonic()`; None waits forever.

        Raises:
            ChannelError: none came, or what came is not a message.
        """
        self._fill(_HEADER.size, deadline)
        (length,) = _HEADER.unpack_from(self._buffer)
        if length > self.limit:
            raise Forged(f"a frame of {length} bytes; at most {self.limit} are allowed")
        self._fill(_HEADER.size + length, deadline)
        body = bytes(self._buffer[_HEADER.size : _HEADER.size + length])
        del self._buffer[: _HEADER.size + length]
        try:
            text = body.decode()
            message, end = _decode(text, 0)
        except (ValueError, RecursionError, StopIteration):
            raise Forged("a frame that is not JSON") from None
        if end != len(text):
            raise Forged("a frame that is more than JSON")
        if not isinstance(message, dict):
            raise Forged("a frame that is not a message")
        return message

    @property
    def buffered(self) -> bool:
        """Whether part of another message is already here."""
        return bool(self._buffer)

    def waiting(self) -> bool:
        """Whether anything more has come, the end included."""
        return bool(self._buffer) or bool(_poll(self.sock, select.POLLIN, 0))

    def close(self) -> None:
        """Closes the socket and the files that were not taken."""
        _Socket.close(self.sock)
        for file in self.files:
            with contextlib.suppress(OSError):
                os.close(file)
        self.files = []

    def _fill(self, wanted: int, deadline: float | None) -> None:
        while len(self._buffer) < wanted:
            if deadline is not None:
                self._wait(select.POLLIN, deadline)
            try:
                data, beside, _, _ = _Socket.recvmsg(self.sock, _CHUNK, self._room, socket.MSG_CMSG_CLOEXEC)
            except OSError as error:
                raise Closed(f"receiving failed: {error}") from None
            if not data:
                raise Closed("the other side is gone")
            for level, kind, content in beside:
                if level == socket.SOL_SOCKET:
                    self._take(kind, content)
            self._buffer += data

    def _take(self, kind: int, content: bytes) -> None:
        if kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            self.files += numbers
        elif kind == socket.SCM_CREDENTIALS:
            sender = _CREDENTIALS.unpack_from(content)[0]
            if self.sender not in (None, sender):
                raise Forged("another process wrote on this channel")
            self.sender = sender

    def _wait(self, what: int, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            left = 0
        if not _poll(self.sock, what, left):
            raise Overdue("no answer in time")


def _poll(sock: socket.SocketType, what: int, seconds: float | None) -> bool:
    poller = select.poll()
    try:
        poller.register(_Socket.fileno(sock), what)
        return bool(poller.poll(None if seconds is None else seconds * 1000))
    except (OSError, ValueError) as error:  # the socket was closed by another thread
        raise Closed(f"waiting failed: {error}") from None
