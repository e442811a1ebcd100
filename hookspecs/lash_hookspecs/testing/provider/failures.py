"""Cases: every way to fail is a typed error that says what, where and what to do, and whether asking again may help."""

from __future__ import annotations

import gzip
import json

from attrs import evolve

from lash_hookspecs.codec import decode, encode
from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmTerminalReason as Reason, ProviderFailureKind as Kind
from lash_hookspecs.testing.provider.kit import USAGE, Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.server import document, garbage, hanging, raw, refused_origin, reset, status
from lash_hookspecs.testing.provider.wire import Ability, Fails, Fault, Text, Used

__all__ = ["CASES"]

CASES = Cases("failures", network=True)


def _typed(error: LlmCallError, kind: Kind, retryable: bool, reason: Reason = Reason.PROVIDER_ERROR) -> None:
    same((error.kind, error.retryable, error.terminal_reason), (kind, retryable, reason))
    check(error.code, "the error has no code")
    check(error.message, "the error has no message")


# ---- what a service says with a status

_FAULTS = {
    Fault.AUTH: (Kind.AUTH, False, Reason.PROVIDER_ERROR, "A wrong key is told as such."),
    Fault.INVALID: (Kind.VALIDATION, False, Reason.PROVIDER_ERROR, "An invalid request won't be better later."),
    Fault.OVERFLOW: (Kind.VALIDATION, False, Reason.CONTEXT_OVERFLOW, "A request that is too long says so."),
    Fault.RATE: (Kind.QUOTA, True, Reason.PROVIDER_ERROR, "A throttle passes."),
    Fault.QUOTA: (Kind.QUOTA, False, Reason.PROVIDER_ERROR, "An account without money isn't a throttle."),
    Fault.OVERLOADED: (Kind.HTTP, True, Reason.PROVIDER_ERROR, "A service with too much to do may have less later."),
    Fault.SERVER: (Kind.HTTP, True, Reason.PROVIDER_ERROR, "A service's own failure may pass."),
}


def _fault(fault: Fault, kind: Kind, retryable: bool, reason: Reason, statement: str) -> None:
    async def refused(scene: Scene) -> None:
        scene.server.answer(scene.refuse(fault, message="so says the service"))
        error = await scene.fail()
        _typed(error, kind, retryable, reason)
        check("so says the service" in error.message, f"the service's words are lost: {error.message}")
        same(scene.tries, 1)

    CASES.add(f"refused-{fault.value}", statement, refused, network=False)

    async def in_stream(scene: Scene) -> None:
        scene.server.answer(scene.say(Fails(fault, "so says the service")))
        error = await scene.fail()
        _typed(error, kind, retryable, reason)
        check("so says the service" in error.message, f"the service's words are lost: {error.message}")

    if fault is not Fault.AUTH:  # who streams has let the key pass
        told = f"{statement} Also in the stream."
        CASES.add(f"streamed-{fault.value}", told, in_stream, Ability.FAILS, network=False)


for _each, _row in _FAULTS.items():
    _fault(_each, *_row)


@CASES("refused-no-model", network=False)
async def refused_no_model(scene: Scene) -> None:
    """A model that isn't there is named in the service's words, and isn't there later either."""
    scene.server.answer(scene.refuse(Fault.NO_MODEL, message="no model `test-model`"))
    error = await scene.fail()
    check(not error.retryable, "it is called retryable")
    check("no model `test-model`" in error.message, error.message)


_STATUSES = {
    400: (Kind.VALIDATION, False),
    401: (Kind.AUTH, False),
    403: (Kind.AUTH, False),
    408: (Kind.HTTP, True),
    409: (Kind.HTTP, True),
    413: (Kind.VALIDATION, False),
    422: (Kind.VALIDATION, False),
    425: (Kind.HTTP, True),
    429: (Kind.QUOTA, True),
    500: (Kind.HTTP, True),
    502: (Kind.HTTP, True),
    503: (Kind.HTTP, True),
    504: (Kind.HTTP, True),
    529: (Kind.HTTP, True),
}


