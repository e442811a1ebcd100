"""Parallel calls of services that leave out, or repeat, what tells one call from another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lash_hookspecs.llm import LlmResponse, ToolCallOutputPart
from lash_plugin_provider_openai.decode import ChatDecoder
from lash_provider_kit.reader import decoded

Call = tuple[str, str]


def piece(name: str | None = None, arguments: str | None = None, **fields: Any) -> dict[str, Any]:
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    return {"type": "function", "function": function, **fields}


def parts_of(response: object) -> list[ToolCallOutputPart]:
    assert isinstance(response, LlmResponse), response
    return [part for part in response.parts if isinstance(part, ToolCallOutputPart)]


def streamed(*pieces: dict[str, Any], at_once: bool = False) -> list[ToolCallOutputPart]:
    deltas = [list(pieces)] if at_once else [[each] for each in pieces]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"tool_calls": calls}}]} for calls in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    reads = [b"data: %b\n\n" % json.dumps(each).encode() for each in chunks]
    return parts_of(decoded(ChatDecoder(), reads)[1])


def whole(*calls: dict[str, Any]) -> list[ToolCallOutputPart]:
    document = {"choices": [{"message": {"tool_calls": list(calls)}, "finish_reason": "tool_calls"}]}
    return parts_of(decoded(ChatDecoder(), [json.dumps(document).encode()], document=True)[1])


def said(calls: list[ToolCallOutputPart]) -> list[Call]:
    assert len({each.call_id for each in calls}) == len(calls)  # of calls that share an id the host runs the first only
    assert all(each.call_id for each in calls)
    return [(each.tool_name, each.input_json) for each in calls]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("fields", [{}, {"id": ""}, {"index": 0}, {"index": 0, "id": ""}, {"id": None, "index": None}])
def test_whole_calls_without_ids_are_calls_of_their_own(fields: dict[str, Any], at_once: bool) -> None:
    pieces = [
        piece("read", '{"path":"a"}', **fields),
        piece("read", '{"path":"b"}', **fields),
        piece("ls", "{}", **fields),
    ]
    found = streamed(*pieces, at_once=at_once)
    assert said(found) == [("read", '{"path":"a"}'), ("read", '{"path":"b"}'), ("ls", "{}")]


@pytest.mark.parametrize("fields", [{}, {"index": 0}])
def test_a_name_that_comes_with_each_piece_is_one_calls(fields: dict[str, Any]) -> None:
    pieces = [piece("read", each, **fields) for each in ('{"pa', 'th":"', 'a"}', "")]
    assert said(streamed(*pieces)) == [("read", '{"path":"a"}')]


def test_pieces_without_an_index_find_their_call_by_its_id() -> None:
    pieces = [
        piece("read", '{"path":', id="x"),
        piece("ls", "{", id="y"),
        piece(None, '"a"}', id="x"),
        piece(None, "}", id="y"),
    ]
    assert said(streamed(*pieces)) == [("read", '{"path":"a"}'), ("ls", "{}")]


@pytest.mark.parametrize("fields", [{}, {"id": ""}, {"id": "same"}, {"index": 0, "id": "same"}])
def test_each_call_of_a_document_is_a_call(fields: dict[str, Any]) -> None:
    found = whole(piece("read", '{"path":"a"}', **fields), piece("ls", "{}", **fields), piece("ls", "{}", **fields))
    assert said(found) == [("read", '{"path":"a"}'), ("ls", "{}"), ("ls", "{}")]


def test_calls_that_share_an_id_keep_apart() -> None:
    found = streamed(piece("read", '{"path":"a"}', id="same", index=0), piece("ls", "{}", id="same", index=1))
    assert said(found) == [("read", '{"path":"a"}'), ("ls", "{}")]
    assert found[0].call_id == "same"
