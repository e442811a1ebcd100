"""Cases: where the network cuts an answer changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from lash_hookspecs.llm import LlmResponse, LlmTerminalReason as Reason
from lash_hookspecs.testing.provider.answers import calls_of
from lash_hookspecs.testing.provider.kit import Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.wire import Ability, Call, Decoded, Fails, Fault, Reasoning, Said, Sealed, Text

__all__ = ["CASES"]

CASES = Cases("chunking")

_APART = 257
"""Bytes between two cuts of one answer: most of its reads then hold the end of an event and the start of another."""

_ARGUMENTS = '{"city": "Zürich", "n": [1, {"a": null}]}'


def _summary(got: Decoded) -> object:
    """What has to be the same: ids that a provider makes up itself may differ."""
    outcome = got.outcome
    if not isinstance(outcome, LlmResponse):
        return got.events, evolve(outcome, message="")
    parts = [
        (type(part).__name__, getattr(part, "text", None), getattr(part, "replay", None)) for part in outcome.parts
    ]
    return got.events, parts, calls_of(outcome), outcome.usage, outcome.terminal_reason


def _pieces(body: bytes, places: Sequence[int]) -> list[bytes]:
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


def _which(scene: Scene, body: bytes, places: Sequence[int], whole: object) -> str:
    """Which of several cuts changes an answer."""
    for at in places:
        if _summary(scene.decode([body[:at], body[at:]])) != whole:
            return f"cut after byte {at}, between {body[:at][-40:]!r} and {body[at:][:40]!r}"
    return f"cut after bytes {list(places)} together"


def _everywhere(name: str, said: Sequence[Said], what: str, *needs: Ability, invariant: int | None = 1) -> None:
    async def run(scene: Scene) -> None:
        body = b"".join(scene.wire.stream(said))
        whole = _summary(scene.decode([body]))
        same(_summary(scene.decode(body[at : at + 1] for at in range(len(body)))), whole)
        # Each byte is cut behind in one of these, together with every so manieth one.
        for first in range(1, min(_APART, len(body))):
            places = range(first, len(body), _APART)
            if _summary(scene.decode(_pieces(body, places))) != whole:
                raise AssertionError(_which(scene, body, places, whole))

    statement = f"{what} is the same, cut at any byte, and byte by byte."
    CASES.add(name, statement, run, Ability.DECODE, *needs, invariant=invariant)


_everywhere("text", hello(Text("Hel"), Text("lö 👩‍👧 \u2028\n\n"), Text("there")), "An answer of text")
_everywhere(
    "calls",
    hello(Call("call_1", "weather", (_ARGUMENTS,)), Call("call_2", "now", ("{}",)), reason=Reason.TOOL_USE),
    "An answer of calls",
)
_everywhere("reasoning", hello(Reasoning("hm, Ü"), Text("so")), "Reasoning", Ability.REASONING)
_everywhere("sealed", hello(Reasoning("hm"), Sealed("b3BhcXVl"), Text("so")), "Opaque state", Ability.SEALED)
_everywhere("failure", (Text("so"), Fails(Fault.OVERLOADED, "too müch")), "An error in the stream", Ability.FAILS)


@CASES("arguments", Ability.DECODE, Ability.PARTIAL_CALLS)
async def arguments(scene: Scene) -> None:
    """A call's arguments are the same wherever the service cuts them, and character by character."""
    ways = [tuple(_ARGUMENTS), *((_ARGUMENTS[:at], _ARGUMENTS[at:]) for at in range(1, len(_ARGUMENTS)))]
    for pieces in ways:
        body = b"".join(scene.wire.stream(hello(Call("call_1", "weather", pieces), reason=Reason.TOOL_USE)))
        (part,) = _answer(scene.decode([body])).parts
        same(getattr(part, "input_json", None), _ARGUMENTS)


@CASES("bytes-on-the-socket", invariant=1, network=True)
async def bytes_on_the_socket(scene: Scene) -> None:
    """An answer whose bytes are each sent alone is the same."""
    body = b"".join(scene.wire.stream(hello(Text("lö 👩‍👧"), Call("call_1", "now", ("{}",)), reason=Reason.TOOL_USE)))
    scene.server.answer(evolve(scene.say(), pieces=tuple(body[at : at + 1] for at in range(len(body)))))
    answer = await scene.ask()
    same((answer.full_text, scene.text, calls_of(answer)), ("lö 👩‍👧", "lö 👩‍👧", [("now", {})]))


@CASES("one-write")
async def one_write(scene: Scene) -> None:
    """An answer that comes in one read is the same, delta by delta."""
    body = b"".join(scene.wire.stream(hello(*map(Text, "Hello there"))))
    scene.server.answer(evolve(scene.say(), pieces=(body,)))
    same((await scene.ask()).full_text, "Hello there")
    same(scene.text, "Hello there")


def _lines(name: str, end: bytes, what: str) -> None:
    async def run(scene: Scene) -> None:
        body = b"".join(scene.wire.stream(hello(Text("Hel"), Text("lo")))).replace(b"\n", end)
        for reads in ([body], [body[at : at + 1] for at in range(len(body))]):
            got = scene.decode(reads)
            same(_answer(got).full_text, "Hello")
            same("".join(getattr(each, "text", "") for each in got.events), "Hello")

    CASES.add(
        name,
        f"Lines may end with {what}, as in the specification of event streams.",
        run,
        Ability.DECODE,
        Ability.LINES,
    )


_lines("crlf", b"\r\n", "CR and LF")
_lines("cr", b"\r", "CR alone")


@CASES("byte-order-mark", Ability.DECODE, Ability.LINES)
async def byte_order_mark(scene: Scene) -> None:
    """A byte order mark before the first event is passed over."""
    body = b"\xef\xbb\xbf" + b"".join(scene.wire.stream(hello()))
    same(_answer(scene.decode([body])).full_text, "Hello")
    same(_answer(scene.decode([body[:1], body[1:2], body[2:]])).full_text, "Hello")


@CASES("no-last-blank-line", Ability.LINES, invariant=2)
async def no_last_blank_line(scene: Scene) -> None:
    """The last event counts although the blank line after it is missing."""
    body = b"".join(scene.wire.stream(hello())).rstrip(b"\r\n")
    scene.server.answer(evolve(scene.say(), pieces=(body,)))
    answer = await scene.ask()
    same((answer.full_text, answer.terminal_reason), ("Hello", Reason.STOP))


@CASES("cut-anywhere", Ability.DECODE, Ability.PROOF, invariant=10)
async def cut_anywhere(scene: Scene) -> None:
    """A stream that breaks off before what proves it whole, wherever, is never taken for an answer."""
    body = b"".join(scene.wire.stream((Text("Hel"), Text("lo"))))
    for at in range(len(body) + 1):
        outcome = scene.decode([body[:at]]).outcome
        check(not isinstance(outcome, LlmResponse), f"taken for an answer, cut after byte {at}: {outcome!r}")


def _answer(got: Decoded) -> LlmResponse:
    if not isinstance(got.outcome, LlmResponse):
        raise AssertionError(f"no answer: {got.outcome!r}")
    return got.outcome
