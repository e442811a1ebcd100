"""Cases: what is in a request, what never is, and what is refused before there is one."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmAttachment,
    LlmRequest,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind as Kind,
)
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmMessage,
    LlmRole,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    llm_text,
)
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.testing.provider.asking import asked, user
from lash_hookspecs.testing.provider.kit import Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.wire import MODEL, Ability

__all__ = ["CASES", "sent"]

CASES = Cases("requests")

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city_name": {"type": "string"}},
    "required": ["city_name"],
    "additionalProperties": False,
}
_TOOLS = (
    LlmToolSpec(name="weather_report", description="Tells the weather.", input_schema=_SCHEMA),
    LlmToolSpec(name="now", description="Tells the time.", input_schema={"type": "object", "properties": {}}),
)


async def sent(scene: Scene, request: LlmRequest | None = None) -> Any:
    """The JSON that was sent, and that it is whole."""
    scene.server.answer(scene.say(*hello()))
    await scene.ask(request)
    return scene.server.requests[-1].json


def _holds(body: object, value: object) -> bool:
    """Whether a JSON value is anywhere within another."""
    if body == value and type(body) is type(value):
        return True
    if isinstance(body, dict):
        return any(_holds(each, value) for each in body.values())
    return isinstance(body, list) and any(_holds(each, value) for each in body)


def _texts(body: object) -> list[str]:
    """All texts within a JSON value, in order."""
    if isinstance(body, str):
        return [body]
    if isinstance(body, dict):
        return [text for each in body.values() for text in _texts(each)]
    return [text for each in body for text in _texts(each)] if isinstance(body, list) else []


def _said(body: object, *words: str) -> None:
    texts = "\n".join(_texts(body))
    places = [texts.find(word) for word in words]
    check(min(places) >= 0, f"not sent: {[word for word, at in zip(words, places, strict=True) if at < 0]}")
    check(places == sorted(places), f"sent in another order than {words}")


# ---- what is sent


@CASES("conversation")
async def conversation(scene: Scene) -> None:
    """A conversation is sent in its order."""
    messages = (user("question one"), llm_text(LlmRole.ASSISTANT, "answer one"), user("question two"))
    _said(await sent(scene, asked(*messages)), "question one", "answer one", "question two")


@CASES("model")
async def model(scene: Scene) -> None:
    """The model is named as the request names it, in the body or in the URL."""
    await sent(scene)
    request = scene.server.requests[0]
    check(MODEL in request.target or MODEL in request.json.values(), "the model isn't named")


@CASES("system")
async def system(scene: Scene) -> None:
    """System messages are sent."""
    messages = (llm_text(LlmRole.SYSTEM, "be brief"), user("hello"))
    check("be brief" in "".join(_texts(await sent(scene, asked(*messages)))), "the system message isn't sent")


@CASES("later-system")
async def later_system(scene: Scene) -> None:
    """A system message in the middle of a conversation isn't lost."""
    messages = (llm_text(LlmRole.SYSTEM, "be brief"), user("hello"), llm_text(LlmRole.SYSTEM, "be polite"), user("so?"))
    texts = "".join(_texts(await sent(scene, asked(*messages))))
    check("be brief" in texts and "be polite" in texts, "a system message isn't sent")


@CASES("text-in-parts")
async def text_in_parts(scene: Scene) -> None:
    """A message of several texts keeps all, in order."""
    parts = tuple(TextBlock(text=f"part {number}") for number in range(3))
    _said(await sent(scene, asked(LlmMessage(LlmRole.USER, parts))), "part 0", "part 1", "part 2")


@CASES("characters")
async def odd_characters(scene: Scene) -> None:
    """Any text is sent as it is; half a surrogate pair, for which UTF-8 has no bytes, stops nothing."""
    said = 'naïve 𝔘 👩‍👩‍👧 \u2028 "quoted" \\ \x00\x1b \t\n'
    check(said in _texts(await sent(scene, asked(user(said)))), "the text was changed")
    await sent(scene, asked(user("half \ud83d pair")))


