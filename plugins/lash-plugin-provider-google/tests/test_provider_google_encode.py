"""What goes over the wire, and that it is encoded once."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from lash_hookspecs.llm import LlmAttachment, LlmRequest
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmBlock,
    LlmMessage,
    LlmMessages,
    LlmRole,
    MessageRun,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    llm_text,
)
from lash_hookspecs.messages import (
    AttachmentRef,
    ProviderReasoningMeta,
    ProviderReplayMeta,
    ProviderRoute,
    ResponseTextMeta,
)
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.testing.provider import LOADED, NOT_LOADED, PNG, any_message, assistant, refused, system, user
from lash_plugin_provider_google import GoogleSettings, encode
from lash_plugin_provider_google.encode import SKIP_SIGNATURE, RequestEncoder
from lash_plugin_provider_google.endpoint import endpoint_of
from lash_plugin_provider_google.models import Model, Quirks
from lash_plugin_provider_google.options import OptionsEncoder

INLINE = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(b"abc").decode()}}

OURS = ProviderRoute("google", "https://generativelanguage.googleapis.com/v1beta", "m")
FOREIGN = [
    evolve(OURS, provider_id="anthropic"),
    evolve(OURS, endpoint="https://gateway.example/v1beta"),
    evolve(OURS, model="m2"),
]
ANY, SIGNED = Model(), Model(quirks=Quirks(signed_calls=True))


def asking(*messages: LlmMessage, **fields: Any) -> LlmRequest:
    fields = {"model": "m", **fields}
    return LlmRequest(messages=messages or (user(TextBlock(text="hi")),), **fields)


def encoder(**settings: Any) -> RequestEncoder:
    made = GoogleSettings(**settings)
    return RequestEncoder(endpoint_of(made, "google"), OptionsEncoder(made))


def body(request: LlmRequest, model: Model = ANY, **settings: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encoder(**settings).encode(request, model))
    return decoded


def parts(*blocks: LlmBlock, model: Model = ANY, **fields: Any) -> list[dict[str, Any]]:
    """The parts of one message of an assistant."""
    contents = body(asking(assistant(*blocks), **fields), model)["contents"]
    return [part for content in contents for part in content["parts"] if content["role"] == "model"]


def refusal(request: LlmRequest, model: Model = ANY, **settings: Any) -> str | None:
    return refused(lambda: body(request, model, **settings)).code


CALL = ToolCallBlock(call_id="c1", tool_name="add", input_json='{"a": 1}')
WIRE_CALL = {"functionCall": {"id": "c1", "name": "add", "args": {"a": 1}}}
RESULT = ToolResultBlock(call_id="c1", content="3", tool_name="add")
WIRE_RESULT = {"functionResponse": {"id": "c1", "name": "add", "response": {"output": "3"}}}

MESSAGES: dict[str, tuple[LlmMessage, list[dict[str, Any]]]] = {
    "user": (user(TextBlock(text="hi")), [{"role": "user", "parts": [{"text": "hi"}]}]),
    "several texts": (
        user(TextBlock(text="a"), TextBlock(text=""), TextBlock(text="b")),
        [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}],
    ),
    "assistant": (assistant(TextBlock(text="yes")), [{"role": "model", "parts": [{"text": "yes"}]}]),
    "text and call": (
        assistant(TextBlock(text="so"), CALL),
        [{"role": "model", "parts": [{"text": "so"}, WIRE_CALL]}],
    ),
    "unsigned reasoning stays here": (
        assistant(ReasoningBlock(text="hm"), TextBlock(text="a")),
        [{"role": "model", "parts": [{"text": "a"}]}],
    ),
    "two results": (
        user(RESULT, ToolResultBlock(call_id="c2", content="", tool_name="sub")),
        [
            {
                "role": "user",
                "parts": [
                    WIRE_RESULT,
                    {"functionResponse": {"id": "c2", "name": "sub", "response": {"output": ""}}},
                ],
            }
        ],
    ),
    "results before what follows them": (
        user(TextBlock(text="see"), ImageBlock(attachment_idx=0, attachment=PNG), RESULT),
        [{"role": "user", "parts": [WIRE_RESULT, {"text": "see"}, INLINE]}],
    ),
    "image by its place": (user(ImageBlock(attachment_idx=0)), [{"role": "user", "parts": [INLINE]}]),
    "text that JSON must escape": (
        user(TextBlock(text='"\\\n\u2028🌍')),
        [{"role": "user", "parts": [{"text": '"\\\n\u2028🌍'}]}],
    ),
    "half a surrogate pair": (user(TextBlock(text="a\ud800b")), [{"role": "user", "parts": [{"text": "a?b"}]}]),
    "nothing": (user(), [{"role": "user", "parts": [{"text": ""}]}]),
}


@pytest.mark.parametrize(("message", "wire"), MESSAGES.values(), ids=MESSAGES.keys())
def test_messages(message: LlmMessage, wire: list[dict[str, Any]]) -> None:
    assert body(asking(message, attachments=(LOADED,)))["contents"] == wire


def test_what_the_system_says_is_joined_and_stands_first() -> None:
    sent = encoder().encode(asking(system("be brief"), user(TextBlock(text="hi")), system("a note"), system("")), ANY)
    assert json.loads(sent) == {
        "systemInstruction": {"parts": [{"text": "be brief"}, {"text": "a note"}]},
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
    }
    assert sent.startswith(b'{"systemInstruction"')


@pytest.mark.statement(21, page="providers")
def test_marks_for_caches_stay_here() -> None:
    """Gemini caches by prefix, unasked."""
    marked = user(TextBlock(text="hi", cache_breakpoint=True))
    assert body(asking(marked)) == body(asking(user(TextBlock(text="hi"))))


def test_neighbours_of_one_role_are_one_content() -> None:
    hi, yes = user(TextBlock(text="hi")), assistant(TextBlock(text="yes"))
    contents = body(asking(hi, hi, system("s"), hi, assistant(), yes, user(), yes, hi))["contents"]
    assert [(each["role"], len(each["parts"])) for each in contents] == [("user", 3), ("model", 2), ("user", 1)]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", {}),
        ("  ", {}),
        ('{"a":', {"_raw": '{"a":'}),
        ("[1]", {"_raw": "[1]"}),
        ('"\ud800"', {"_raw": '"?"'}),
        ('{"a": 1.50}', {"a": 1.5}),
    ],
)
def test_arguments_go_back_as_an_object(written: str, sent: dict[str, Any]) -> None:
    call = ToolCallBlock(call_id="c", tool_name="t", input_json=written)
    assert parts(call)[0]["functionCall"]["args"] == sent


def test_a_result_without_a_name_gets_that_of_its_call() -> None:
    nameless = evolve(RESULT, tool_name=None)
    lost = ToolResultBlock(call_id="c9", content="x")
    contents = body(asking(assistant(CALL), user(nameless, lost)))["contents"]
    assert [each["functionResponse"]["name"] for each in contents[1]["parts"]] == ["add", "unknown"]


# ---- opaque state


def test_signatures_go_back_where_they_were() -> None:
    thought = ReasoningBlock(text="hm", replay=ProviderReasoningMeta(signature="S1", origin=OURS))
    text = TextBlock(
        text="abcdef",
        response_meta=ResponseTextMeta(provider_payload='[[0,2,"S2"],[3,6,"S3"],[6,6,"S4"]]', origin=OURS),
    )
    call = evolve(CALL, replay=ProviderReplayMeta(opaque="S5", origin=OURS))
    assert parts(thought, text, call) == [
        {"text": "hm", "thought": True, "thoughtSignature": "S1"},
        {"text": "ab", "thoughtSignature": "S2"},
        {"text": "c"},
        {"text": "def", "thoughtSignature": "S3"},
        {"text": "", "thoughtSignature": "S4"},
        {**WIRE_CALL, "thoughtSignature": "S5"},
    ]


def test_a_part_that_only_google_can_read_goes_back_as_it_came() -> None:
    part = {"toolCall": {"toolType": "FILE_SEARCH", "id": "x"}, "thoughtSignature": "S"}
    meta = ProviderReasoningMeta(encrypted_content=json.dumps(part), origin=OURS)
    assert parts(ReasoningBlock(text="", replay=meta)) == [part]


@pytest.mark.statement(18, page="providers")
@pytest.mark.parametrize("origin", FOREIGN, ids=str)
def test_on_another_route_opaque_state_is_dropped_and_the_text_kept(origin: ProviderRoute) -> None:
    thought = ReasoningBlock(text="hm", replay=ProviderReasoningMeta(signature="S1", origin=origin))
    text = TextBlock(text="ab", response_meta=ResponseTextMeta(provider_payload='[[0,2,"S2"]]', origin=origin))
    call = evolve(CALL, replay=ProviderReplayMeta(opaque="S5", origin=origin))
    assert parts(thought, text, call) == [{"text": "ab"}, WIRE_CALL]


def test_one_message_is_kept_for_each_route_by_itself() -> None:
    message = assistant(evolve(CALL, replay=ProviderReplayMeta(opaque="S5", origin=OURS)))
    made = encoder()
    sent = [json.loads(made.encode(asking(message, model=name), ANY)) for name in ("m", "m2", "m")]
    assert ["thoughtSignature" in each["contents"][0]["parts"][0] for each in sent] == [True, False, True]


def test_calls_of_others_carry_the_sentinel_where_the_model_wants_signatures() -> None:
    """The first of parallel calls only: that is the one which the service looks at. Known from data, not by name."""
    second = evolve(CALL, call_id="c2")
    wire_second = {"functionCall": {"id": "c2", "name": "add", "args": {"a": 1}}}
    assert parts(CALL, second, model=SIGNED) == [{**WIRE_CALL, "thoughtSignature": SKIP_SIGNATURE}, wire_second]
    assert parts(CALL, second) == [WIRE_CALL, wire_second]
    signed = evolve(CALL, replay=ProviderReplayMeta(opaque="S", origin=OURS))
    assert parts(signed, second, model=SIGNED) == [{**WIRE_CALL, "thoughtSignature": "S"}, wire_second]
    made = encoder()
    message = assistant(CALL)
    for model, there in ((ANY, False), (SIGNED, True), (ANY, False)):
        sent = json.loads(made.encode(asking(message), model))
        assert ("thoughtSignature" in sent["contents"][0]["parts"][0]) is there


# ---- attachments


@pytest.mark.parametrize(
    "media_type",
    [
        *("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "IMAGE/PNG"),
        *("audio/wav", "audio/mpeg", "video/mp4", "video/quicktime", "application/pdf"),
        *("text/plain", "text/markdown; charset=utf-8", "application/json"),
    ],
)
def test_types_that_are_taken(media_type: str) -> None:
    attachment = evolve(LOADED, reference=evolve(PNG, media_type=media_type))
    sent = body(asking(user(ImageBlock(attachment_idx=0)), attachments=(attachment,)))
    blob = sent["contents"][0]["parts"][0]["inlineData"]
    assert blob == {"mimeType": media_type.lower().partition(";")[0], "data": "YWJj"}


@pytest.mark.statement(20, page="providers")
@pytest.mark.parametrize("media_type", ["image/gif", "image/svg+xml", "application/zip", "audio/midi", ""])
def test_types_that_are_refused(media_type: str) -> None:
    attachment = evolve(LOADED, reference=evolve(PNG, media_type=media_type))
    request = asking(user(ImageBlock(attachment_idx=0)), attachments=(attachment,))
    assert refusal(request) == "unsupported_attachment_capability"


def test_a_model_may_take_less() -> None:
    request = asking(user(ImageBlock(attachment_idx=0)), attachments=(LOADED,))
    assert refusal(request, Model(ModelCapability(images=False))) == "unsupported_attachment_capability"
    assert body(request, Model(ModelCapability(documents=False)))["contents"][0]["parts"] == [INLINE]


FILE = "https://generativelanguage.googleapis.com/v1beta/files/abc"
VERTEX = {"vertex": True, "project": "p"}


@pytest.mark.parametrize(
    ("uri", "settings", "taken"),
    [
        (FILE, {}, True),
        (FILE, VERTEX, False),
        ("gs://bucket/x.png", {}, False),
        ("gs://bucket/x.png", VERTEX, True),
        ("https://example.com/x.png", {}, False),
        ("https://example.com/x.png", VERTEX, False),
        ("http://169.254.169.254/files/", {}, False),
    ],
)
def test_no_urls_but_of_files_that_the_service_holds(uri: str, settings: dict[str, Any], taken: bool) -> None:
    reference = AttachmentRef(id=uri, media_type="image/png", size=0)
    request = asking(user(ImageBlock(attachment_idx=0, attachment=reference)))
    if taken:
        part = body(request, **settings)["contents"][0]["parts"][0]
        assert part == {"fileData": {"mimeType": "image/png", "fileUri": uri}}
    else:
        assert refusal(request, **settings) == "unsupported_attachment_capability"


@pytest.mark.parametrize(("block", "attachments"), NOT_LOADED)
def test_an_image_whose_bytes_are_missing_is_refused(block: ImageBlock, attachments: tuple[LlmAttachment, ...]) -> None:
    assert refusal(asking(user(block), attachments=attachments)) == "attachment_not_loaded"


# ---- encoded once


def test_a_message_is_encoded_once_and_kept_with_it() -> None:
    made = encoder()
    messages = [user(TextBlock(text=str(index))) for index in range(5)]
    made.encode(asking(*messages), ANY)
    kept = [dict(message.memo) for message in messages]
    (key,) = messages[2].memo
    messages[2].memo[key] = b'{"text":"from the memo"}'
    again = json.loads(made.encode(asking(*messages, user(TextBlock(text="new"))), ANY))
    assert [each["text"] for each in again["contents"][0]["parts"]] == ["0", "1", "from the memo", "3", "4", "new"]
    for at in (0, 1, 3, 4):
        assert messages[at].memo[key] is kept[at][key]


@pytest.mark.statement(22, page="providers")
def test_the_next_request_begins_with_the_same_bytes() -> None:
    """What the service caches by prefix stays cached: everything before the new message is the same."""
    made = encoder()
    first = [system("s"), user(TextBlock(text="a")), assistant(CALL)]
    before = made.encode(asking(*first), ANY)
    after = made.encode(asking(*first, user(RESULT)), ANY)
    shared = len(before) - len(b"]}]}")
    assert after[:shared] == before[:shared]


def test_what_means_something_in_one_request_only_is_encoded_each_time() -> None:
    made = encoder()
    by_reference, by_place = user(ImageBlock(attachment_idx=0, attachment=PNG)), user(ImageBlock(attachment_idx=0))
    nameless = user(evolve(RESULT, tool_name=None))
    made.encode(asking(by_reference, by_place, nameless, attachments=(LOADED,)), ANY)
    assert by_reference.memo
    assert not by_place.memo
    assert not nameless.memo


THOUGHT = ReasoningBlock(text="hm", replay=ProviderReasoningMeta(signature="S"))
ANY_MESSAGE = any_message(CALL, RESULT, evolve(RESULT, tool_name=None), THOUGHT)


@given(st.lists(st.lists(ANY_MESSAGE, max_size=5), max_size=4), st.sampled_from([0, 2, 256]))
def test_however_messages_come_in_runs_the_bytes_are_the_same(runs: list[list[LlmMessage]], long: int) -> None:
    """One by one or at once, kept or not, before and after: what is sent depends on the messages only."""
    flat = [LlmMessage(message.role, message.blocks) for run in runs for message in run]
    expected = encoder().encode(asking_of(flat), ANY)
    divided = asking_of(LlmMessages(MessageRun(tuple(run)) for run in runs))
    made = encoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_LONG", long)
        assert made.encode(divided, ANY) == expected
        assert made.encode(divided, ANY) == expected
    roles = [each["role"] for each in json.loads(expected)["contents"]]
    assert all(a != b for a, b in pairwise(roles))


def asking_of(messages: Sequence[LlmMessage]) -> LlmRequest:
    return LlmRequest(model="m", messages=messages, attachments=(LOADED,))


@pytest.mark.parametrize("count", [3, 300])
def test_a_runs_bytes_are_made_once_and_handed_on_uncopied(count: int) -> None:
    """Of a long one, no message keeps bytes beside it."""
    made = encoder()
    run = MessageRun(tuple(llm_text(LlmRole.USER, f"text {number}") for number in range(count)))
    before = made.pieces(LlmRequest(model="m", messages=LlmMessages([run])), ANY)
    grown = LlmMessages([run, MessageRun((llm_text(LlmRole.USER, "new"),))])
    after = made.pieces(LlmRequest(model="m", messages=grown), ANY)
    (kept,) = run.memo.values()
    assert any(piece is kept.body for piece in before)
    assert any(piece is kept.body for piece in after)
    assert all(bool(message.memo) == (count == 3) for message in run.messages)
    assert b"".join(after) == made.encode(LlmRequest(model="m", messages=tuple(grown)), ANY)


def test_of_a_long_history_only_what_is_new_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 messages in runs and two new ones: the encoder sees the two."""
    made = encoder()
    history = [
        MessageRun(
            tuple(llm_text(LlmRole.USER if at % 2 else LlmRole.ASSISTANT, f"message {at}") for at in range(start, end))
        )
        for start, end in ((0, 8192), (8192, 9984), (9984, 10_000))
    ]
    made.encode(asking_of(LlmMessages(history)), ANY)
    encoded: list[object] = []
    dumps = encode.dumps

    def counting(value: Any) -> bytes:
        encoded.append(value)
        return dumps(value)

    monkeypatch.setattr(encode, "dumps", counting)
    new = MessageRun((llm_text(LlmRole.USER, "new"), llm_text(LlmRole.USER, "newer")))
    pieces = made.pieces(asking_of(LlmMessages([*history, new])), ANY)
    assert [each for each in encoded if each] == [[{"text": "new"}], [{"text": "newer"}], encoded[2]]
    assert len(pieces) < 12
