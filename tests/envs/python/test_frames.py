"""Framed messages: what arrives is what was sent, and what cannot be a message is refused before it is read."""

import os
import socket
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs.tools.python.server.frames import Channel, Closed, Forged, Overdue


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    channel, raw = Channel(one, limit=10_000, suspicious=True), other
    yield channel, raw
    channel.close()
    raw.close()


def soon() -> float:
    """Returns a deadline for what is there already."""
    return time.monotonic() + 20


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())))
@settings(deadline=None, max_examples=50)
def test_messages_arrive_as_they_were_sent(message):
    one, other = socket.socketpair()
    sender, receiver = Channel(one), Channel(other)
    sender.send(message)
    sender.send({"next": True})
    assert receiver.receive(deadline=soon()) == message
    assert receiver.receive(deadline=soon()) == {"next": True}
    assert not receiver.waiting()
    sender.close()
    receiver.close()


def test_half_a_character_does_not_break_the_sender(pair):
    channel, raw = pair
    Channel(raw).send({"text": "a\ud800b"})
    assert channel.receive(deadline=soon())["text"] == "a\ud800b"


def test_a_message_may_come_byte_by_byte(pair):
    channel, raw = pair
    for number in frame(b'{"a": 1}'):
        raw.send(bytes([number]))
    assert channel.receive(deadline=soon()) == {"a": 1}


def test_a_long_frame_is_refused_before_it_is_read(pair):
    channel, raw = pair
    raw.send(struct.pack(">I", 10_001))
    with pytest.raises(Forged, match="10001 bytes"):
        channel.receive(deadline=soon())


@pytest.mark.parametrize("body", [b"", b"not json", b"[1]", b"3", b"\xff", b"[" * 9000, b'{"a": 1} {}'])
def test_what_is_no_message_is_refused(pair, body):
    channel, raw = pair
    raw.send(frame(body))
    with pytest.raises(Forged):
        channel.receive(deadline=soon())


@pytest.mark.parametrize("data", [b"", b"\x00\x00", frame(b'{"a": 1}')[:-1]])
def test_a_message_that_does_not_come_is_overdue_and_one_that_cannot_come_closed(pair, data):
    channel, raw = pair
    raw.send(data) if data else None
    with pytest.raises(Overdue):
        channel.receive(deadline=time.monotonic() + 0.02)
    raw.close()
    with pytest.raises(Closed):
        channel.receive(deadline=soon())


def test_the_rest_of_an_overdue_message_is_not_lost(pair):
    channel, raw = pair
    data = frame(b'{"a": 1}')
    raw.send(data[:5])
    with pytest.raises(Overdue):
        channel.receive(deadline=time.monotonic() + 0.01)
    raw.send(data[5:])
    assert channel.receive(deadline=soon()) == {"a": 1}


@pytest.mark.timeout(10)
def test_who_does_not_read_cannot_block_the_sender(pair):
    channel, _ = pair
    with pytest.raises(Overdue):
        channel.send({"text": "x" * (1 << 22)}, deadline=time.monotonic() + 0.1)


def test_sending_to_nobody_is_closed(pair):
    channel, raw = pair
    raw.close()
    with pytest.raises(Closed):
        channel.send({"a": 1})


def test_more_than_was_asked_for_is_noticed(pair):
    channel, raw = pair
    raw.send(frame(b'{"a": 1}') + b"\x00")
    assert channel.receive(deadline=soon()) == {"a": 1}
    assert channel.waiting()


def test_open_files_travel_beside_a_message():
    one, other = socket.socketpair()
    sender, receiver = Channel(one), Channel(other)
    reading, writing = os.pipe()
    sender.send({"a": 1}, [writing])
    os.close(writing)
    assert receiver.receive(deadline=soon()) == {"a": 1}
    (copy,) = receiver.files
    os.write(copy, b"x")
    assert os.read(reading, 1) == b"x"
    sender.close()
    receiver.close()  # closes what nobody took
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_suspicious_channel_takes_no_files_and_leaks_none(pair):
    channel, raw = pair
    before = len(os.listdir("/proc/self/fd"))
    reading, writing = os.pipe()
    Channel(raw).send({"a": 1}, [writing, reading])
    os.close(reading)
    os.close(writing)
    assert channel.receive(deadline=soon()) == {"a": 1}
    assert channel.files == []
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_kernel_says_who_sends_and_only_the_first_may(pair):
    channel, raw = pair
    child = os.fork()
    if child == 0:
        raw.send(frame(b'{"from": "child"}'))
        os._exit(0)
    assert channel.receive(deadline=soon()) == {"from": "child"}
    assert channel.sender == child
    os.waitpid(child, 0)
    raw.send(frame(b'{"from": "another"}'))
    with pytest.raises(Forged, match="another process"):
        channel.receive(deadline=soon())
