"""Cases: what a whole answer says, how it is streamed, and what it cost."""

from __future__ import annotations

import itertools
import json

from attrs import evolve

from lash_hookspecs.llm import (
    LlmResponse,
    LlmTerminalReason as Reason,
    ReasoningOutput,
    StreamUsage,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
)
from lash_hookspecs.testing.provider.kit import USAGE, Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.wire import (
    MODEL,
    RESPONSE_ID,
    Ability,
    Call,
    Ends,
    Novelty,
    Reasoning,
    Refusal,
    Said,
    Text,
    Used,
)

__all__ = ["CASES", "calls_of"]

CASES = Cases("answers")

WEATHER = Call("call_1", "weather", ('{"city": ', '"Vi', 'enna"}'))
CLOCK = Call("call_2", "clock", ('{"zone"', ':"CET"}'))


async def told(scene: Scene, *said: Said) -> LlmResponse:
    """The provider's answer, where the service says this."""
    scene.server.answer(scene.say(*said))
    return await scene.ask()


def calls_of(answer: LlmResponse) -> list[tuple[str, object]]:
    """Names and arguments."""
    calls = [part for part in answer.parts if isinstance(part, ToolCallOutputPart)]
    return [(call.tool_name, json.loads(call.input_json)) for call in calls]


def ids_of(answer: LlmResponse) -> list[str]:
    """The ids of the calls."""
    return [part.call_id for part in answer.parts if isinstance(part, ToolCallOutputPart)]


# ---- text and reasoning


@CASES("text", network=True)
async def text(scene: Scene) -> None:
    """Text is streamed as it comes, and is whole in the answer, with the usage and the reason of its end."""
    answer = await told(scene, *hello(Text("Hel"), Text("lo"), Text(" there")))
    same(scene.text, "Hello there")
    same(answer.full_text, "Hello there")
    same("".join(part.text for part in answer.parts if isinstance(part, TextOutput)), "Hello there")
    same(answer.usage, USAGE)
    same(answer.terminal_reason, Reason.STOP)


@CASES("deltas")
async def deltas(scene: Scene) -> None:
    """A long answer comes through whole, in order, in as many deltas as the service made."""
    pieces = [f"<{number}>" for number in range(500)]
    answer = await told(scene, *hello(*map(Text, pieces)))
    same(answer.full_text, "".join(pieces))
    same(scene.text, answer.full_text)
    check(len([each for each in scene.events if getattr(each, "text", "")]) == 500, "deltas were joined or split")


@CASES("characters", invariant=1)
async def characters(scene: Scene) -> None:
    """Characters of every kind come through: many bytes, control characters, what looks like the wire itself."""
    said = 'naïve 𝔘 👩‍👩‍👧 \u2028 "quoted" \\ \t\n\r\n data: [DONE]\n\n end'
    answer = await told(scene, *hello(*map(Text, said)))
    same(answer.full_text, said)
    same(scene.text, said)


@CASES("first-delta-at-once", network=True)
async def first_delta_at_once(scene: Scene) -> None:
    """What has come is streamed before the rest is there."""
    import threading

    gate = threading.Event()
    first, *rest = scene.wire.stream([Text("now"), Text("later"), Used(USAGE), Ends(Reason.STOP)])
    at = next(place for place, event in enumerate(rest) if b"later" in event)
    answer = scene.say()
    held = evolve(answer, pieces=(b"".join([first, *rest[:at]]), b"".join(rest[at:])), gate=gate)
    scene.server.answer(held)
    seen: list[str] = []

    async def listen(events: object) -> None:
        await scene.listen(events)  # type: ignore[arg-type]  # as a provider calls it
        if scene.text == "now":
            seen.append("now")
            gate.set()

    await scene.open().complete(scene.request, listen)
    same(seen, ["now"])
    same(scene.text, "nowlater")


@CASES("empty")
async def empty(scene: Scene) -> None:
    """An answer without any text is an answer."""
    answer = await told(scene, Used(USAGE), Ends(Reason.STOP))
    same((answer.full_text, scene.text), ("", ""))
    same(answer.terminal_reason, Reason.STOP)
    same(answer.usage, USAGE)


