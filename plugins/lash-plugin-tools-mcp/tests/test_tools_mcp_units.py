"""The pure parts: names, texts, lines, results, secrets, and when to try again."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import mcp_types as types
import pytest

from lash_hookspecs import (
    AttachmentRef,
    ConfigurationError,
    DirectCompletion,
    DirectCompletionClient,
    LlmResponse,
    TokenUsage,
    ToolActivation,
    ToolEffect,
)
from lash_plugin_tools_mcp.asking import Leg, question_key
from lash_plugin_tools_mcp.backoff import LONGEST_S, SHORTEST_S, Backoff
from lash_plugin_tools_mcp.connection import Connection
from lash_plugin_tools_mcp.listing import LONGEST, offers, tool_names
from lash_plugin_tools_mcp.options import Auth, ServerOptions, expanded, secrets_of
from lash_plugin_tools_mcp.parking import Timer
from lash_plugin_tools_mcp.results import output_of
from lash_plugin_tools_mcp.sampling import sampled
from lash_plugin_tools_mcp.stdio import Lines, refusal
from lash_plugin_tools_mcp.texts import Redactor, brief, failure_leaf, visible

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def listed(name: str, schema: Any = None, **more: Any) -> Any:
    given = {"title": None, "description": "It does.", **more}
    return SimpleNamespace(name=name, input_schema={"type": "object"} if schema is None else schema, **given)


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_tools_name_says_of_which_server_it_is() -> None:
    assert tool_names("git", ["status", "git-log"]) == {"status": "mcp__git__status", "git-log": "mcp__git__git-log"}


def test_tools_that_would_share_a_name_end_in_digests_whatever_their_order() -> None:
    """A suffix that counts would name another tool as soon as the server lists them in another order."""
    names = tool_names("s", ["a.b", "a_b", "a b"])
    assert names["a_b"] == "mcp__s__a_b"
    assert len(set(names.values())) == 3
    assert all(re.fullmatch(r"mcp__s__a_b_[0-9a-f]{8}", names[each]) for each in ("a.b", "a b"))
    assert tool_names("s", ["a b", "a_b", "a.b"]) == names


@pytest.mark.parametrize("name", ["x" * 200, "", "ä" * 70, "\ud800", "a/b\n"])
def test_any_name_becomes_one_that_model_services_take(name: str) -> None:
    (told,) = tool_names("server", [name]).values()
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", told)
    assert len(told) <= LONGEST


# ---- lists ----------------------------------------------------------------------------------------------------------


def test_a_bad_tool_costs_only_itself_and_the_reason_is_known() -> None:
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"properties": {"x": deep}}
    bad = {
        "text": listed("text", {"type": "string"}),
        "wide": listed("wide", {"description": "x" * 40_000}),
        "deep": listed("deep", deep),
        "odd": listed("odd", {"properties": []}),
    }
    found, left_out = offers("s", ServerOptions(command="x"), [*bad.values(), listed("good"), listed("good")])
    assert [each.name for each in found] == ["good"]
    assert {name: why.split(" ")[0] for name, why in left_out.items()} == {**dict.fromkeys(bad, "its"), "good": "it"}


def test_what_a_person_can_not_see_the_model_is_not_told() -> None:
    hidden = listed(
        "t", {"properties": {"a": {"description": "A.\U000e0049\u200b"}}}, description="Add.\x1b[8mno\x1b[0m"
    )
    (offer,) = offers("s", ServerOptions(command="x"), [hidden])[0]
    assert offer.manifest.description == "Add.[8mno[0m"
    assert offer.manifest.input_schema["properties"]["a"]["description"] == "A."
    assert visible("one\ttwo\nthree", 100) == "one\ttwo\nthree"
    assert visible("x" * 100, 10) == "x" * 9 + "…"


def test_what_is_wanted_and_what_repeating_it_does_is_said_by_patterns() -> None:
    options = ServerOptions(
        command="x", tools=("get_*", "put"), exclude=("get_secret",), effects={"get_*": "pure"}, deferred=True
    )
    found, _ = offers("s", options, [listed(name) for name in ("get_it", "get_secret", "put", "drop")])
    assert [(each.name, each.manifest.effect) for each in found] == [
        ("get_it", ToolEffect.PURE),
        ("put", ToolEffect.UNSAFE),
    ]
    assert {each.manifest.activation for each in found} == {ToolActivation.DEFERRED}


# ---- lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_lines_come_whole_however_they_are_cut(size: int) -> None:
    cut: list[tuple[bytes, bytes]] = []
    lines = Lines(10, lambda head, tail: cut.append((head, tail)))
    data = b"one\n\n  \ntwo\r\n" + b"x" * 500 + b"END\n" + b"0123456789\nlast"
    found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert found == [b"one", b"two\r", b"0123456789"]
    ((head, tail),) = cut
    assert head.startswith(b"xxx")
    assert tail.endswith(b"END")


@pytest.mark.parametrize(
    ("head", "tail", "number"),
    [
        (b'{"jsonrpc": "2.0", "id": 7, "result"', b"}", 7),
        (b'{"result": ', b'"id":"a-1"}', "a-1"),
        (b'{"method": "x"', b"}", None),
    ],
)
def test_an_answer_that_is_not_read_is_answered_for_if_its_id_can_be_seen(
    head: bytes, tail: bytes, number: Any
) -> None:
    found = refusal(head, tail, -1, "no")
    assert (found and found.message.id) == number  # type: ignore[union-attr]  # which of them is asserted


# ---- results --------------------------------------------------------------------------------------------------------


async def put(data: bytes, media_type: str) -> AttachmentRef:
    return AttachmentRef(id="sha256:0", media_type=media_type, size=len(data))


def result(*blocks: Any, **more: Any) -> types.CallToolResult:
    return types.CallToolResult.model_validate({"content": list(blocks), **more})


def words(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (result(words("a"), words("b")), "a\nb"),
        (result(), ""),
        (result(words('{"x": 1}'), structuredContent={"x": 1}), {"x": 1}),
        (result(words("3"), structuredContent={"result": 3}), {"result": 3}),
        (result(words("so"), structuredContent={"result": "so"}), {"result": "so"}),
        (result(structuredContent={"x": 1}), {"x": 1}),
        (result(words("about x"), structuredContent={"x": 1}), {"text": "about x", "structured": {"x": 1}}),
        (
            result({"type": "resource_link", "name": "n", "uri": "f:///n", "description": "d"}),
            "[resource n at f:///n: d]",
        ),
        (result({"type": "resource", "resource": {"uri": "f:///n", "text": "t"}}), "[resource f:///n]\nt"),
        (
            result({"type": "resource", "resource": {"uri": "f:///n", "blob": "AAAA"}}),
            "[resource f:///n of unknown type, 3 bytes, left out]",
        ),
        (
            result({"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}),
            "[audio of type audio/wav, 3 bytes, left out]",
        ),
    ],
)
async def test_what_a_server_answers_is_a_value(given: types.CallToolResult, value: Any) -> None:
    output = await output_of(given, put, Redactor())
    assert output.outcome.value == value  # type: ignore[union-attr]  # which of them is asserted


async def test_an_image_is_attached_by_what_its_bytes_say() -> None:
    """One that a service can't read fails every later request of the session."""
    image = {"type": "image", "data": PNG, "mimeType": "image/jpeg"}
    embedded = {"type": "resource", "resource": {"uri": "f:///n", "blob": PNG}}
    broken = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
    output = await output_of(result(image, embedded, broken), put, Redactor())
    assert [each.media_type for each in output.outcome.attachments] == ["image/png"] * 2  # type: ignore[union-attr]  # which of them is asserted
    failed = await output_of(result(image, words("no"), isError=True), put, Redactor())
    assert (failed.outcome.message, len(failed.outcome.attachments)) == ("no", 1)  # type: ignore[union-attr]  # which of them is asserted


