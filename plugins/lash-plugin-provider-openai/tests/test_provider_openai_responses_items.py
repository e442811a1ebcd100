"""Items of the Responses API as servers other than OpenAI's send them: without places, ids, or half of the events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lash_hookspecs.llm import LlmResponse, StreamDelta, TextOutput, ToolCallOutputPart
from lash_plugin_provider_openai.responses_decode import ResponsesDecoder
from lash_provider_kit.reader import decoded

Item = dict[str, Any]


def call(number: int, **fields: Any) -> Item:
    made = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": "add"}
    return {**made, "arguments": f'{{"a":{number}}}', "status": "completed", **fields}


def message(text: str, **fields: Any) -> Item:
    content = [{"type": "output_text", "text": text}]
    return {
        "type": "message",
        "id": f"msg_{text}",
        "role": "assistant",
        "status": "completed",
        "content": content,
        **fields,
    }


REASONING: Item = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "sealed"}


def said(kind: str, **fields: Any) -> Item:
    return {"type": f"response.{kind}", **fields}


def ended(*output: Item) -> Item:
    return said("completed", response={"id": "r", "model": "m", "status": "completed", "output": list(output)})


def read(*events: Item) -> tuple[str, LlmResponse]:
    """What was shown, and the answer."""
    shown, answer = decoded(ResponsesDecoder(), [b"data: %b\n\n" % json.dumps(each).encode() for each in events])
    assert isinstance(answer, LlmResponse), answer
    return "".join(each.text for each in shown if isinstance(each, StreamDelta)), answer


def calls(answer: LlmResponse) -> list[tuple[str, str, str]]:
    parts = [part for part in answer.parts if isinstance(part, ToolCallOutputPart)]
    return [(part.call_id, part.tool_name, part.input_json) for part in parts]


BOTH = [("call_1", "add", '{"a":1}'), ("call_2", "add", '{"a":2}')]


@pytest.mark.parametrize("place", [{}, {"output_index": None}, {"output_index": 0}], ids=str)
@pytest.mark.parametrize("tells_all_at_the_end", [True, False])
def test_parallel_calls_without_a_place_of_their_own_are_kept_apart(
    place: dict[str, Any], tells_all_at_the_end: bool
) -> None:
    begun = {"arguments": "", "status": "in_progress"}
    _, answer = read(
        said("output_item.added", item=call(1, **begun), **place),
        said("output_item.added", item=call(2, **begun), **place),
        said("function_call_arguments.delta", item_id="fc_1", delta='{"a":', **place),
        said("function_call_arguments.delta", item_id="fc_2", delta='{"a":', **place),
        said("function_call_arguments.delta", item_id="fc_1", delta="1}", **place),
        said("function_call_arguments.delta", item_id="fc_2", delta="2}", **place),
        *([] if tells_all_at_the_end else [said("output_item.done", item=call(n), **place) for n in (1, 2)]),
        ended(*([call(1), call(2)] if tells_all_at_the_end else [])),
    )
    assert calls(answer) == BOTH


def test_messages_without_a_place_are_kept_apart() -> None:
    shown, answer = read(
        said("output_item.added", item=message("One", content=[])),
        said("output_text.delta", item_id="msg_One", delta="One"),
        said("output_item.done", item=message("One")),
        said("output_item.done", item=call(1)),
        said("output_item.added", item=message("Two", content=[])),
        said("output_text.delta", item_id="msg_Two", delta="Two"),
        said("output_item.done", item=message("Two")),
        ended(message("One"), call(1), message("Two")),
    )
    assert shown == answer.full_text == "OneTwo"
    assert [type(part) for part in answer.parts] == [TextOutput, ToolCallOutputPart, TextOutput]


def test_a_call_that_only_the_end_names_has_its_name() -> None:
    _, answer = read(
        said("function_call_arguments.delta", item_id="fc_1", output_index=0, delta='{"a":1}'), ended(call(1))
    )
    assert calls(answer) == BOTH[:1]


def test_a_call_that_began_without_a_word_about_its_state_gets_its_arguments() -> None:
    begun = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add"}
    _, answer = read(said("output_item.added", output_index=0, item=begun), ended(call(1)))
    assert calls(answer) == BOTH[:1]


def test_text_is_said_once_where_the_end_puts_it_somewhere_else() -> None:
    shown, answer = read(
        said("output_text.delta", item_id="msg_Hi", output_index=0, content_index=0, delta="Hi"),
        ended(REASONING, message("Hi")),
    )
    assert shown == answer.full_text == "Hi"


def test_ids_that_change_from_event_to_event_are_still_one_items() -> None:
    shown, answer = read(
        said("output_item.added", output_index=0, item=message("Hi", id="a", content=[])),
        said("output_text.delta", output_index=0, item_id="b", content_index=0, delta="H"),
        said("output_text.delta", output_index=0, item_id="c", content_index=0, delta="i"),
        said("output_item.done", output_index=0, item=message("Hi", id="d")),
        said("output_item.added", output_index=1, item=call(1, id="e", arguments="")),
        said("function_call_arguments.delta", output_index=1, item_id="f", delta='{"a":1}'),
        said("output_item.done", output_index=1, item=call(1, id="g")),
        ended(message("Hi", id="h"), call(1, id="i")),
    )
    assert shown == answer.full_text == "Hi"
    assert calls(answer) == BOTH[:1]
    assert len(answer.parts) == 2