@CASES("calls-and-results")
async def calls_and_results(scene: Scene) -> None:
    """Calls and their results go back: names, arguments, contents, and which belongs to which."""
    calls = (_call("call_a", '{"city_name": "Vienna"}'), _call("call_b", '{"city_name": "Graz"}'))
    results = (_result("call_a", "sunny there"), _result("call_b", "rain there"))
    body = await sent(scene, asked(user("weather?"), *_exchange(calls, results), tools=_TOOLS))
    texts = "\n".join(_texts(body))
    for word in ("weather_report", "Vienna", "Graz", "sunny there", "rain there"):
        check(word in json.dumps(body), f"not sent: {word}")
    check(texts.find("sunny there") < texts.find("rain there"), "results in another order")


@CASES("broken-arguments")
async def broken_arguments(scene: Scene) -> None:
    """A call whose arguments are no JSON doesn't make the conversation unusable."""
    for arguments in ('{"city_name": "Vie', "", "[1, 2]", '"text"', "NaN"):
        broken = _exchange((_call("call_a", arguments),), (_result("call_a", "that was no JSON"),))
        body = await sent(scene, asked(user("weather?"), *broken, tools=_TOOLS))
        check("that was no JSON" in json.dumps(body), "the result isn't sent")


@CASES("empty-result")
async def empty_result(scene: Scene) -> None:
    """A call whose result is empty has a result all the same."""
    exchange = _exchange((_call("call_a", "{}"),), (_result("call_a", ""),))
    await sent(scene, asked(user("weather?"), *exchange, tools=_TOOLS))


@CASES("empty-text")
async def empty_text(scene: Scene) -> None:
    """A message without any text stops nothing."""
    messages = (user("hello"), llm_text(LlmRole.ASSISTANT, ""), user("still there?"))
    check("still there?" in "".join(_texts(await sent(scene, asked(*messages)))), "the rest isn't sent")


@CASES("tools")
async def tools(scene: Scene) -> None:
    """Tools are sent with name, description and schema."""
    body = await sent(scene, asked(tools=_TOOLS))
    for value in ("weather_report", "Tells the weather.", "now", _SCHEMA["required"]):
        check(_holds(body, value), f"not sent: {value}")
    check("city_name" in json.dumps(body), "the schema isn't sent")


@CASES("no-tools")
async def no_tools(scene: Scene) -> None:
    """Without tools nothing is said of tools: some services refuse an empty list."""
    check("tool" not in json.dumps(await sent(scene)).lower(), "tools are mentioned")


@CASES("choice-required", Ability.CHOICE_REQUIRED)
async def choice_required(scene: Scene) -> None:
    """That a tool must be called is sent."""
    free = await sent(scene, asked(tools=_TOOLS))
    bound = await sent(scene, asked(tools=_TOOLS, tool_choice=LlmToolChoice.REQUIRED))
    check(free != bound, "the same is sent, required or not")


@CASES("choice-none", Ability.CHOICE_NONE)
async def choice_none(scene: Scene) -> None:
    """That no tool may be called is sent, and the tools stay: earlier calls are about them."""
    free = await sent(scene, asked(tools=_TOOLS))
    barred = await sent(scene, asked(tools=_TOOLS, tool_choice=LlmToolChoice.NONE))
    check(free != barred, "the same is sent, barred or not")
    check(_holds(barred, "weather_report"), "the tools are gone")


@CASES("choice-without-tools")
async def choice_without_tools(scene: Scene) -> None:
    """That a tool must be called, where there is none, is refused before any request."""
    await _refused(scene, lambda: asked(tool_choice=LlmToolChoice.REQUIRED))


def _option(name: str, ability: Ability, options: GenerationOptions, value: object) -> None:
    async def run(scene: Scene) -> None:
        check(not _holds(await sent(scene), value), f"{value!r} is sent without being asked for")
        check(_holds(await sent(scene, asked(generation=options)), value), f"not sent: {value!r}")

    CASES.add(f"option-{name}", f"The option {name} is sent where it is set.", run, ability)