# ---- secrets --------------------------------------------------------------------------------------------------------


def test_secrets_are_what_comes_from_the_environment_headers_and_keys() -> None:
    server = ServerOptions(
        command="x", args=("--key=${KEY}",), env={"API_TOKEN": "token-1234", "MODE": "production", "PIN_KEY": "123"}
    )
    assert secrets_of(server, {"KEY": "from-env"}) == ("token-1234", "from-env")
    remote = ServerOptions(url="https://x", headers={"A": "Bearer abcdefgh"}, auth=Auth(bearer="${KEY}"))
    assert set(secrets_of(remote, {"KEY": "from-env"})) == {"Bearer abcdefgh", "abcdefgh", "from-env"}
    assert "abcdefgh" not in repr(remote)
    assert expanded("a ${KEY} b", {"KEY": "1"}) == "a 1 b"
    with pytest.raises(ConfigurationError, match="has no `OTHER`"):
        expanded("${OTHER}", {})


def test_secrets_are_taken_out_of_values_to_their_depth() -> None:
    redactor = Redactor(["hush-hush"])
    assert redactor.value({"a": ["x hush-hush", 1], "hush-hush": None}) == {"a": ["x ***", 1], "***": None}
    plain = {"a": 1}
    assert Redactor().value(plain) is plain


