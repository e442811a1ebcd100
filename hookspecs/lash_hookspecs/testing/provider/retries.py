"""Cases: what is repeated and what isn't, how long is waited, and what is told of it."""

from __future__ import annotations

from email.utils import formatdate

from attrs import evolve

from lash_hookspecs.llm import AttemptDecision, AttemptReset, AttemptSeen, ProviderFailureKind as Kind, StreamDelta
from lash_hookspecs.testing.provider.kit import NOW, USAGE, Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.server import reset, status
from lash_hookspecs.testing.provider.wire import Ability, Fault, Text, Used

__all__ = ["CASES"]

CASES = Cases("retries")


@CASES("reset", network=True)
async def repeated_after_reset(scene: Scene) -> None:
    """Where no byte of an answer was seen, the call is made again, after a wait that is told."""
    scene.server.answer(reset(), scene.say(*hello()))
    same((await scene.ask()).full_text, "Hello")
    same((scene.tries, len(scene.waits), len(scene.retries)), (2, 1, 1))
    told = scene.retries[0]
    same((told.attempt, told.wait_seconds), (1, scene.waits[0]))
    check(told.max_attempts >= 2 and told.reason, f"it tells too little: {told}")


@CASES("ladder", network=True)
async def ladder(scene: Scene) -> None:
    """Waits grow from attempt to attempt, and the attempts are as many as were set."""
    scene.open(max_attempts=4)
    scene.server.answer(*[reset()] * 6)
    error = await scene.fail()
    same((error.kind, scene.tries), (Kind.TRANSPORT, 4))
    check(scene.waits == sorted(scene.waits) and len(set(scene.waits)) == 3, f"waited {scene.waits}")


@CASES("one-attempt")
async def one_attempt(scene: Scene) -> None:
    """With one attempt nothing is repeated."""
    scene.open(max_attempts=1)
    scene.server.answer(reset())
    await scene.fail()
    same((scene.tries, scene.waits), (1, []))


@CASES("empty-stream", Ability.PROOF, network=True)
async def repeated_after_empty_stream(scene: Scene) -> None:
    """A stream that breaks off before any output or usage is asked for again; nothing has to be taken back."""
    start = scene.wire.stream([Text("x")])[:-1]
    scene.server.answer(evolve(scene.say(end="cut"), pieces=tuple(start)), scene.say(*hello()))
    same((await scene.ask()).full_text, "Hello")
    same((scene.tries, scene.text), (2, "Hello"))
    check(not any(isinstance(each, AttemptReset) for each in scene.events), "something was taken back")


@CASES("throttle", invariant=11, network=True)
async def throttle(scene: Scene) -> None:
    """A throttle that names its wait is waited for, and costs no attempt."""
    scene.open(max_attempts=1)
    scene.server.answer(scene.refuse(Fault.RATE, retry_after="2"), scene.say(*hello()))
    same((await scene.ask()).full_text, "Hello")
    same(scene.waits, [2.0])


@CASES("throttle-storm", invariant=13)
async def throttle_storm(scene: Scene) -> None:
    """A storm of throttles ends: eight waits, and the attempts."""
    scene.open(max_attempts=3)
    scene.server.answer(*[scene.refuse(Fault.RATE, retry_after="1")] * 20)
    same((await scene.fail()).kind, Kind.QUOTA)
    check(scene.tries <= 8 + 3, f"it was asked {scene.tries} times")
    check(scene.tries > 3, f"it was asked only {scene.tries} times")


@CASES("throttle-total")
async def throttle_total(scene: Scene) -> None:
    """All that is waited out of courtesy is bounded, too: long waits cost attempts."""
    scene.open(max_attempts=2)
    scene.server.answer(*[scene.refuse(Fault.RATE, retry_after="50")] * 9)
    await scene.fail()
    check(sum(scene.waits) <= 150, f"waited {scene.waits}")


@CASES("retry-after-cap")
async def retry_after_cap(scene: Scene) -> None:
    """Nobody waits for a day, whatever the service asks; that it asked for more is told."""
    scene.server.answer(scene.refuse(Fault.RATE, retry_after="86400"), scene.say(*hello()))
    await scene.ask()
    check(scene.waits[0] <= 60, f"waited {scene.waits}")
    check("86400" in scene.retries[0].reason, scene.retries[0].reason)