_option("temperature", Ability.TEMPERATURE, GenerationOptions(temperature=0.125), 0.125)
_option("seed", Ability.SEED, GenerationOptions(seed=424242), 424242)
_option("stop", Ability.STOP, GenerationOptions(stop_sequences=("STOP-HERE",)), "STOP-HERE")
_option("output-cap", Ability.OUTPUT_CAP, GenerationOptions(output_token_cap=12345), 12345)


@CASES("schema", Ability.SCHEMA)
async def schema(scene: Scene) -> None:
    """The schema of a structured answer is sent."""
    body = await sent(scene, asked(output_spec=JsonSchemaOutput(name="report", schema=_SCHEMA)))
    check("city_name" in json.dumps(body), "the schema isn't sent")


@CASES("json-object", Ability.JSON_OBJECT)
async def json_object(scene: Scene) -> None:
    """That an answer has to be a JSON object is sent."""
    check(await sent(scene, asked(output_spec=JsonObjectOutput())) != await sent(scene), "nothing of it is sent")


# ---- attachments

_PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))


def _with_attachment(media_type: str, data: bytes = _PNG) -> LlmRequest:
    reference = AttachmentRef(id="sha256:" + "0" * 64, media_type=media_type, size=len(data))
    blocks = (TextBlock(text="what is this?"), ImageBlock(attachment_idx=0, attachment=reference))
    return asked(LlmMessage(LlmRole.USER, blocks), attachments=(LlmAttachment(reference=reference, data=data),))


@CASES("image", Ability.IMAGES)
async def image(scene: Scene) -> None:
    """An image is sent with its bytes and its type."""
    body = json.dumps(await sent(scene, _with_attachment("image/png")))
    check(b64encode(_PNG).decode() in body and "image/png" in body, "the image isn't sent")


@CASES("unsupported-attachment", invariant=20)
async def unsupported_attachment(scene: Scene) -> None:
    """An attachment that the wire can't carry is refused before any request, and never dropped."""
    error = await _refused(scene, lambda: _with_attachment("application/x-unheard-of"))
    same(error.code, "unsupported_attachment_capability")
    check("application/x-unheard-of" in error.message, error.message)


@CASES("no-images", Ability.NO_IMAGES, invariant=20)
async def no_images(scene: Scene) -> None:
    """An image for a model that takes none is refused before any request."""
    scene.open(images=False)
    same((await _refused(scene, lambda: _with_attachment("image/png"))).code, "unsupported_attachment_capability")


@CASES("image-kept-from-another", Ability.IMAGES, Ability.NO_IMAGES, invariant=20)
async def image_kept_from_another(scene: Scene) -> None:
    """Nor does it get by because another provider, whose model takes images, has encoded the same message before."""
    request = _with_attachment("image/png")
    await sent(scene, request)
    scene.open(images=False)
    scene.server.requests.clear()
    error = await scene.fail(request)
    same((error.kind, error.code, scene.tries), (Kind.VALIDATION, "unsupported_attachment_capability", 0))


@CASES("lost-attachment", Ability.IMAGES)
async def lost_attachment(scene: Scene) -> None:
    """An attachment whose bytes nobody loaded is refused before any request."""
    await _refused(scene, lambda: _with_attachment("image/png", b""))


# ---- what is refused


def _bad_option(name: str, make: Callable[[], GenerationOptions]) -> None:
    async def run(scene: Scene) -> None:
        await _refused(scene, lambda: asked(generation=make()))

    CASES.add(f"bad-{name}", f"{name} is refused before any request.", run, invariant=25)


_bad_option("temperature-nan", lambda: GenerationOptions(temperature=math.nan))
_bad_option("temperature-infinite", lambda: GenerationOptions(temperature=math.inf))
_bad_option("temperature-negative", lambda: GenerationOptions(temperature=-0.5))
_bad_option("temperature-bool", lambda: GenerationOptions(temperature=True))
_bad_option("cap-zero", lambda: GenerationOptions(output_token_cap=0))
_bad_option("cap-negative", lambda: GenerationOptions(output_token_cap=-1))
_bad_option("cap-fraction", lambda: GenerationOptions(output_token_cap=10.5))  # type: ignore[arg-type]  # that's the point
_bad_option("seed-fraction", lambda: GenerationOptions(seed=1.5))  # type: ignore[arg-type]  # that's the point


