"""What a server says of its connection, and what is read instead, however the network has cut it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, strategies as st

from lash_provider_kit.server_frames import NoFrame, ServerFrames


def frame(kind: int, payload: bytes, stream: int = 0, flags: int = 0) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(4, b"".join(struct.pack(">HI", *each) for each in pairs))


def goaway(last: int, code: int = 0) -> bytes:
    return frame(7, struct.pack(">II", last, code))


def refused(stream: int) -> bytes:
    return frame(3, struct.pack(">I", 7), stream)


DATA = frame(0, b"x" * 100, 1)
ACK = frame(4, b"", flags=1)
RUNNING = {1: [], 3: [], 5: []}

READ = {
    "nothing of it": (
        [settings((3, 100)), ACK, DATA, frame(6, b"p" * 8)],
        [settings((3, 100)), ACK, DATA, frame(6, b"p" * 8)],
        False,
    ),
    "no number": ([settings((4, 9)), DATA], [settings((4, 9), (3, 100)), DATA], False),
    "more calls": (
        [settings((3, 10)), settings((3, 20), (4, 9))],
        [settings((3, 10)), settings((3, 20), (4, 9))],
        False,
    ),
    "as many, for httpcore": (
        [settings((3, 200)), settings((3, 150))],
        [settings((3, 200)), settings((3, 150))],
        False,
    ),
    "fewer calls": (
        [settings((3, 10)), settings((3, 5), (4, 9)), DATA],
        [settings((3, 10)), settings((4, 9)), DATA],
        True,
    ),
    "a leave": ([DATA, goaway(2**31 - 1), DATA], [DATA, DATA], True),
    "a leave from some": ([DATA, goaway(1), DATA], [DATA, refused(3), refused(5), DATA], True),
    "a failure": ([DATA, goaway(1, 2)], [DATA, goaway(1, 2)], False),
}


@pytest.mark.parametrize(("said", "read", "leaving"), READ.values(), ids=READ)
@given(cuts=st.sets(st.integers(0, 400)))
def test_what_is_read_is_the_same_however_it_comes(
    said: list[bytes], read: list[bytes], leaving: bool, cuts: set[int]
) -> None:
    data = b"".join(said)
    ends = [*sorted(each for each in cuts if each < len(data)), len(data)]
    frames, begin, came = ServerFrames(), 0, b""
    for end in ends:
        came += frames.feed(data[begin:end], RUNNING)
        begin = end
    assert (came, frames.is_leaving) == (b"".join(read), leaving)


def test_nobody_runs_and_so_nobody_is_spared() -> None:
    frames = ServerFrames()
    assert frames.feed(goaway(0), ()) == goaway(0)
    assert not frames.is_leaving


def test_another_protocol_is_none() -> None:
    with pytest.raises(NoFrame, match="frames of 4740180 bytes"):
        ServerFrames().feed(b"HTTP/1.1 400 Bad Request\r\n\r\n", RUNNING)