def _status(code: int, kind: Kind, retryable: bool) -> None:
    async def run(scene: Scene) -> None:
        scene.server.answer(status(code, b"<html><h1>something in between</h1></html>"))
        error = await scene.fail()
        same((error.kind, error.retryable), (kind, retryable))
        check(str(code) in error.message, f"the message names no status: {error.message}")
        check(scene.server.origin in error.message, f"the message names no service: {error.message}")

    CASES.add(f"status-{code}", f"Status {code} alone, from who speaks no JSON, is {kind.value}.", run, network=False)


for _code, _told in _STATUSES.items():
    _status(_code, *_told)


@CASES("redirect")
async def redirect(scene: Scene) -> None:
    """A redirect isn't followed: it would carry the key to another host."""
    scene.server.answer(status(307, b"", headers={"location": f"{scene.server.origin}/elsewhere"}))
    error = await scene.fail()
    same(scene.tries, 1)
    check("307" in error.message, error.message)


@CASES("rate-limit-is-no-overflow", invariant=16, network=False)
async def rate_limit_is_no_overflow(scene: Scene) -> None:
    """A throttle whose words sound like a request that is too long is a throttle."""
    words = "Rate limit reached: too many tokens per minute, please reduce the length of the messages"
    scene.server.answer(scene.refuse(Fault.OTHER, 429, words))
    error = await scene.fail()
    same((error.kind, error.terminal_reason), (Kind.QUOTA, Reason.PROVIDER_ERROR))


@CASES("codes-beat-words", invariant=17, network=False)
async def codes_beat_words(scene: Scene) -> None:
    """A code that the service gave is believed, whatever of the user's text its message quotes."""
    quoted = "invalid value: 'maximum context length exceeded, billing quota, rate limit'"
    scene.server.answer(scene.refuse(Fault.OVERLOADED, message=quoted))
    error = await scene.fail()
    _typed(error, Kind.HTTP, True)


@CASES("long-error", network=False)
async def long_error(scene: Scene) -> None:
    """Of an error that is a whole page, a message of moderate length is made."""
    scene.server.answer(status(500, b"<p>" + b"very long " * 100_000))
    error = await scene.fail()
    check(len(error.message) < 5000, f"the message has {len(error.message)} characters")
    check(len(error.raw or "") < 100_000, f"the raw text has {len(error.raw or '')} characters")


# ---- what isn't the service at all


@CASES("html", network=False)
async def html(scene: Scene) -> None:
    """A web page instead of an answer is an error that asks about the base URL."""
    scene.server.answer(document(b"<!doctype html><title>Welcome</title>", content_type="text/html; charset=utf-8"))
    error = await scene.fail()
    check("text/html" in error.message and "URL" in error.message, error.message)
    check(not error.retryable, "a web page is called retryable")


@CASES("html-as-stream", network=False)
async def html_as_stream(scene: Scene) -> None:
    """A web page that says it is plain text is no answer either."""
    scene.server.answer(document(b"<!doctype html>\n<title>Welcome</title>\n", content_type="text/plain"))
    check(not isinstance(await _outcome(scene), LlmResponse), "a web page was taken for an answer")


def _no_answer(name: str, body: bytes, content_type: str, statement: str) -> None:
    async def run(scene: Scene) -> None:
        scene.server.answer(document(body, content_type=content_type))
        error = await scene.fail()
        check(error.kind in (Kind.STREAM, Kind.HTTP), f"kind {error.kind}")
        check(error.code, "the error has no code")

    CASES.add(name, statement, run, network=False)


_no_answer("empty-json", b"", "application/json", "Nothing, which says it is JSON, is no answer.")
_no_answer("null", b"null", "application/json", "A null is no answer.")
_no_answer("list", b"[[1], 2]", "application/json", "A list of anything is no answer.")
_no_answer("other-json", b'{"hello": "world"}', "application/json", "Some other service's JSON is no answer.")
_no_answer("half-json", b'{"id": "x", "choi', "application/json", "Half a document is no answer.")
_no_answer("binary", bytes(range(256)), "application/octet-stream", "Bytes of any kind are no answer.")