@CASES("schema-with-nan", Ability.SCHEMA)
async def schema_with_nan(scene: Scene) -> None:
    """A schema with a number that JSON doesn't have is refused before any request."""
    spec = JsonSchemaOutput(name="x", schema={"type": "number", "maximum": math.nan})
    await _refused(scene, lambda: asked(output_spec=spec))


# ---- what stays the same


@CASES("same-bytes")
async def same_bytes(scene: Scene) -> None:
    """The same conversation is the same bytes, also of another provider object: caches go by them."""
    request = asked(user("one"), llm_text(LlmRole.ASSISTANT, "two"), user("three"), tools=_TOOLS)
    await sent(scene, request)
    await sent(scene, request)
    scene.open()
    again = asked(user("one"), llm_text(LlmRole.ASSISTANT, "two"), user("three"), tools=_TOOLS)
    await sent(scene, again)
    same(len({each.body for each in scene.server.requests}), 1)


@CASES("stable-prefix", invariant=22)
async def stable_prefix(scene: Scene) -> None:
    """A conversation that has grown begins with the same bytes, through all of what was there before."""
    before = (llm_text(LlmRole.SYSTEM, "rules"), user("question one"), llm_text(LlmRole.ASSISTANT, "answer one"))
    earlier = (*before, LlmMessage(LlmRole.USER, (TextBlock(text="question-two-end", cache_breakpoint=True),)))
    later = (*earlier, llm_text(LlmRole.ASSISTANT, "answer two"), user("question three"))
    await sent(scene, asked(*earlier, tools=_TOOLS))
    await sent(scene, asked(*later, tools=_TOOLS))
    one, other = (scene.wire.without_cache_marks(each.body) for each in scene.server.requests)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    end = one.index(b"question-two-end") + len(b"question-two-end")
    check(common >= end, f"the bytes differ from {one[common - 20 : common + 20]!r} on, before {end}")


@CASES("no-internal-marks", invariant=21)
async def no_internal_marks(scene: Scene) -> None:
    """Marks that are ours alone don't get onto the wire."""
    marked = LlmMessage(LlmRole.USER, (TextBlock(text="hello", cache_breakpoint=True),))
    body = json.dumps(await sent(scene, asked(marked)))
    for word in ("cache_breakpoint", "response_meta", "attachment_idx", "memo"):
        check(word not in body, f"`{word}` is sent")


@CASES("request-unchanged")
async def request_unchanged(scene: Scene) -> None:
    """Asking changes nothing of the request but what its messages' memos hold."""
    request = asked(user("one"), tools=_TOOLS)
    copy = asked(user("one"), tools=_TOOLS)
    await sent(scene, request)
    same(request, copy)


# ---- helpers


def _call(call_id: str, arguments: str) -> ToolCallBlock:
    return ToolCallBlock(call_id=call_id, tool_name="weather_report", input_json=arguments)


def _result(call_id: str, content: str) -> ToolResultBlock:
    return ToolResultBlock(call_id=call_id, content=content, tool_name="weather_report")


def _exchange(calls: tuple[ToolCallBlock, ...], results: tuple[ToolResultBlock, ...]) -> tuple[LlmMessage, LlmMessage]:
    return LlmMessage(LlmRole.ASSISTANT, calls), LlmMessage(LlmRole.USER, results)


async def _refused(scene: Scene, make: Callable[[], LlmRequest]) -> Any:
    """The error of a request that can't be made, as its value or already by the provider; nothing was asked."""
    try:
        request = make()
    except (TypeError, ValueError):  # the value itself refuses it
        return None
    try:
        await scene.ask(request)
    except LlmCallFailed as failed:
        check(failed.error.kind in (Kind.VALIDATION, Kind.UNSUPPORTED), f"kind {failed.error.kind}")
        same((failed.error.retryable, failed.error.usage, scene.tries), (False, None, 0))
        return failed.error
    raise AssertionError("it was asked")
