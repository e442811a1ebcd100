"""The event-stream parser: a table of streams, each fed whole, byte by byte, and cut at every place."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from lash_provider_kit.sse import SseLimitExceeded, SseParser

CASES: dict[str, tuple[bytes, list[bytes]]] = {
    "one event": (b"data: a\n\n", [b"a"]),
    "two events": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "cr alone": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed line ends": (b"data: a\r\n\ndata: b\r\r\ndata: c\n\r\n", [b"a", b"b", b"c"]),
    "several data lines": (b"data: a\ndata: b\ndata:\ndata: c\n\n", [b"a\nb\n\nc"]),
    "no space after the colon": (b"data:a\n\n", [b"a"]),
    "only one space is taken": (b"data:  a\n\n", [b" a"]),
    "field without a colon": (b"data\ndata: a\n\n", [b"\na"]),
    "comments": (b": OPENROUTER PROCESSING\n\n:\n\ndata: a\n: x\n\n", [b"a"]),
    "other fields": (b"event: message\nid: 7\nretry: 10\ndata: a\n\nevent: ping\n\n", [b"a"]),
    "unknown field that starts like data": (b"database: x\ndata: a\n\n", [b"a"]),
    "no final blank line": (b"data: a\n\ndata: b\n", [b"a", b"b"]),
    "no final line end": (b"data: a\n\ndata: b", [b"a", b"b"]),
    "half a final field": (b"data: a\n\ndat", [b"a"]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "byte order mark alone in its line": (b"\xef\xbb\xbfdata: a", [b"a"]),
    "codepoints of every length": ("data: ß€🌍\n\n".encode(), ["ß€🌍".encode()]),
    "what only Unicode calls a line end": ("data: a\u2028b\x0b\x85\n\n".encode(), ["a\u2028b\x0b\x85".encode()]),
    "nothing": (b"", []),
    "blank lines only": (b"\n\n\r\n\r\n", []),
    "empty data": (b"data:\n\ndata: \n\n", [b"", b""]),
}
cases = pytest.mark.parametrize(("stream", "events"), CASES.values(), ids=CASES.keys())


def parse(*chunks: bytes) -> list[bytes]:
    return parse_with(SseParser(), chunks)


def parse_with(parser: SseParser, chunks: Iterable[bytes]) -> list[bytes]:
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.close()


@cases
def test_whole(stream: bytes, events: list[bytes]) -> None:
    assert parse(stream) == events


@cases
def test_byte_by_byte(stream: bytes, events: list[bytes]) -> None:
    assert parse(*(stream[index : index + 1] for index in range(len(stream)))) == events


@cases
def test_cut_at_every_place(stream: bytes, events: list[bytes]) -> None:
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert parse(stream[:first], stream[first:second], b"", stream[second:]) == events, (first, second)


@given(
    st.lists(st.binary(max_size=30).filter(lambda data: not set(data) & set(b"\r\n")), max_size=6),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.lists(st.integers(min_value=1, max_value=9), max_size=40),
)
def test_what_was_framed_comes_out_however_it_is_cut(data: list[bytes], end: bytes, sizes: list[int]) -> None:
    """Framing and parsing are inverse, for any bytes but line ends, and for any cuts."""
    stream = b"".join(b"data: " + each + end + end for each in data)
    chunks, position = [], 0
    for size in sizes:
        chunks.append(stream[position : position + size])
        position += size
    assert parse(*chunks, stream[position:]) == data


def test_events_of_one_read_come_together() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\n\ndata: b\n\ndata: c") == [b"a", b"b"]
    assert parser.feed(b"\n\n") == [b"c"]


@pytest.mark.parametrize("size", [1, 7, 64], ids=lambda size: f"reads of {size}")
def test_an_event_that_never_ends_is_refused(size: int) -> None:
    parser = SseParser(max_event=100)
    with pytest.raises(SseLimitExceeded, match="an event"):
        parse_with(parser, [b"data: ", *[b"x" * size] * 1000])
    assert parser.received <= 100 + 6 + size


def test_an_event_of_many_lines_that_never_ends_is_refused() -> None:
    with pytest.raises(SseLimitExceeded, match="an event"):
        parse_with(SseParser(max_event=100), [b"data: 0123456789\n"] * 100)


def test_an_oversized_event_in_one_read_is_refused() -> None:
    with pytest.raises(SseLimitExceeded, match="an event"):
        SseParser(max_event=10).feed(b"data: 0123456789x\n\n")


def test_comments_cannot_make_a_response_endless() -> None:
    with pytest.raises(SseLimitExceeded, match="the response"):
        parse_with(SseParser(max_stream=1000), [b": ping\n\n"] * 200)


def test_a_large_event_costs_linear_time() -> None:
    """4 MiB in reads of 1 KiB arrive in one piece; with re-joining at each read this test would take minutes."""
    parser = SseParser()
    parser.feed(b"data: ")
    for _ in range(4096):
        assert parser.feed(b"x" * 1024) == []
    assert parser.feed(b"\n\n") == [b"x" * 1024 * 4096]


def test_an_event_of_many_lines_costs_linear_time() -> None:
    """60,000 lines, each a read of its own; with all of them summed up again at each read this would take a minute."""
    parser = SseParser()
    for _ in range(60_000):
        assert parser.feed(b"data: x\n") == []
    assert parser.feed(b"\n") == [b"\n".join([b"x"] * 60_000)]


def test_empty_lines_of_an_event_count_as_well() -> None:
    """Each is an object of ours."""
    with pytest.raises(SseLimitExceeded, match="an event"):
        parse_with(SseParser(max_event=100), [b"data:\n"] * 102)


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"data: x\n", b": x\n"])
@pytest.mark.parametrize("field", [b"data: ", b"data:", b": ", b"event: "])
@pytest.mark.parametrize("size", range(20, 40))
def test_a_line_is_too_long_or_not_wherever_the_reads_end(before: bytes, field: bytes, size: int) -> None:
    stream = b"%b%b%b\n\n" % (before, field, b"y" * size)
    ends = []
    for width in (len(stream), len(stream) - 2, 7, 1):
        try:
            parser = SseParser(max_event=30)
            ends.append(parse_with(parser, [stream[at : at + width] for at in range(0, len(stream), width)]))
        except SseLimitExceeded as exc:
            ends.append([b"too long", *exc.events])
    assert ends == ends[:1] * 4


@pytest.mark.parametrize("cut", range(1, 90, 7))
def test_what_was_whole_before_a_limit_comes_out_wherever_the_reads_end(cut: int) -> None:
    """A fuzzer found that the same bytes failed in two ways: a read with the limit in it lost its whole events."""
    stream = b"data: one\n\ndata: two\n\n" + b"data: " + b"x" * 60 + b"\n\n"
    for limits in ({"max_event": 50}, {"max_stream": 60}):
        parser, events = SseParser(**limits), []
        try:
            for read in (stream[:cut], stream[cut:]):
                events += parser.feed(read)
        except SseLimitExceeded as exceeded:
            events += exceeded.events
        assert events == [b"one", b"two"]