@CASES("reasoning", Ability.REASONING)
async def reasoning(scene: Scene) -> None:
    """Shown reasoning is streamed apart from the text, and stands before it in the answer."""
    answer = await told(scene, *hello(Reasoning("Let me "), Reasoning("see."), Text("Four.")))
    same((scene.reasoning, scene.text), ("Let me see.", "Four."))
    same(answer.full_text, "Four.")
    kinds = [type(part) for part in answer.parts if getattr(part, "text", "")]
    same(kinds, [ReasoningOutput, TextOutput])
    same("".join(part.text for part in answer.parts if isinstance(part, ReasoningOutput)), "Let me see.")


@CASES("refusal", Ability.REFUSAL, invariant=9)
async def refusal(scene: Scene) -> None:
    """A refusal ends the answer as filtered, with the refusal's words."""
    answer = await told(scene, Refusal("I can't "), Refusal("help."), Used(USAGE), Ends(Reason.STOP))
    same(answer.terminal_reason, Reason.CONTENT_FILTER)
    check("I can't help." in (answer.terminal_diagnostic or "") + answer.full_text, "the refusal's words are lost")


@CASES("empty-refusal", Ability.REFUSAL, invariant=9)
async def empty_refusal(scene: Scene) -> None:
    """An empty refusal is none."""
    answer = await told(scene, Text("Yes."), Refusal(""), Used(USAGE), Ends(Reason.STOP))
    same(answer.terminal_reason, Reason.STOP)


@CASES("response-id", Ability.RESPONSE_ID)
async def response_id(scene: Scene) -> None:
    """The service's id of the answer is kept."""
    same((await told(scene, *hello())).response_id, RESPONSE_ID)


@CASES("served-model", Ability.SERVED_MODEL)
async def served_model(scene: Scene) -> None:
    """The model that the service names is kept."""
    same((await told(scene, *hello())).served_model, MODEL)


@CASES("http-summary")
async def http_summary(scene: Scene) -> None:
    """The answer says what was asked, and with which status it was answered."""
    summary = (await told(scene, *hello())).http_summary or ""
    check("200" in summary, f"`http_summary` has no status: {summary!r}")


@CASES("document", Ability.DOCUMENT, network=True)
async def document(scene: Scene) -> None:
    """An answer that comes whole, although a stream was asked for, says the same."""
    said = hello(Text("Hello"), WEATHER, reason=Reason.TOOL_USE)
    answer = scene.wire.document(said)
    scene.server.answer(scene.one_piece(answer))
    got = await scene.ask()
    same((got.full_text, calls_of(got)), ("Hello", [("weather", {"city": "Vienna"})]))
    same((got.usage, got.terminal_reason), (USAGE, Reason.TOOL_USE))
    same(scene.text, "Hello")


# ---- calls


@CASES("call", network=True)
async def call(scene: Scene) -> None:
    """A tool call has its name and its arguments as JSON text, and ends the answer as such."""
    answer = await told(scene, *hello(WEATHER, reason=Reason.TOOL_USE))
    same(calls_of(answer), [("weather", {"city": "Vienna"})])
    same(answer.terminal_reason, Reason.TOOL_USE)
    check(all(ids_of(answer)), "a call has no id")


@CASES("call-ids", Ability.CALL_IDS)
async def call_ids(scene: Scene) -> None:
    """A call keeps the id that the service gave it."""
    answer = await told(scene, *hello(WEATHER, CLOCK, reason=Reason.TOOL_USE))
    same(ids_of(answer), ["call_1", "call_2"])


@CASES("call-after-text")
async def call_after_text(scene: Scene) -> None:
    """Text before a call is text, and stands before it."""
    answer = await told(scene, *hello(Text("Let me look."), WEATHER, reason=Reason.TOOL_USE))
    same([type(part) for part in answer.parts], [TextOutput, ToolCallOutputPart])
    same(scene.text, "Let me look.")


@CASES("parallel-calls")
async def parallel_calls(scene: Scene) -> None:
    """Several calls come in their order, each with its own arguments and another id, also of the same tool."""
    again = Call("call_3", "weather", ('{"city":"Graz"}',))
    answer = await told(scene, *hello(WEATHER, CLOCK, again, reason=Reason.TOOL_USE))
    cities = [("weather", {"city": "Vienna"}), ("clock", {"zone": "CET"}), ("weather", {"city": "Graz"})]
    same(calls_of(answer), cities)
    same(len(set(ids_of(answer))), 3)


