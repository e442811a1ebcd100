"""Cases: sizes and times that a service can't exceed, whatever it does."""

from __future__ import annotations

import gzip
import sys
import time

import anyio
from attrs import evolve

from lash_hookspecs.llm import LlmResponse, ProviderFailureKind as Kind
from lash_hookspecs.testing.provider.kit import Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.server import document, raw
from lash_hookspecs.testing.provider.wire import Ability, Text

__all__ = ["CASES"]

CASES = Cases("limits", network=True)


@CASES("event", Ability.CAPS, Ability.LINES, invariant=3, network=False)
async def event(scene: Scene) -> None:
    """An event above its limit fails the call, is called so, and isn't asked for again."""
    scene.open(max_event_bytes=4096)
    scene.server.answer(scene.say(*hello(Text("x" * 5000))))
    error = await scene.fail()
    same((error.kind, error.retryable, scene.tries), (Kind.STREAM, False, 1))
    check("4096" in error.message, error.message)


@CASES("endless-line", Ability.CAPS, Ability.LINES, invariant=3)
async def endless_line(scene: Scene) -> None:
    """A line without an end is an event above its limit, too."""
    scene.open(max_event_bytes=4096)
    scene.server.answer(raw(*[b"data: " + b"x" * 1000] * 20, content_type=scene.wire.content_type, end="hang"))
    error = await scene.fail()
    same((error.kind, error.retryable), (Kind.STREAM, False))


@CASES("large-event", network=False)
async def large_event(scene: Scene) -> None:
    """An event of a megabyte is an honest one."""
    scene.server.answer(scene.say(*hello(Text("x" * 1_000_000))))
    same(len((await scene.ask()).full_text), 1_000_000)


@CASES("response", Ability.CAPS, invariant=3, network=False)
async def response(scene: Scene) -> None:
    """An answer above its limit fails the call although each event is small, and isn't asked for again."""
    scene.open(max_stream_bytes=20_000)
    scene.server.answer(scene.say(*hello(*[Text("x" * 100)] * 300)))
    error = await scene.fail()
    same((error.kind, error.retryable, scene.tries), (Kind.STREAM, False, 1))
    check("20000" in error.message, error.message)


@CASES("keep-alives", Ability.CAPS, Ability.COMMENTS, invariant=3)
async def only_keep_alives(scene: Scene) -> None:
    """What means nothing counts as well."""
    scene.open(max_stream_bytes=20_000)
    scene.server.answer(raw(*[scene.wire.keep_alive()] * 3000, content_type=scene.wire.content_type))
    same((await scene.fail()).kind, Kind.STREAM)


@CASES("document", Ability.CAPS, Ability.DOCUMENT, invariant=3, network=False)
async def large_document(scene: Scene) -> None:
    """An answer that comes whole has the same limit."""
    scene.open(max_stream_bytes=20_000)
    scene.server.answer(document(scene.wire.document(hello(Text("x" * 30_000)))))
    check(not (await scene.fail()).retryable, "it is called retryable")


@CASES("bomb", Ability.CAPS, invariant=3)
async def bomb(scene: Scene) -> None:
    """An answer that is small on the wire and huge once decompressed meets the limit, before it fills the memory."""
    import tracemalloc

    scene.open(max_event_bytes=100_000, max_stream_bytes=1_000_000)
    scene.server.answer(scene.say(*hello()))
    await scene.ask()  # so that nothing is imported below
    packed = gzip.compress(b"data: " + bytes(12_000_000))
    headers = {"content-encoding": "gzip"}
    scene.server.answer(raw(packed, headers=headers, content_type=scene.wire.content_type))
    tracemalloc.start()
    try:
        error = await scene.fail()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    same(error.retryable, False)
    check(peak < 6_000_000, f"it took {peak} bytes of memory")


@CASES("deadline", Ability.COMMENTS, invariant=4)
async def deadline(scene: Scene) -> None:
    """Keep-alives don't make the deadline of an attempt any later."""
    await scene.warm()
    scene.open(max_attempts=1, chunk_timeout_s=0.5, deadline_s=0.3)
    scene.server.answer(raw(*[scene.wire.keep_alive()] * 500, content_type=scene.wire.content_type, gap_s=0.02))
    began = time.monotonic()
    error = await scene.fail()
    same(error.kind, Kind.TIMEOUT)
    check(time.monotonic() - began < 5, "the deadline was none")


@CASES("deadline-with-text", invariant=4)
async def deadline_with_text(scene: Scene) -> None:
    """Nor does text: what came by the deadline was streamed, and the rest isn't waited for."""
    await scene.warm()
    scene.open(max_attempts=1, deadline_s=0.6)
    scene.server.answer(scene.say(*hello(*[Text("x")] * 500), gap_s=0.02))
    error = await scene.fail()
    same((error.kind, error.retryable), (Kind.TIMEOUT, False))
    check("x" in scene.text, "nothing was streamed")


@CASES("slow-listener")
async def slow_listener(scene: Scene) -> None:
    """Whoever listens may take longer than the service may: only the service's time is counted."""
    await scene.warm()
    scene.server.answer(scene.say(*hello()))
    waits = iter([0.6])

    async def listen(events: object) -> None:
        await anyio.sleep(next(waits, 0))
        await scene.listen(events)  # type: ignore[arg-type]  # as a provider calls it

    answer = await scene.open(chunk_timeout_s=0.5, deadline_s=0.5).complete(scene.request, listen)
    same(answer.full_text, "Hello")


@CASES("times-between-attempts")
async def times_between_attempts(scene: Scene) -> None:
    """Each attempt has the whole deadline."""
    slow = evolve(scene.say(*hello()), gap_s=0.02)
    scene.open(deadline_s=2)
    from lash_hookspecs.testing.provider.server import reset

    scene.server.answer(reset(), slow)
    same((await scene.ask()).full_text, "Hello")


_READ = 16_384


@CASES("flat", Ability.DECODE, network=False)
async def flat(scene: Scene) -> None:
    """What a delta takes doesn't grow with the answer: the ten thousandth makes as many calls as the first."""
    scene.decode(scene.wire.stream(hello()))  # so that nothing is imported below
    few, many = (_calls(scene, deltas) / deltas for deltas in (1_000, 10_000))
    check(many <= few * 1.05, f"{few:.1f} calls of functions for each of 1,000 deltas, {many:.1f} of 10,000")


def _calls(scene: Scene, deltas: int) -> int:
    body = b"".join(scene.wire.stream(hello(*[Text("x ")] * deltas)))
    reads = [body[at : at + _READ] for at in range(0, len(body), _READ)]
    made = 0

    def count(frame: object, event: str, what: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        got = scene.decode(reads)
    finally:
        sys.setprofile(before)
    check(isinstance(got.outcome, LlmResponse), f"{got.outcome}")
    return made
