"""Reading one streamed answer without any I/O: reads of the network in, events out, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from attrs import field
from attrs.validators import ge

from lash_hookspecs.llm import (
    LlmCallError,
    LlmResponse,
    LlmStreamEvent,
    ProviderFailureKind,
    TokenUsage,
)
from lash_hookspecs.values import frozen
from lash_provider_kit.failures import AttemptFailed, Seen
from lash_provider_kit.sse import MAX_EVENT_BYTES, MAX_STREAM_BYTES, SseLimitExceeded, SseParser

__all__ = ["MALFORMED_EVENT", "MISSHAPEN_EVENT", "Decoder", "Limits", "StreamReader", "decoded", "document_too_large"]

MALFORMED_EVENT = "malformed_event"
"""The code of the failure that a decoder raises for an event which isn't in its format at all."""
MISSHAPEN_EVENT = "unexpected_content"
"""The code of that for an event which is, and is none of its wire."""
_UNREADABLE = frozenset({MALFORMED_EVENT, MISSHAPEN_EVENT})


@frozen(kw_only=True)
class Limits:
    """In bytes: the largest event, and the largest answer, decompressed."""

    event_bytes: int = field(default=MAX_EVENT_BYTES, validator=ge(1))
    stream_bytes: int = field(default=MAX_STREAM_BYTES, validator=ge(1))

    @property
    def document_bytes(self) -> int:
        """The largest answer that comes as one document: a third, since reading it has it in memory three times."""
        return self.stream_bytes // 3


class Decoder(Protocol):
    """One wire's reading of one answer. It raises `AttemptFailed` for what the service gets wrong."""

    output_seen: bool
    """Whether text, reasoning or a tool call has come."""
    complete: bool
    """Whether what has come proves that the answer is whole."""
    done: bool
    """Whether the service has said that nothing more will come."""

    @property
    def usage(self) -> TokenUsage | None:
        """What the service has told of its usage so far; None before it has told any."""
        ...

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        """Take one event's data; append what it means to `out`."""
        ...

    def whole(self, body: bytes | bytearray, out: list[LlmStreamEvent]) -> None:
        """Take an answer that came as one JSON document, although a stream was asked for."""
        ...

    def finish(self) -> LlmResponse:
        """The answer, once the stream has ended."""
        ...


class StreamReader:
    """Feeds a decoder what each read brought. `any_event` tells whether there was an event at all."""

    def __init__(self, decoder: Decoder, limits: Limits, provider: str) -> None:
        self._provider = provider
        self._decoder = decoder
        self._feed = decoder.feed
        self._parser = SseParser(limits.event_bytes, limits.stream_bytes)
        self.any_event = False
        self._cut_amid_event = False

    @property
    def amid_event(self) -> bool:
        """Whether an event has begun whose end hasn't come: nobody knows what it says, and it may be output."""
        return self._cut_amid_event or self._parser.amid_event

    @property
    def received(self) -> int:
        """Bytes taken so far."""
        return self._parser.received

    def take(self, read: bytes, out: list[LlmStreamEvent]) -> None:
        """Append what a read means to `out`. Raises `AttemptFailed`; what was good before that is in `out`."""
        limit: SseLimitExceeded | None = None
        try:
            events = self._parser.feed(read)
        except SseLimitExceeded as exc:
            limit, events = exc, exc.events
        if events:
            self.any_event = True
            feed = self._feed
            for data in events:
                try:
                    feed(data, out)
                except AttemptFailed as failure:
                    if not self._is_behind_the_end(failure):
                        raise
        if limit is not None:
            raise too_large(self._provider, str(limit))

    def close(self, out: list[LlmStreamEvent]) -> None:
        """Append what an event means that the end cut off before its blank line."""
        try:
            for data in self._parser.close():
                self.any_event = True
                self._feed(data, out)
        except SseLimitExceeded as exc:
            raise too_large(self._provider, str(exc)) from None
        except AttemptFailed as failure:
            if self._is_behind_the_end(failure):
                return
            # Half an event at the end is the sign of a cut, which the decoder's end judges, rather than of bad data.
            if failure.error.code != MALFORMED_EVENT:
                raise
            self._cut_amid_event = True

    def _is_behind_the_end(self, failure: AttemptFailed) -> bool:
        """Whether it is only about something unreadable behind a whole answer, such as another wire's last word."""
        return self._decoder.done and self._decoder.complete and failure.error.code in _UNREADABLE


def too_large(provider: str, what: str) -> AttemptFailed:
    """The failure of an answer above a limit."""
    error = LlmCallError(message=f"{provider}: {what}", kind=ProviderFailureKind.STREAM, code="stream_too_large")
    return AttemptFailed(error, Seen.RESPONSE)


def document_too_large(provider: str, limits: Limits) -> AttemptFailed:
    """The failure of an answer in one document that is larger than such a one may be."""
    mib = limits.document_bytes / (1024 * 1024)
    return too_large(
        provider,
        f"the answer is one JSON document of more than {limits.document_bytes} bytes ({mib:.1f} MiB): lash's own "
        "limit, a third of what it reads of a stream, since a document is in memory three times while it is parsed. "
        "Ask for less in one answer (fewer or smaller images), or at an endpoint that streams",
    )


def decoded(
    decoder: Decoder,
    reads: Iterable[bytes],
    limits: Limits = Limits(),
    *,
    document: bool = False,
    provider: str = "decoded",
) -> tuple[tuple[LlmStreamEvent, ...], LlmResponse | LlmCallError]:
    """What a decoder makes of a 200 that came in these reads: its events, and the answer or why there is none."""
    events: list[LlmStreamEvent] = []
    try:
        if document:
            body = b"".join(reads)
            if len(body) > limits.document_bytes:
                raise document_too_large(provider, limits)
            decoder.whole(body, events)
        else:
            reader = StreamReader(decoder, limits, provider)
            for read in reads:
                reader.take(read, events)
            reader.close(events)
        return tuple(events), decoder.finish()
    except AttemptFailed as failure:
        return tuple(events), failure.error
