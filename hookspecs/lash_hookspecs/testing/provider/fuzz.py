"""A fuzzer: answers of the wire, damaged, through its decoder alone. Whatever comes, there is a typed outcome.

Two ways to the same check: `decoding` is a short test that hypothesis drives, and shrinks; `soak` takes seeds in a row,
for as many events as one likes, and names the seed that failed (`attack(wire, Random(SEED))` does it again).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from lash_hookspecs.llm import (
    LlmCallError,
    LlmResponse,
    LlmTerminalReason as Reason,
    ProviderFailureKind,
    StreamDelta,
    TokenUsage,
)
from lash_hookspecs.testing.provider.kit import check
from lash_hookspecs.testing.provider.wire import (
    Ability,
    Call,
    Decoded,
    Ends,
    Fails,
    Fault,
    Novelty,
    Reasoning,
    Refusal,
    Said,
    Sealed,
    Text,
    Used,
    Wire,
)

__all__ = ["attack", "decoding", "soak"]

# Small, so that mutated answers meet them now and then.
_EVENT_BYTES = 16 * 1024
_STREAM_BYTES = 64 * 1024
_JSON = (b"null", b"{}", b"[]", b"-1", b"1e999", b"NaN", b"true", b'"', b"\\", b"\\ud800", b"}", b"{", b"[" * 2000)
_LINES = (b"\xff", b"\x00", b"\n\n", b"\r", b"data: ", b"data:", b"event: x\n", b": x\n", b"[DONE]", b"x" * 20_000)
_TOKENS = (*_JSON, *_LINES)
_VALUES: tuple[Any, ...] = (None, True, 0, -1, 1.5, 2**70, "", "x", "\ud800", [], {}, [None], {"": {}}, [[1, "x", {}]])
_WORDS = ("Hel", "lo ", "ü", "👩‍👧", "\n", "{", '"', "data: ", "", "\\", "0")


def decoding(wire: Wire, *, examples: int = 60) -> Callable[[], None]:
    """A pytest test of so many damaged answers, which hypothesis makes. Skipped for a wire that can't `decode`."""
    import pytest
    from hypothesis import HealthCheck, given, settings, strategies as st

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def test_decoding(random: Random) -> None:
        attack(wire, random)

    missing = wire.cannot.get(Ability.DECODE)
    return pytest.mark.skip(reason=f"{missing}")(test_decoding) if missing is not None else test_decoding


def soak(wire: Wire, events: int, *, seed: int = 0) -> int:
    """Attack the decoder with seeds from `seed` on until so many events were damaged; how many there were."""
    done = 0
    while done < events:
        try:
            done += attack(wire, Random(seed))
        except Exception as exc:
            raise AssertionError(f"seed {seed}: {exc}") from exc
        seed += 1
    return done


def attack(wire: Wire, random: Random) -> int:
    """Make an answer, damage it, decode it twice, cut in two ways, and check what comes out; its number of events."""
    whole = random.random() < 0.15 and Ability.DOCUMENT not in wire.cannot
    said = _answer(wire, random)
    events = [wire.document(_as_document(said))] if whole else wire.stream(said)
    body = b"".join(_damaged(events, random))
    one = _decode(wire, [body], whole)
    _check(one, body)
    other = _decode(wire, _cut(body, random), whole)
    check(_same(one, other), f"cut otherwise, {body[:2000]!r} gives\n{other!r}\ninstead of\n{one!r}")
    return max(1, len(events))


# ---- answers


def _answer(wire: Wire, random: Random) -> list[Said]:
    can = {
        Reasoning: Ability.REASONING,
        Sealed: Ability.SEALED,
        Refusal: Ability.REFUSAL,
        Fails: Ability.FAILS,
    }
    makers: list[tuple[type, Callable[[], Said]]] = [
        (Text, lambda: Text(random.choice(_WORDS) * random.randint(1, 3))),
        (Text, lambda: Text(random.choice(_WORDS))),
        (Reasoning, lambda: Reasoning(random.choice(_WORDS))),
        (Sealed, lambda: Sealed("b3BhcXVl")),
        (Refusal, lambda: Refusal("no")),
        (Call, lambda: _call(random)),
        (Used, lambda: Used(TokenUsage(input=random.randrange(99), output=random.randrange(99)))),
        (Novelty, Novelty),
        (Fails, lambda: Fails(random.choice(list(Fault)), "broken")),
    ]
    able = [make for kind, make in makers if can.get(kind) not in wire.cannot]
    said = [random.choice(able)() for _ in range(random.randint(0, 8))]
    return [*said, Used(TokenUsage(input=3, output=4)), Ends(random.choice((Reason.STOP, Reason.OUTPUT_LIMIT)))]