@CASES("retry-after-date")
async def retry_after_date(scene: Scene) -> None:
    """`Retry-After` may be a date."""
    scene.server.answer(scene.refuse(Fault.RATE, retry_after=formatdate(NOW + 7, usegmt=True)), scene.say(*hello()))
    await scene.ask()
    same(scene.waits, [7.0])


@CASES("retry-after-past", invariant=12)
async def retry_after_past(scene: Scene) -> None:
    """A date that has passed costs an attempt."""
    scene.open(max_attempts=2)
    past = formatdate(NOW - 3600, usegmt=True)
    scene.server.answer(*[scene.refuse(Fault.RATE, retry_after=past)] * 5)
    await scene.fail()
    same(scene.tries, 2)


@CASES("retry-after-skew")
async def retry_after_skew(scene: Scene) -> None:
    """A date is read by the clock of who sent it, where that is told: ours may be hours away."""
    skew = 5 * 3600
    theirs, until = (formatdate(NOW + skew + more, usegmt=True) for more in (0, 3))
    scene.server.answer(scene.refuse(Fault.RATE, date=theirs, retry_after=until), scene.say(*hello()))
    await scene.ask()
    same(scene.waits, [3.0])


def _odd_retry_after(name: str, value: str) -> None:
    async def run(scene: Scene) -> None:
        scene.open(max_attempts=2)
        scene.server.answer(*[scene.refuse(Fault.RATE, retry_after=value)] * 12)
        same((await scene.fail()).kind, Kind.QUOTA)
        check(all(0 <= wait <= 60 for wait in scene.waits), f"waited {scene.waits}")
        check(scene.tries <= 10, f"it was asked {scene.tries} times")

    CASES.add(f"retry-after-{name}", f"`Retry-After: {value}` makes nobody wait for long, or for ever.", run)


for _name, _value in {
    "zero": "0",
    "negative": "-5",
    "fraction": "0.5",
    "nan": "nan",
    "infinite": "inf",
    "huge": "9" * 400,
    "words": "later",
    "odd-date": "Tue, 99 Foo 2999 99:99:99 GMT",
}.items():
    _odd_retry_after(_name, _value)


def _once(
    name: str, fault: Fault, code: int | None, statement: str, *, invariant: int | None = None, **headers: str
) -> None:
    async def run(scene: Scene) -> None:
        scene.server.answer(scene.refuse(fault, code, **headers), scene.say(*hello()))
        await scene.fail()
        same((scene.tries, scene.waits), (1, []))

    CASES.add(name, statement, run, invariant=invariant)


_once("throttle-without-a-wait", Fault.RATE, None, "A throttle that names no wait isn't repeated.", invariant=14)
_once("overloaded", Fault.OVERLOADED, 503, "A 503 isn't repeated: it may be charged.", invariant=14)
_once(
    "overloaded-with-a-wait",
    Fault.OVERLOADED,
    503,
    "A 503 isn't repeated although it names a wait.",
    invariant=14,
    retry_after="1",
)
_once("auth", Fault.AUTH, None, "A wrong key isn't tried again.")
_once("invalid", Fault.INVALID, None, "An invalid request isn't sent again.")
_once("quota", Fault.QUOTA, None, "An empty account isn't asked again, though it names a wait.", retry_after="1")


@CASES("told-why-not", invariant=14)
async def told_why_not(scene: Scene) -> None:
    """That a failure isn't repeated since it may have been charged is its code, and in its words."""
    scene.server.answer(scene.refuse(Fault.SERVER, 500))
    error = await scene.fail()
    same((error.code, error.retryable), ("unsafe_retry_response_observed", True))
    check("charged" in error.message, error.message)


@CASES("after-output", Ability.PROOF, invariant=15, network=True)
async def after_output(scene: Scene) -> None:
    """A failure after output isn't repeated, and its code says why."""
    scene.server.answer(scene.say(Text("so"), end="cut"), scene.say(*hello()))
    error = await scene.fail()
    same((error.code, error.retryable, scene.tries), ("unsafe_retry_after_output_started", False, 1))