@CASES("no-arguments")
async def no_arguments(scene: Scene) -> None:
    """A call without arguments has an empty object of them."""
    answer = await told(scene, *hello(Call("call_1", "now", ("{}",)), reason=Reason.TOOL_USE))
    same(calls_of(answer), [("now", {})])


@CASES("nested-arguments")
async def nested_arguments(scene: Scene) -> None:
    """Arguments keep all that JSON can say: nesting, numbers, escapes, nulls."""
    value = {"a": [1, 2.5, -3e20, None, True, {"b": "\u00e9\n\"'\\"}], "empty": {}, "": []}
    text_of = json.dumps(value)
    pieces = tuple(text_of[at : at + 3] for at in range(0, len(text_of), 3))
    answer = await told(scene, *hello(Call("call_1", "any", pieces), reason=Reason.TOOL_USE))
    same(calls_of(answer), [("any", value)])


@CASES("broken-arguments", Ability.PARTIAL_CALLS)
async def broken_arguments(scene: Scene) -> None:
    """Arguments that are no JSON are handed on as the model wrote them: the turn tells the model, not the provider."""
    answer = await told(scene, *hello(Call("call_1", "any", ('{"city": "Vie',)), reason=Reason.TOOL_USE))
    (part,) = answer.parts
    check(isinstance(part, ToolCallOutputPart) and part.input_json == '{"city": "Vie', f"got {part!r}")


@CASES("calls-are-not-streamed")
async def calls_are_not_streamed(scene: Scene) -> None:
    """Nothing of a call is streamed as text."""
    await told(scene, *hello(WEATHER, reason=Reason.TOOL_USE))
    same((scene.text, scene.reasoning), ("", ""))


# ---- how it ended


@CASES("stop-with-calls")
async def stop_with_calls(scene: Scene) -> None:
    """An answer with calls is one that wants them made, though its service calls that a stop."""
    same((await told(scene, *hello(WEATHER, reason=Reason.STOP))).terminal_reason, Reason.TOOL_USE)


@CASES("output-limit")
async def output_limit(scene: Scene) -> None:
    """An answer that met the output limit says so, and keeps its text."""
    answer = await told(scene, *hello(Text("and so"), reason=Reason.OUTPUT_LIMIT))
    same((answer.terminal_reason, answer.full_text), (Reason.OUTPUT_LIMIT, "and so"))


@CASES("limit-beats-calls", invariant=8)
async def limit_beats_calls(scene: Scene) -> None:
    """An answer that met the output limit isn't taken for one that wants its calls made: the last may be cut off."""
    answer = await told(scene, *hello(WEATHER, reason=Reason.OUTPUT_LIMIT))
    same(answer.terminal_reason, Reason.OUTPUT_LIMIT)


@CASES("content-filter", Ability.CONTENT_FILTER)
async def content_filter(scene: Scene) -> None:
    """An answer that was filtered says so."""
    same((await told(scene, *hello(reason=Reason.CONTENT_FILTER))).terminal_reason, Reason.CONTENT_FILTER)


@CASES("unknown-reason", Ability.UNKNOWN_REASON)
async def unknown_reason(scene: Scene) -> None:
    """A reason that nobody knows is an error of the provider's that names it; the text is kept."""
    answer = await told(scene, *hello(Text("so"), reason="gravitational_wave"))
    same((answer.terminal_reason, answer.full_text), (Reason.PROVIDER_ERROR, "so"))
    check("gravitational_wave" in (answer.terminal_diagnostic or ""), "the diagnostic doesn't name the reason")


# ---- usage


def _usage_case(name: str, usage: TokenUsage, statement: str, *needs: Ability, invariant: int | None = 7) -> None:
    async def run(scene: Scene) -> None:
        same((await told(scene, *hello(usage=usage))).usage, usage)
        shown = [each.usage for each in scene.events if isinstance(each, StreamUsage)]
        check(shown and shown[-1] == usage, f"the last usage that was streamed is {shown[-1:]}")

    CASES.add(name, statement, run, *needs, invariant=invariant)