def _call(random: Random) -> Call:
    text = json.dumps({"a": random.choice(_WORDS), "n": [1, None]})
    at = random.randint(0, len(text))
    return Call(f"call_{random.randrange(3)}", random.choice(("weather", "now")), (text[:at], text[at:]))


def _as_document(said: Sequence[Said]) -> list[Said]:
    """The same as a document can say it: one report, one end, nothing that only streams have."""
    kept: list[Said] = [step for step in said if isinstance(step, Text | Reasoning | Call)]
    return [*kept, Used(TokenUsage(input=3, output=4)), Ends(Reason.STOP)]


# ---- damage


def _damaged(events: Sequence[bytes], random: Random) -> list[bytes]:
    damaged = list(events)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 6))):
        at = random.randrange(len(damaged)) if damaged else 0
        if not damaged:
            break
        match random.randrange(8):
            case 0:
                damaged[at] = _bytes_changed(damaged[at], random)
            case 1 | 2 | 3:
                damaged[at] = _value_changed(damaged[at], random)
            case 4:
                damaged[at:at] = [damaged[random.randrange(len(damaged))]] * random.choice((1, 1, 2, 40))
            case 5:
                del damaged[at : at + random.randint(1, 3)]
            case 6:
                damaged[at] = damaged[at][: random.randrange(len(damaged[at]) + 1)]
            case _:
                random.shuffle(damaged)
    return damaged


def _bytes_changed(event: bytes, random: Random) -> bytes:
    at = random.randrange(len(event) + 1)
    end = at + random.choice((0, 0, 1, 5))
    return event[:at] + random.choice((*_TOKENS, bytes([random.randrange(256)]))) + event[end:]


def _value_changed(event: bytes, random: Random) -> bytes:
    """The event with one JSON value of another type somewhere within, or one field more, or less."""
    lines = event.split(b"\n")
    for number, line in enumerate(lines):
        name, mark, value = line.partition(b": ") if line.startswith(b"data") else (b"", b"", line)
        try:
            decoded = json.loads(value)
        except (ValueError, RecursionError):
            continue
        if isinstance(decoded, dict | list) and decoded:
            _change(decoded, random)
            lines[number] = name + mark + json.dumps(decoded).encode()
            return b"\n".join(lines)
    return event


def _change(value: Any, random: Random) -> None:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = random.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.75:
            value = inner
            continue
        match random.randrange(6):
            case 0 if isinstance(value, dict):
                del value[key]
            case 1 if isinstance(value, dict):
                value[random.choice(("error", "type", "index", "id", "delta", "x"))] = random.choice(_VALUES)
            case _:
                value[key] = random.choice(_VALUES)
        return


def _cut(body: bytes, random: Random) -> list[bytes]:
    places = sorted(random.randrange(len(body) + 1) for _ in range(random.choice((1, 3, 20))))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


# ---- what has to be true


def _decode(wire: Wire, reads: Sequence[bytes], whole: bool) -> Decoded:
    return wire.decode(reads, document=whole, max_event_bytes=_EVENT_BYTES, max_stream_bytes=_STREAM_BYTES)


def _check(got: Decoded, body: bytes) -> None:
    outcome = got.outcome
    text = "".join(each.text for each in got.events if isinstance(each, StreamDelta))
    check(len(text) <= min(len(body), _STREAM_BYTES), f"{len(text)} characters came of {len(body)} bytes")
    match outcome:
        case LlmCallError():
            check(isinstance(outcome.kind, ProviderFailureKind), f"the kind is {outcome.kind!r}")
            check(outcome.code and isinstance(outcome.code, str), f"the code is {outcome.code!r}")
            check(outcome.message and isinstance(outcome.message, str), f"the message is {outcome.message!r}")
        case LlmResponse():
            check(isinstance(outcome.terminal_reason, Reason), f"the reason is {outcome.terminal_reason!r}")
            check(outcome.full_text == text, f"{text!r} was streamed of {outcome.full_text!r}, from {body[:2000]!r}")
            counts = outcome.usage
            check(min(counts.input, counts.output, counts.cache_read_input, counts.reasoning_output) >= 0, f"{counts}")
            check(all(isinstance(getattr(part, "text", ""), str) for part in outcome.parts), f"{outcome.parts!r}")
        case _:
            raise AssertionError(f"no typed outcome: {outcome!r}")


def _same(one: Decoded, other: Decoded) -> bool:
    """Whether two decodings say the same, made-up ids and the words of errors aside."""
    if isinstance(one.outcome, LlmCallError) or isinstance(other.outcome, LlmCallError):
        codes = [getattr(each.outcome, "code", None) for each in (one, other)]
        # Of an event that is too large, a cut decides whether what stood before it in the same read was seen.
        return codes[0] == codes[1] and (codes[0] == "stream_too_large" or one.events == other.events)
    return one.events == other.events and one.outcome.terminal_reason is other.outcome.terminal_reason