@CASES("empty-stream", Ability.PROOF)
async def empty_stream(scene: Scene) -> None:
    """A stream without any event is no answer."""
    scene.open(max_attempts=1)
    scene.server.answer(raw(content_type=scene.wire.content_type))
    same((await scene.fail()).kind, Kind.STREAM)


@CASES("malformed-event", network=False)
async def malformed_event(scene: Scene) -> None:
    """An event that isn't in the wire's format fails the call, shows what it was, and isn't asked for again."""
    first, *_ = scene.wire.stream([Text("so")])
    scene.server.answer(raw(first, b"data: {nonsense}\n\n", content_type=scene.wire.content_type))
    error = await scene.fail()
    same(error.kind, Kind.STREAM)
    check("nonsense" in f"{error.message}{error.raw}", f"it doesn't show the event: {error.message}")
    same(scene.tries, 1)


@CASES("not-utf-8", network=False)
async def not_utf_8(scene: Scene) -> None:
    """An event that is no UTF-8 fails the call."""
    first, *_ = scene.wire.stream([Text("so")])
    scene.server.answer(raw(first, b'data: {"\xff\xfe": "\xc3"}\n\n', content_type=scene.wire.content_type))
    same((await scene.fail()).kind, Kind.STREAM)


@CASES("deep-nesting", Ability.DECODE, network=False)
async def deep_nesting(scene: Scene) -> None:
    """JSON that is nested a hundred thousand deep is an outcome, and no crash."""
    deep = b"[" * 100_000 + b"]" * 100_000
    for reads, whole in (([b"data: " + deep + b"\n\n"], False), ([deep], True)):
        if whole and Ability.DOCUMENT in scene.wire.cannot:
            continue
        outcome = scene.decode(reads, document=whole).outcome
        check(isinstance(outcome, LlmCallError), f"it is taken for an answer: {outcome!r}")


@CASES("failure-after-text", Ability.FAILS, invariant=15, network=False)
async def failure_after_text(scene: Scene) -> None:
    """An error after text isn't called retryable: who asks again pays again. The text so far was streamed."""
    scene.open(max_attempts=1)
    scene.server.answer(scene.say(Text("so"), Fails(Fault.OVERLOADED, "no more")))
    error = await scene.fail()
    same((error.retryable, scene.text), (False, "so"))
    check(error.usage is not None and error.usage.at_least, f"usage is {error.usage}")


@CASES("failure-with-usage", Ability.FAILS, network=False)
async def failure_with_usage(scene: Scene) -> None:
    """What an attempt had used when it failed is in the error, as a lower bound."""
    scene.open(max_attempts=1)
    scene.server.answer(scene.say(Text("so"), Used(USAGE), Fails(Fault.SERVER, "no more")))
    same((await scene.fail()).usage, evolve(USAGE, at_least=True))


@CASES("refusal-is-free")
async def refusal_is_free(scene: Scene) -> None:
    """What a service refused cost nothing."""
    scene.server.answer(scene.refuse(Fault.INVALID))
    same((await scene.fail()).usage, None)


# ---- what the network does


@CASES("refused-connection")
async def refused_connection(scene: Scene) -> None:
    """Where nothing listens, the error says so and names the place; it is told at once, and nothing was spent."""
    origin = refused_origin()
    scene.open(base_url=origin)
    error = await scene.fail()
    same((error.kind, error.usage), (Kind.TRANSPORT, None))
    check(origin in error.message, error.message)
    same(scene.waits, [])


@CASES("reset")
async def connection_reset(scene: Scene) -> None:
    """A connection that is reset before any answer is a failure of the network, and may have cost something."""
    scene.open(max_attempts=1)
    scene.server.answer(reset())
    error = await scene.fail()
    same((error.kind, error.retryable), (Kind.TRANSPORT, True))
    check(error.usage is not None and error.usage.at_least, f"usage is {error.usage}")


@CASES("garbage")
async def not_http(scene: Scene) -> None:
    """What answers without speaking HTTP is told as such."""
    scene.server.answer(garbage())
    same((await scene.fail()).kind, Kind.TRANSPORT)