_usage_case("usage", TokenUsage(input=12, output=7), "Input and output tokens are told, and streamed.")
_usage_case(
    "usage-cache-read",
    TokenUsage(input=100, output=7, cache_read_input=900),
    "What was read from a cache isn't input too.",
    Ability.CACHE_READ_USAGE,
)
_usage_case(
    "usage-cache-write",
    TokenUsage(input=10, output=7, cache_read_input=20, cache_write_input=70),
    "What was written to a cache isn't input too.",
    Ability.CACHE_READ_USAGE,
    Ability.CACHE_WRITE_USAGE,
)
_usage_case(
    "usage-all-cached",
    TokenUsage(input=0, output=7, cache_read_input=1000),
    "Where all was read from a cache, no input is left, and never less than none.",
    Ability.CACHE_READ_USAGE,
)
_usage_case(
    "usage-reasoning",
    TokenUsage(input=12, output=70, reasoning_output=60),
    "Reasoning is a part of the output.",
    Ability.REASONING_USAGE,
)


@CASES("usage-never-decreases", invariant=6)
async def usage_never_decreases(scene: Scene) -> None:
    """Usage that is told several times never gets less: what a later report has less of, or nothing, is no news."""
    reports = (Used(TokenUsage(input=12, output=1)), Text("b"), Used(TokenUsage(input=12, output=9)))
    later = (Used(TokenUsage(input=3, output=4)), Text("d"), Used(TokenUsage()))
    answer = await told(scene, Text("a"), *reports, Text("c"), *later, Ends(Reason.STOP))
    shown = [each.usage for each in scene.events if isinstance(each, StreamUsage)]
    for one, other in itertools.pairwise(shown):
        check(one.input <= other.input and one.output <= other.output, f"usage fell from {one} to {other}")
    same((answer.usage.input, answer.usage.output), (12, 9))


@CASES("usage-unknown")
async def usage_unknown(scene: Scene) -> None:
    """Usage that the service never told is marked as a lower bound, not told as nothing."""
    answer = await told(scene, Text("hi"), Ends(Reason.STOP))
    check(answer.usage.at_least, f"usage that nobody told is {answer.usage}")


# ---- what isn't known yet


@CASES("unknown-event")
async def unknown_event(scene: Scene) -> None:
    """An event of a kind that nobody knows is passed over."""
    answer = await told(scene, Novelty(), Text("Hel"), Novelty(), Text("lo"), Novelty(), Used(USAGE), Ends(Reason.STOP))
    same((answer.full_text, answer.usage, answer.terminal_reason), ("Hello", USAGE, Reason.STOP))


@CASES("unknown-fields")
async def unknown_fields(scene: Scene) -> None:
    """Fields that nobody knows are passed over, wherever they stand."""
    said = hello(Text("Hello"), WEATHER, reason=Reason.TOOL_USE)
    events = [with_news(event, scene.wire.payload_keys) for event in scene.wire.stream(said)]
    scene.server.answer(evolve(scene.say(), pieces=tuple(events)))
    answer = await scene.ask()
    same((answer.full_text, calls_of(answer)), ("Hello", [("weather", {"city": "Vienna"})]))
    same((answer.usage, answer.terminal_reason), (USAGE, Reason.TOOL_USE))


@CASES("keep-alives", Ability.COMMENTS)
async def keep_alives(scene: Scene) -> None:
    """Lines that only keep the connection alive are passed over, also before and after everything."""
    alive = scene.wire.keep_alive()
    pieces = [piece for event in scene.wire.stream(hello()) for piece in (alive, event)]
    scene.server.answer(evolve(scene.say(), pieces=(*pieces, alive)))
    same((await scene.ask()).full_text, "Hello")


def with_news(event: bytes, payload_keys: frozenset[str]) -> bytes:
    """An event with fields that nobody knows in each object of its JSON lines; any other line as it is."""
    return b"\n".join(_with_news(line, payload_keys) for line in event.split(b"\n"))


def _with_news(line: bytes, payload_keys: frozenset[str]) -> bytes:
    name, colon, value = line.partition(b": ")
    try:
        decoded = json.loads(value)
    except ValueError:
        return line
    return name + colon + json.dumps(_added(decoded, payload_keys), ensure_ascii=False).encode()


def _added(value: object, payload_keys: frozenset[str]) -> object:
    if isinstance(value, list):
        return [_added(each, payload_keys) for each in value]
    if not isinstance(value, dict):
        return value
    grown = {key: each if key in payload_keys else _added(each, payload_keys) for key, each in value.items()}
    return {"x_new": None, **grown, "x_newer": {"deep": [1, {"x": "y"}]}}
