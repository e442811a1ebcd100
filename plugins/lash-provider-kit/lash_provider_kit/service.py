"""A call to a service that streams its answer: attempts, deadlines, failures, and the hand-over of events.

Owns what all wires have in common. What the events mean is the decoder's business, one per wire.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from lash_hookspecs.errors import ConfigurationError, LlmCallFailed
from lash_hookspecs.llm import (
    LlmCallError,
    LlmEventSender,
    LlmResponse,
    LlmStreamEvent,
    ProviderFailureKind,
)
from lash_provider_kit.carriers import Answer
from lash_provider_kit.credentials import Credential, CredentialManager
from lash_provider_kit.failures import (
    AttemptFailed,
    Seen,
    classify,
    error_object,
    is_free,
    retry_after_seconds,
    with_message,
)
from lash_provider_kit.inflate import UnknownEncoding, inflated
from lash_provider_kit.limiter import RateLimiter
from lash_provider_kit.reader import Decoder, Limits, StreamReader, document_too_large
from lash_provider_kit.redact import Redactor, checked_header, query_values
from lash_provider_kit.retry import RetryPolicy, with_retries
from lash_provider_kit.transport import HttpTransport, Timeouts, chunks_of, close_response

if TYPE_CHECKING:
    import httpx

__all__ = ["StreamingService"]

# Once the service has said that it is done, only the connection's clean end is missing; waiting for that lets the
# connection be used again, and isn't worth more than this.
_DRAIN_S = 1.0
_MAX_ERROR_BYTES = 64 * 1024
_RAW_CHARS = 4096
_MESSAGE_CHARS = 1024
"""Of a message that quotes the service; decoders quote all of it, since it is redacted before it is cut."""
# Content types under which services send event streams; the middle ones are wrong, and common.
_STREAMED = frozenset({"text/event-stream", "text/plain", "application/octet-stream", ""})


_NO_HEADERS: Mapping[str, str] = {}


def _as_bearer(credential: Credential) -> Mapping[str, str]:
    return {"authorization": f"Bearer {credential.secret}"}


class StreamingService:
    """An endpoint that takes a JSON body and streams back events.

    `provider` names it in messages; `secrets` are kept out of them; `auth_hint` tells people what to do about a refused
    key. `refine` is given the body of an error answer, and may sharpen what its status alone made of it. `capture`
    keeps the body of each request, without secrets, in its answer or error. `limiter` may be one for several services.
    With `credentials`, `authorize` makes the headers that carry one, once for each. `sleep` (seconds), `wall_clock`
    (seconds since the epoch) and `transport` are there for tests.
    """

    def __init__(
        self,
        *,
        provider: str,
        url: str,
        headers: Mapping[str, str],
        secrets: Iterable[str] = (),
        timeouts: Timeouts = Timeouts(),
        limits: Limits = Limits(),
        retry: RetryPolicy = RetryPolicy(),
        auth_hint: str = "",
        refine: Callable[[bytes, AttemptFailed], None] | None = None,
        capture: bool = False,
        limiter: RateLimiter | None = None,
        credentials: CredentialManager | None = None,
        authorize: Callable[[Credential], Mapping[str, str]] = _as_bearer,
        http2: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._redact = Redactor([*secrets, *query_values(url)])
        self._timeouts = timeouts
        self._limits = limits
        self._retry = retry
        self._auth_hint = auth_hint
        self._refine = refine
        self._capture = capture
        self._limiter = limiter
        self._credentials = credentials
        self._authorize = authorize
        self._authorized: tuple[Credential, Mapping[str, str]] | None = None
        self._sleep = sleep
        self._wall_clock = wall_clock
        self.transport = HttpTransport(
            provider=provider,
            url=url,
            headers={"accept": "text/event-stream, application/json", "accept-encoding": "identity", **headers},
            timeouts=timeouts,
            http2=http2,
            transport=transport,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self.transport.aclose()

    async def call(
        self,
        body: bytes | Sequence[bytes],
        decoder: Callable[[], Decoder],
        send: LlmEventSender,
        *,
        url: str | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> LlmResponse:
        """POST `body`, whole or in pieces, and return the whole answer; `decoder` makes a fresh one for each attempt.

        `url` replaces the service's own for this call, on the same host; `headers` are this call's further ones. Raises
        `LlmCallFailed`, with every secret taken out.
        """

        pieces = (body,) if isinstance(body, bytes) else body
        credential: Credential | None = None

        async def attempt() -> LlmResponse:
            nonlocal credential
            own = headers
            if self._credentials is not None:
                credential = await self._credentials.current()
                own = {**headers, **self._headers_of(credential)}
            post = partial(self.transport.post, pieces, own, url)
            try:
                if self._limiter is None:
                    return await self._attempt(post, decoder(), send)
                async with self._limiter.admitted(sum(map(len, pieces))):
                    return await self._attempt(post, decoder(), send)
            except AttemptFailed as failure:
                self._clean(failure)
                raise

        async def refresh() -> bool:
            assert self._credentials is not None
            assert credential is not None
            return await self._credentials.refused(credential)

        renewed = None if self._credentials is None else refresh
        if not self._capture:
            return await with_retries(self._retry, attempt, send, self._sleep, renewed)
        captured = self._redact(b"".join(pieces).decode())
        try:
            answer = await with_retries(self._retry, attempt, send, self._sleep, renewed)
            return evolve(answer, request_body=captured)
        except LlmCallFailed as failed:
            error = evolve(failed.error, request_body=captured)
        raise LlmCallFailed(error)

    def _headers_of(self, credential: Credential) -> Mapping[str, str]:
        """The headers that carry it, worked out once. Raises `LlmCallFailed` where a value can't be one's."""
        if self._authorized is not None and self._authorized[0] == credential:
            return self._authorized[1]
        self._redact.add([credential.secret, credential.refresh_secret])
        made = self._authorize(credential)
        try:
            checked = {name: checked_header(name, value, "credential") for name, value in made.items()}
        except ConfigurationError as exc:
            hint = f" ({self._auth_hint})" if self._auth_hint else ""
            unusable = self._failure(f"{exc}{hint}", ProviderFailureKind.AUTH, "credential_unusable")
        else:
            self._authorized = credential, checked
            return checked
        raise LlmCallFailed(unusable.error)  # outside of the `except`, so that nothing hangs on behind

    def _clean(self, failure: AttemptFailed) -> None:
        error = failure.error
        raw = None if error.raw is None else self._redact(error.raw, _RAW_CHARS)
        code = None if error.code is None else self._redact(error.code)
        failure.error = evolve(error, message=self._redact(error.message, _RAW_CHARS), code=code, raw=raw)
        failure.args = (failure.error.message,)  # it stays reachable as the context of what is raised

    def _judge(self, failure: AttemptFailed, decoder: Decoder, seen: Seen) -> None:
        """Say of a failure within an answer what had been seen and spent, and where it came from."""
        failure.observed(seen).charged(decoder.usage)
        message = self._redact(failure.error.message, _MESSAGE_CHARS)
        if self.transport.shown not in message:
            message = f"{message} ({self.transport.shown})"
        failure.error = evolve(failure.error, message=message)

    async def _attempt(
        self, post: Callable[[], Awaitable[Answer]], decoder: Decoder, send: LlmEventSender
    ) -> LlmResponse:
        response: Answer | None = None
        reader = StreamReader(decoder, self._limits, self._provider)
        streamed = True
        with anyio.move_on_after(self._timeouts.deadline_s) as scope:
            response = await post()
            arriving = chunks_of(response)
            ended = False
            try:
                chunks = self._readable(response, arriving)
                if not 200 <= response.status_code < 300:
                    refused = await self._refused(response, chunks)
                    raise refused if is_free(response.status_code) else refused.charged()
                # Some proxies say it a second time, which makes one value with a comma.
                kind = re.split("[;,]", response.headers.get("content-type", ""), maxsplit=1)[0].strip().lower()
                streamed = kind in _STREAMED
                if streamed:
                    ended = await self._stream(chunks, decoder, reader, send, scope, strict=kind == "text/event-stream")
                else:
                    if batch := await self._document(chunks, kind, decoder):
                        scope.deadline = math.inf  # the service has done its part; a listener may take its time
                        await send(batch)
            except AttemptFailed as failure:
                if response.is_success:
                    self._judge(failure, decoder, _progress(decoder, reader))
                raise
            finally:
                if ended:
                    await response.aclose()  # at once, since nothing is left on the connection
                else:
                    await close_response(response, arriving, self.transport.errors)
        if scope.cancelled_caught and not (decoder.complete or decoder.done):
            raise self._late(response, decoder, _progress(decoder, reader) if streamed else Seen.RESPONSE)
        try:
            answer = decoder.finish()
        except AttemptFailed as failure:
            self._judge(failure, decoder, _progress(decoder, reader))
            raise
        assert response is not None  # post returned, or raised, or the deadline passed
        return evolve(answer, http_summary=self._summary(response))

    def _readable(self, response: Answer, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        encoding = response.headers.get("content-encoding")
        if encoding is None:
            return chunks
        try:
            return inflated(encoding, chunks)  # although it wasn't asked to compress
        except UnknownEncoding as exc:
            failure = self.transport.failure(exc)
        raise failure

    async def _stream(
        self,
        chunks: AsyncIterator[bytes],
        decoder: Decoder,
        reader: StreamReader,
        send: LlmEventSender,
        scope: anyio.CancelScope,
        *,
        strict: bool,
    ) -> bool:
        """Decode the stream to its end; whether that was a clean one."""
        take, errors = reader.take, self.transport.errors
        draining = ended = False
        cut: AttemptFailed | None = None
        # One pass per network read: its events leave in one list, and no scope is entered (the transport times each
        # read, `scope` times everything), because each hop and each scope costs more than decoding an event.
        while not ended:
            batch: list[LlmStreamEvent] = []
            failure: AttemptFailed | None = None
            try:
                take(await anext(chunks), batch)
            except AttemptFailed as exc:
                failure = exc
            except StopAsyncIteration:
                ended = True
            except errors as exc:
                ended, cut = True, self.transport.failure(exc)
            if ended:
                try:
                    reader.close(batch)
                except AttemptFailed as exc:
                    failure = exc
            deadline = scope.deadline
            if batch:
                # The deadline is the service's: a listener that takes its time is neither counted nor cut off.
                scope.deadline = math.inf
                began = time.monotonic()
                await send(batch)
                deadline += time.monotonic() - began
            if failure is not None:
                raise failure
            if decoder.done and not draining:
                draining = True
                deadline = min(deadline, anyio.current_time() + _DRAIN_S)
            scope.deadline = deadline  # once: each change is a timer more
        if cut is not None and not decoder.complete:
            raise cut.observed(_progress(decoder, reader))
        if not reader.any_event and not strict and reader.received:
            raise self._unexpected("text that is no event stream")
        return cut is None

    async def _document(self, chunks: AsyncIterator[bytes], kind: str, decoder: Decoder) -> list[LlmStreamEvent]:
        if not (kind == "application/json" or kind.endswith("+json")):
            body, _ = await self._read(chunks, _MAX_ERROR_BYTES)
            raise self._unexpected(f"`{kind}`", body)
        limit = self._limits.document_bytes
        body, cut = await self._read(chunks, limit + 1)
        if len(body) > limit:
            raise document_too_large(self._provider, self._limits)
        if cut is not None:
            raise cut.observed(Seen.RESPONSE)
        batch: list[LlmStreamEvent] = []
        decoder.whole(body, batch)
        return batch

    async def _read(self, chunks: AsyncIterator[bytes], limit: int) -> tuple[bytearray, AttemptFailed | None]:
        """What there is to read, up to `limit` bytes, and the failure that ended it early."""
        body = bytearray()  # grows where it lies: what is joined in the end is there twice
        try:
            async for chunk in chunks:
                body += chunk[: limit - len(body)]
                if len(body) >= limit:
                    break
        except self.transport.errors as exc:
            return body, self.transport.failure(exc)
        return body, None

    async def _refused(self, response: Answer, chunks: AsyncIterator[bytes]) -> AttemptFailed:
        read, _ = await self._read(chunks, _MAX_ERROR_BYTES)
        body, status = bytes(read), response.status_code
        said = error_object(body)
        kind, retryable, reason = classify(said, status)
        words = self._redact(said.message, _MESSAGE_CHARS) or response.reason_phrase or "no message"
        error = LlmCallError(
            message=f"{self._provider}: HTTP {status} from {self.transport.shown}: {words}",
            kind=kind,
            retryable=retryable,
            code=said.code or said.type or f"http_{status}",
            raw=body.decode("utf-8", "replace"),
            terminal_reason=reason,
        )
        wait = retry_after_seconds(response.headers, self._wall_clock())
        failure = AttemptFailed(error, Seen.RESPONSE, status=status, retry_after=wait)
        if self._refine is not None:
            self._refine(body, failure)
        hint = self._auth_hint if failure.error.kind is ProviderFailureKind.AUTH else ""
        if 300 <= status < 400:
            hint = "redirects aren't followed, since they would carry the key along: set the base URL that is meant"
        return with_message(failure, f"{failure.error.message} ({hint})") if hint else failure

    def _late(self, response: Answer | None, decoder: Decoder, seen: Seen) -> AttemptFailed:
        """The deadline's failure. A status other than 200's is an answer, even if its body never came."""
        status = None if response is None or response.is_success else response.status_code
        told = "" if status is None else f" (only HTTP {status})"
        late = self._failure(
            f"no whole answer from {self.transport.shown} within {self._timeouts.deadline_s:g} s{told}",
            ProviderFailureKind.TIMEOUT,
            "deadline_exceeded",
            Seen.NOTHING if response is None else seen if status is None else Seen.RESPONSE,
            retryable=True,
        )
        late.status = status
        return late if status is not None and is_free(status) else late.charged(decoder.usage)

    def _unexpected(self, what: str, body: bytes | bytearray = b"") -> AttemptFailed:
        message = f"{self.transport.shown} answered with {what}: is the base URL right?"
        return self._failure(message, ProviderFailureKind.HTTP, "unexpected_content", raw=body)

    def _failure(
        self,
        message: str,
        kind: ProviderFailureKind,
        code: str,
        seen: Seen = Seen.RESPONSE,
        *,
        retryable: bool = False,
        raw: bytes | bytearray = b"",
    ) -> AttemptFailed:
        text = raw[:_MAX_ERROR_BYTES].decode("utf-8", "replace") or None
        message = f"{self._provider}: {message}"
        return AttemptFailed(LlmCallError(message=message, kind=kind, code=code, retryable=retryable, raw=text), seen)

    def _summary(self, response: Answer) -> str:
        request_id = response.headers.get("x-request-id") or response.headers.get("request-id")
        said = self._redact.lasting(f"POST {self.transport.shown}: {response.status_code}")
        return f"{said}, request {self._redact(request_id)}" if request_id else said


def _progress(decoder: Decoder, reader: StreamReader) -> Seen:
    if decoder.output_seen:
        return Seen.OUTPUT
    return Seen.EMPTY_STREAM if decoder.usage is None and not reader.amid_event else Seen.RESPONSE
