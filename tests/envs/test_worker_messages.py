"""Messages between a checker's process and its host: what arrives is what was sent, and what is no reply ends the call."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs.rewards.worker.host import MAX_REPLY, Overrun, Worker
from arpo_envs.rewards.worker.process import TooLong, receive, send

OUT = 3
"""The descriptor of the socket in a checker's process: it has inherited no other."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def frame(length: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", length) + body


def soon() -> float:
    """Returns a deadline for what is there already."""
    return time.monotonic() + 20


# --- the messages -------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=5))
@settings(deadline=None, max_examples=50)
def test_messages_arrive_as_they_were_sent_and_then_the_end(bodies):
    one, other = socket.socketpair()
    with other:
        with one:
            for body in bodies:
                send(one, body)
        assert [receive(other, deadline=soon()) for _ in bodies] == bodies
        assert receive(other, deadline=soon()) is None


def test_a_message_is_four_bytes_of_length_most_significant_first_and_its_body(pair):
    one, other = pair
    send(one, b"x" * 258)
    assert other.recv(1000) == b"\x00\x00\x01\x02" + b"x" * 258


def test_a_message_may_come_byte_by_byte_and_what_follows_it_is_not_read(pair):
    one, other = pair
    for number in frame(3, b"abc") + b"d":
        one.send(bytes([number]))
    assert receive(other, limit=3, deadline=soon()) == b"abc"
    assert other.recv(10) == b"d"


@pytest.mark.parametrize("data", [b"", b"\x00\x00", frame(5), frame(5, b"abcd")])
def test_the_end_is_none_before_a_message_and_within_one(pair, data):
    one, other = pair
    one.sendall(data)
    one.close()
    assert receive(other, deadline=soon()) is None
    assert receive(other) is None


@pytest.mark.parametrize("data", [b"", b"\x00\x00", frame(5), frame(5, b"abcd")])
def test_what_does_not_come_in_time_is_overdue(pair, data):
    one, other = pair
    one.sendall(data)
    with pytest.raises(TimeoutError):
        receive(other, deadline=time.monotonic() + 0.02)
    with pytest.raises(TimeoutError):
        receive(other, deadline=time.monotonic() - 1)


def test_without_a_deadline_the_timeout_is_the_sockets_own(pair):
    _, other = pair
    other.settimeout(0.02)
    with pytest.raises(TimeoutError):
        receive(other)


def test_what_is_too_long_is_refused_before_it_is_read(pair):
    one, other = pair
    one.sendall(frame(5, b"abcde"))
    assert receive(other, limit=5, deadline=soon()) == b"abcde"
    one.sendall(frame(6, b"f"))
    with pytest.raises(TooLong, match="6 bytes; at most 5"):
        receive(other, limit=5, deadline=soon())
    assert other.recv(10) == b"f"


# --- replies of no checker ------------------------------------------------------------------------------------------


@pytest.mark.timeout(100)
def test_what_is_no_reply_ends_the_call_and_the_next_one_works():
    worker = Worker("os:write")
    forged = [
        (frame(MAX_REPLY + 1), "^sent too much$"),
        (frame(2**32 - 1), "^sent too much$"),
        (frame(3, b"[1]"), "^sent something strange$"),
        (frame(3, b"{1}"), r"^its process died \(-?\d+\)$"),
        (frame(0), r"^its process died \(-?\d+\)$"),
    ]
    for data, said in forged:
        assert worker.call((OUT, b""), seconds=5.0) == 0
        with pytest.raises(Overrun, match=said):
            worker.call((OUT, data), seconds=5.0)
    worker.close()


@pytest.mark.timeout(100)
@pytest.mark.parametrize("data", [b"", b"\x00\x00", frame(9, b"{}")])
def test_a_process_that_ends_instead_of_a_reply_or_within_one_has_died(data):
    worker = Worker("builtins:eval")
    code = f"__import__('os').write({OUT}, {data!r}) + __import__('os')._exit(7)"
    with pytest.raises(Overrun, match=r"^its process died \(7\)$"):
        worker.call((code,), seconds=5.0)
    worker.close()


@pytest.mark.timeout(100)
def test_a_process_that_stops_within_its_reply_is_overdue():
    worker = Worker("builtins:eval")
    code = f"__import__('os').write({OUT}, {frame(9, b'{}')!r}) + __import__('time').sleep(3600)"
    with pytest.raises(Overrun, match=r"^timeout$"):
        worker.call((code,), seconds=0.05)
    worker.close()