def test_a_reason_is_one_short_line_of_what_went_wrong_first() -> None:
    assert brief("a\n\tb") == "a b"
    inner = ExceptionGroup("x", [ValueError("it")])
    assert str(failure_leaf(ExceptionGroup("y", [inner]))) == "it"


# ---- trying again ---------------------------------------------------------------------------------------------------


def test_each_failure_is_waited_for_longer_within_the_limits() -> None:
    backoff, waits = Backoff(), []
    for _ in range(20):
        backoff.failed(100.0)
        waits.append(backoff.remaining(100.0))
    assert all(SHORTEST_S <= each <= LONGEST_S for each in waits)
    assert waits[0] <= 1.0
    assert min(waits[-5:]) >= LONGEST_S / 2
    assert backoff.remaining(1000.0) == 0
    backoff.ended(1000.0, lived_s=60.0)
    assert (backoff.failures, backoff.remaining(1000.0)) == (0, 0)
    backoff.ended(1000.0, lived_s=1.0)
    assert backoff.remaining(1000.0) >= SHORTEST_S


# ---- questions ------------------------------------------------------------------------------------------------------


async def test_a_model_that_takes_long_is_no_silence_of_the_server_that_asked_it() -> None:
    """A call was ended after `idle_timeout_s` though it was lash that had not answered."""
    left: list[bool] = []

    class Slow(DirectCompletionClient):
        async def complete(self, asked: Any, **given: Any) -> DirectCompletion:
            left.append(timed.deadline == math.inf)
            if len(left) == 1:
                await sampled(connection, leg, params, "another")  # which is over before this one is
                left.append(timed.deadline == math.inf)
            answer = LlmResponse(full_text="Ada", usage=TokenUsage(input=1, output=1))
            return DirectCompletion(text="Ada", usage=answer.usage, response=answer)

    params = types.CreateMessageRequestParams.model_validate(
        {"messages": [{"role": "user", "content": {"type": "text", "text": "A name?"}}], "maxTokens": 5}
    )
    connection, timer = Connection("shop", ServerOptions(command="shop", sampling="allow")), Timer(10, 100)
    leg = Leg(completions=Slow(), timer=timer)
    with timer.begun() as timed:
        assert timed.deadline < math.inf
        await sampled(connection, leg, params, "a question")
        assert timed.deadline < math.inf
    assert left == [True, True, True]


async def test_a_question_is_known_again_by_all_but_what_differs_each_time() -> None:
    asked = {"kind": "elicitation", "message": "Which?", "elicitationId": "1"}
    again = {"message": "Which?", "kind": "elicitation", "elicitationId": "2"}
    leg = Leg(answers={question_key(asked): {"action": "accept"}})
    assert await leg.answer(again, may_hold=True) == {"action": "accept"}
    assert await leg.answer({**again, "message": "When?"}, may_hold=True) is None
    assert [each["message"] for each in leg.questions] == ["When?"]