@CASES("cut", Ability.PROOF, invariant=10)
async def cut(scene: Scene) -> None:
    """A stream that a proxy cuts after text fails the call; it isn't asked again."""
    scene.server.answer(scene.say(Text("Hel"), Text("lo"), end="cut"))
    error = await scene.fail()
    check(error.kind in (Kind.STREAM, Kind.TRANSPORT), f"kind {error.kind}")
    same((error.retryable, scene.text, scene.tries), (False, "Hello", 1))


@CASES("clean-end-without-proof", Ability.PROOF, invariant=10)
async def clean_end_without_proof(scene: Scene) -> None:
    """A stream that ends in order, but without what proves it whole, fails the call."""
    scene.server.answer(scene.say(Text("Hel"), Text("lo")))
    same((await scene.fail()).kind, Kind.STREAM)


@CASES("cut-after-the-end")
async def cut_after_the_end(scene: Scene) -> None:
    """A connection that breaks after the whole answer takes nothing of it away."""
    scene.server.answer(scene.say(*hello(), end="cut"))
    same((await scene.ask()).full_text, "Hello")


@CASES("silence-from-the-start", invariant=5)
async def silence_from_the_start(scene: Scene) -> None:
    """A service that accepts and never answers is a timeout, which is retryable and names the limit."""
    scene.open(max_attempts=1, chunk_timeout_s=0.1)
    scene.server.answer(hanging())
    error = await scene.fail()
    _typed(error, Kind.TIMEOUT, True)
    check("0.1" in error.message, error.message)


@CASES("silence-after-text", invariant=5)
async def silence_after_text(scene: Scene) -> None:
    """A service that falls silent midway is a timeout; what came is streamed, and isn't asked for again."""
    await scene.warm()
    scene.open(chunk_timeout_s=0.4)
    scene.server.answer(scene.say(Text("so"), end="hang"))
    error = await scene.fail()
    same((error.kind, error.retryable, scene.text), (Kind.TIMEOUT, False, "so"))


@CASES("silence-after-the-end")
async def silence_after_the_end(scene: Scene) -> None:
    """A service that leaves the connection open after the whole answer keeps nobody waiting for long."""
    import anyio

    scene.open(chunk_timeout_s=1.5)
    scene.server.answer(scene.say(*hello(), end="hang"))
    with anyio.fail_after(10):
        same((await scene.ask()).full_text, "Hello")


@CASES("gzip")
async def compressed(scene: Scene) -> None:
    """An answer that is compressed although nobody asked for it is read."""
    body = gzip.compress(b"".join(scene.wire.stream(hello())))
    headers = {"content-encoding": "gzip"}
    scene.server.answer(raw(body, headers=headers, content_type=scene.wire.content_type))
    same((await scene.ask()).full_text, "Hello")


@CASES("broken-gzip")
async def broken_compression(scene: Scene) -> None:
    """An answer that says it is compressed, and isn't, is a failure."""
    scene.open(max_attempts=1)
    body = b"".join(scene.wire.stream(hello()))
    scene.server.answer(raw(body, headers={"content-encoding": "gzip"}, content_type=scene.wire.content_type))
    check(isinstance(await _outcome(scene), LlmCallError), "it is taken for an answer")


@CASES("usable-afterwards")
async def usable_afterwards(scene: Scene) -> None:
    """After any failure the same provider answers."""
    await scene.warm()
    scene.open(max_attempts=1, chunk_timeout_s=0.4)
    for answer in (reset(), hanging(), garbage(), scene.refuse(Fault.SERVER), scene.say(Text("x"), end="cut")):
        scene.server.answer(answer)
        await _outcome(scene)
    scene.server.answer(scene.say(*hello()))
    same((await scene.ask()).full_text, "Hello")


@CASES("storable")
async def storable(scene: Scene) -> None:
    """An error can be stored: it is made of what JSON has."""
    scene.server.answer(status(400, json.dumps({"error": {"message": "ü \ud800 \x00", "code": "x"}}).encode()))
    error = await scene.fail()
    same(decode(LlmCallError, encode(error)), error)


async def _outcome(scene: Scene) -> LlmResponse | LlmCallError:
    from lash_hookspecs.errors import LlmCallFailed

    try:
        return await scene.ask()
    except LlmCallFailed as failed:
        return failed.error