@CASES("lenient", Ability.LENIENT)
async def lenient(scene: Scene) -> None:
    """Who chose `lenient` has a 503 repeated."""
    scene.open(retry="lenient")
    scene.server.answer(scene.refuse(Fault.OVERLOADED, 503), scene.say(*hello()))
    same(((await scene.ask()).full_text, scene.tries), ("Hello", 2))


@CASES("retraction", Ability.LENIENT, Ability.PROOF, network=True)
async def retraction(scene: Scene) -> None:
    """What a failed attempt had streamed is taken back before the next one streams anything."""
    scene.open(retry="lenient")
    scene.server.answer(scene.say(Text("old "), Text("text"), end="cut"), scene.say(*hello()))
    same((await scene.ask()).full_text, "Hello")
    at = [type(each) for each in scene.events].index(AttemptReset)
    before = "".join(each.text for each in scene.events[:at] if isinstance(each, StreamDelta))
    after = "".join(each.text for each in scene.events[at:] if isinstance(each, StreamDelta))
    same((before, after), ("old text", "Hello"))


@CASES("off", Ability.LENIENT)
async def off(scene: Scene) -> None:
    """Who chose `off` has nothing repeated, not even where nothing was seen."""
    scene.open(retry="off")
    scene.server.answer(reset())
    await scene.fail()
    same((scene.tries, scene.waits), (1, []))


@CASES("usage-of-failed-attempts", Ability.LENIENT, Ability.PROOF)
async def usage_of_failed_attempts(scene: Scene) -> None:
    """What failed attempts used is part of the call's usage, which is then a lower bound."""
    scene.open(retry="lenient")
    scene.server.answer(scene.say(Text("so"), Used(USAGE), end="cut"), scene.say(*hello()))
    same((await scene.ask()).usage, evolve(USAGE + USAGE, at_least=True))


@CASES("attempts-recorded")
async def attempts_recorded(scene: Scene) -> None:
    """The answer tells of each attempt before it: what it met, what followed, and how long was waited."""
    scene.server.answer(reset(), scene.refuse(Fault.RATE, retry_after="2"), scene.say(*hello()))
    first, second = (await scene.ask()).failed_attempts
    same((first.ordinal, first.kind, first.seen), (1, Kind.TRANSPORT, AttemptSeen.NOTHING))
    same((first.decision, first.waited), (AttemptDecision.REPEATED, scene.waits[0]))
    same((second.ordinal, second.kind, second.status), (2, Kind.QUOTA, 429))
    same((second.decision, second.waited), (AttemptDecision.COURTESY, 2.0))
    same((second.seen, second.usage), (AttemptSeen.RESPONSE, None))
    check(all(each.lasted >= 0 and 0 < len(each.message) <= 1024 for each in (first, second)), "a record is odd")


@CASES("attempts-of-a-failure")
async def attempts_of_a_failure(scene: Scene) -> None:
    """A call that failed after several attempts tells of all, the last one included."""
    scene.server.answer(reset(), scene.refuse(Fault.INVALID))
    attempts = (await scene.fail()).failed_attempts
    same([each.decision for each in attempts], [AttemptDecision.REPEATED, AttemptDecision.GAVE_UP])


@CASES("no-records-without-need")
async def no_records_without_need(scene: Scene) -> None:
    """A call that is answered at once has no record of failed attempts."""
    scene.server.answer(scene.say(*hello()))
    same((await scene.ask()).failed_attempts, ())


@CASES("same-bytes")
async def same_bytes(scene: Scene) -> None:
    """A repeated request is the same, byte by byte."""
    scene.server.answer(reset(), reset(), scene.say(*hello()))
    await scene.ask()
    same(len({request.body for request in scene.server.requests}), 1)


@CASES("cancelled-while-waiting", network=True)
async def cancelled_while_waiting(scene: Scene) -> None:
    """Who cancels during a wait between attempts waits no longer, and nothing is asked again."""
    import anyio

    with anyio.CancelScope() as scope:

        async def sleep(seconds: float) -> None:
            scope.cancel()
            await anyio.sleep(seconds)

        scene.open(sleep=sleep)
        scene.server.answer(status(429, scene.wire.error(Fault.RATE, "slowly"), headers={"retry-after": "50"}))
        await scene.ask()
    check(scope.cancelled_caught, "the call ended otherwise")
    same(scene.tries, 1)
