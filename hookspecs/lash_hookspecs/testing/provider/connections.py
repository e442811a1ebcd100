"""Cases: what happens to sockets, judged by the server: cancelled, given up, used again, closed, and many at a time."""

from __future__ import annotations

import threading

import anyio
import anyio.lowlevel
import anyio.to_thread

from lash_hookspecs.testing.provider.asking import asked, user
from lash_hookspecs.testing.provider.kit import Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.server import RecordedRequest, hanging
from lash_hookspecs.testing.provider.wire import Ability, Fault, Text

__all__ = ["CASES"]

CASES = Cases("connections", network=True)

_SOON_S = 5.0


async def _soon(event: threading.Event, what: str) -> None:
    """Wait for what the server's thread sees."""
    check(await anyio.to_thread.run_sync(event.wait, _SOON_S), f"it never happened: {what}")


@CASES("cancel-while-streaming")
async def cancel_while_streaming(scene: Scene) -> None:
    """Who cancels in the middle of an answer closes its connection at once: an unread answer is paid for."""
    scene.server.answer(scene.say(Text("so"), end="hang"))
    with anyio.CancelScope() as scope:

        async def listen(events: object) -> None:
            scope.cancel()
            await anyio.lowlevel.checkpoint()

        await scene.open().complete(scene.request, listen)
    check(scope.cancelled_caught, "the call ended otherwise")
    await _soon(scene.server.client_left, "the connection was closed")


@CASES("cancel-before-the-answer")
async def cancel_before_the_answer(scene: Scene) -> None:
    """Who cancels before the first byte closes the connection, too."""
    scene.server.answer(hanging())
    scene.open()
    async with anyio.create_task_group() as group:
        group.start_soon(scene.ask)
        await _soon(scene.server.asked, "a request came")
        group.cancel_scope.cancel()
    await _soon(scene.server.client_left, "the connection was closed")
    same(scene.tries, 1)


@CASES("listener-fails")
async def listener_fails(scene: Scene) -> None:
    """Where the listener raises, its exception comes through, and the connection is closed."""
    scene.server.answer(scene.say(Text("so"), end="hang"))

    async def listen(events: object) -> None:
        raise ZeroDivisionError

    try:
        await scene.open().complete(scene.request, listen)
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("the listener's exception is lost")
    await _soon(scene.server.client_left, "the connection was closed")


@CASES("timeout")
async def timeout(scene: Scene) -> None:
    """A call that gave up closes its connection: the service need not go on."""
    scene.open(max_attempts=1, chunk_timeout_s=0.1)
    scene.server.answer(scene.say(Text("so"), end="hang"))
    await scene.fail()
    await _soon(scene.server.client_left, "the connection was closed")


@CASES("too-large", Ability.CAPS)
async def too_large(scene: Scene) -> None:
    """An answer that is too large isn't read on."""
    scene.open(max_stream_bytes=10_000)
    scene.server.answer(scene.say(Text("x" * 20_000), end="hang"))
    await scene.fail()
    await _soon(scene.server.client_left, "the connection was closed")


@CASES("reuse")
async def reuse(scene: Scene) -> None:
    """One call after the other uses one connection."""
    scene.server.answer(*[scene.say(*hello())] * 3)
    for _ in range(3):
        same((await scene.ask()).full_text, "Hello")
    same(scene.server.connections, 1)


@CASES("reuse-after-refusal")
async def reuse_after_refusal(scene: Scene) -> None:
    """A refusal that was read whole keeps the connection."""
    scene.server.answer(scene.refuse(Fault.INVALID), scene.say(*hello()))
    await scene.fail()
    same((await scene.ask()).full_text, "Hello")
    same(scene.server.connections, 1)


@CASES("close")
async def close(scene: Scene) -> None:
    """`aclose` leaves no connection open."""
    scene.server.answer(scene.say(*hello()))
    provider = scene.open()
    await scene.ask()
    await provider.aclose()
    for _ in range(500):
        if not scene.server.open_connections:
            return
        await anyio.sleep(0.01)
    raise AssertionError("a connection is still open")


@CASES("close-twice")
async def close_twice(scene: Scene) -> None:
    """`aclose` may be called without any call before it, and again."""
    provider = scene.open()
    await provider.aclose()
    await provider.aclose()
    same(scene.server.connections, 0)


@CASES("nothing-before-the-first-call")
async def nothing_before_the_first_call(scene: Scene) -> None:
    """Opening a provider, and asking what a model can do, opens no connection."""
    provider = scene.open()
    check(provider.capability("test-model") is not None, "`capability` returned nothing")
    same(scene.server.connections, 0)


@CASES("many-at-once")
async def many_at_once(scene: Scene) -> None:
    """Many calls at a time each get their own answer."""
    numbers = range(40)
    marks = {f"question-{number}-": number for number in numbers}

    def choose(request: RecordedRequest) -> object:
        number = next(number for mark, number in marks.items() if mark.encode() in request.body)
        return scene.say(*hello(Text(f"answer {number}, "), Text("and more")))

    scene.server.choose = choose  # type: ignore[assignment]  # it returns answers only
    provider = scene.open()
    got: dict[int, str] = {}
    streamed: dict[int, str] = dict.fromkeys(numbers, "")

    async def one(number: int) -> None:
        async def listen(events: object) -> None:
            for each in events:  # type: ignore[attr-defined]  # a sequence
                streamed[number] += getattr(each, "text", "")

        answer = await provider.complete(asked(user(f"question-{number}-")), listen)
        got[number] = answer.full_text

    async with anyio.create_task_group() as group:
        for number in numbers:
            group.start_soon(one, number)
    same(got, {number: f"answer {number}, and more" for number in numbers})
    same(streamed, got)


@CASES("one-cancelled-of-many")
async def one_cancelled_of_many(scene: Scene) -> None:
    """Cancelling one call leaves the others alone."""
    scene.server.choose = lambda request: hanging() if b"stuck" in request.body else scene.say(*hello())
    provider = scene.open()
    async with anyio.create_task_group() as group:
        group.start_soon(provider.complete, asked(user("stuck")), scene.listen)
        await _soon(scene.server.asked, "a request came")
        same((await scene.ask()).full_text, "Hello")
        group.cancel_scope.cancel()
    same((await scene.ask()).full_text, "Hello")
