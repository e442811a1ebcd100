"""Answers as the Responses API sends them: typed events of a stream, or one document, into an `LlmResponse`.

Sans I/O, as `decode`. Items are known by their place in the output, and where a server leaves that out, or gives it
twice, by their ids; a finished item is the last word about itself, and deltas are what is shown of it before. The event
that ends a stream holds the whole answer once more, usage included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from lash_hookspecs.llm import (
    LlmOutputPart,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    ReasoningOutput,
    StreamDelta,
    StreamReasoningDelta,
    StreamUsage,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
)
from lash_hookspecs.messages import ProviderReasoningMeta, ProviderReplayMeta, ResponseTextMeta
from lash_plugin_provider_openai.usage import UsageMeter
from lash_provider_kit.answer_faults import MISSHAPEN, AnswerFaults
from lash_provider_kit.failures import AttemptFailed, Seen, error_object
from lash_provider_kit.wire_json import dumps, load, place_of, text_of

__all__ = ["ResponsesDecoder"]

_FAULTS = AnswerFaults("openai")
_Reason = LlmTerminalReason
_INCOMPLETE: Mapping[str, LlmTerminalReason] = {
    "content_filter": _Reason.CONTENT_FILTER,
    "max_output_tokens": _Reason.OUTPUT_LIMIT,
    "max_tokens": _Reason.OUTPUT_LIMIT,
}
_BETWEEN_PARTS = "\n\n"
"""Between the paragraphs of a summary."""


class _Item:
    """One item of the output while it is written: its text by part, and what is known of it."""

    __slots__ = ("arguments", "data", "done", "id", "kind", "parts", "place", "refusal")

    def __init__(self, kind: str, place: int) -> None:
        self.kind = kind
        self.place = place
        self.id: object = None
        self.done = False
        self.data: dict[str, Any] = {}
        self.parts: dict[Any, list[str]] = {}
        self.arguments: list[str] = []
        self.refusal: list[str] = []

    def text(self, separator: str = "") -> str:
        return separator.join("".join(pieces) for _, pieces in sorted(self.parts.items()))

    def is_another(self, call_id: object, item_id: object) -> bool:
        """Whether these are the ids of another item than this one."""
        known = self.data.get("call_id")
        return bool((call_id and known and call_id != known) or (item_id and self.id and item_id != self.id))


class ResponsesDecoder:
    """Reads one answer."""

    def __init__(self) -> None:
        self.output_seen = False
        self.usage: TokenUsage | None = None
        self.complete = False
        self.done = False
        self._id = ""
        self._model = ""
        self._status = ""
        self._why = ""
        self._said: list[str] = []
        self._items: list[_Item] = []  # in the order in which they began
        self._last: dict[tuple[int, str], _Item] = {}  # by place and kind
        self._named: dict[tuple[str, object], _Item] = {}  # by kind and either id
        self._meter = UsageMeter()
        self._handlers: Mapping[str, Callable[[dict[str, Any], list[LlmStreamEvent]], None]] = {
            "response.output_text.delta": self._text_delta,
            "response.refusal.delta": self._refusal_delta,
            "response.function_call_arguments.delta": self._arguments_delta,
            "response.reasoning_summary_text.delta": self._summary_delta,
            "response.reasoning_text.delta": self._reasoning_delta,
            "response.output_item.added": self._item_added,
            "response.output_item.done": self._item_done,
            "response.completed": self._ended,
            "response.incomplete": self._ended,
            "response.failed": self._ended,
            "response.cancelled": self._ended,
            "response.done": self._ended,
            "response.created": self._about,
            "response.queued": self._about,
            "response.in_progress": self._about,
            "error": self._error,
        }

    # ---- input

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        """Take one event of a stream; one of a kind that isn't known means nothing."""
        if data == b"[DONE]":
            self.done = True
            return
        try:
            event = load(data)
        except ValueError as exc:
            raise _FAULTS.no_json("an event", exc, data) from None
        try:
            handler = self._handlers.get(event.get("type") or ("error" if event.get("error") else ""))
            if handler is not None:
                handler(event, out)
        except MISSHAPEN as exc:
            raise _FAULTS.misshapen("an event that isn't of the Responses API", data) from exc

    def whole(self, body: bytes | bytearray, out: list[LlmStreamEvent]) -> None:
        """Take an answer that came in one piece."""
        try:
            document = load(body)
        except ValueError as exc:
            raise _FAULTS.no_json("an answer", exc, body) from None
        try:
            if document.get("error"):
                raise _reported(document["error"])
            if not isinstance(document["output"], list):
                raise TypeError("no output")
            self._ended({"response": document}, out)
        except MISSHAPEN as exc:
            raise _FAULTS.misshapen("JSON that is no response", body) from exc

    # ---- pieces

    def _item(self, event: dict[str, Any], kind: str) -> _Item:
        index, data = event.get("output_index"), event.get("item") or {}
        place = _place(event, "output_index")
        call_id, item_id = data.get("call_id"), event.get("item_id") or data.get("id")
        found = self._known(kind, call_id, item_id)
        if found is None or found.place != place:
            # Some servers change an item's id from event to event, so it counts where there is nothing better.
            found = self._last.get((place, kind))
            if found is not None and found.is_another(call_id, item_id if index is None else None):
                found = None
        if found is None:
            found = self._last[place, kind] = _Item(kind, place)
            self._items.append(found)
        if item_id:
            found.id = item_id
            self._named[kind, item_id] = found
        if call_id:
            self._named[kind, call_id] = found
        return found

    def _known(self, kind: str, call_id: object, item_id: object) -> _Item | None:
        return self._named.get((kind, call_id)) or self._named.get((kind, item_id))

    def _written(self, event: dict[str, Any], kind: str) -> _Item:
        self.output_seen = True
        return self._item(event, kind)

    def _text_delta(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        delta = event["delta"]
        if delta:
            item = self._written(event, "message")
            item.parts.setdefault(_place(event, "content_index"), []).append(text_of(delta))
            self._said.append(delta)
            out.append(StreamDelta(delta))

    def _refusal_delta(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        self._written(event, "message").refusal.append(text_of(event["delta"]))

    def _arguments_delta(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        self._written(event, "function_call").arguments.append(text_of(event["delta"]))

    def _summary_delta(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        self._shown(event, (0, _place(event, "summary_index")), out)

    def _reasoning_delta(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        self._shown(event, (1, _place(event, "content_index")), out)

    def _shown(self, event: dict[str, Any], place: tuple[int, int], out: list[LlmStreamEvent]) -> None:
        delta = event["delta"]
        if delta:
            self._show(self._written(event, "reasoning"), delta, place, out)

    def _show(self, item: _Item, text: Any, place: tuple[int, int], out: list[LlmStreamEvent]) -> None:
        if place not in item.parts and item.parts:
            out.append(StreamReasoningDelta(_BETWEEN_PARTS))
        item.parts.setdefault(place, []).append(text_of(text))
        out.append(StreamReasoningDelta(text))

    # ---- whole items

    def _item_added(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        data = event["item"]
        if data["type"] in _KINDS:
            self._item(event, data["type"]).data = data
            # A message may stay empty; a call has its name already, and reasoning, though hidden, is paid for.
            self.output_seen = self.output_seen or data["type"] != "message"

    def _item_done(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        data = event["item"]
        if data["type"] not in _KINDS:
            return  # what the service did on its own
        self._finish(self._written(event, data["type"]), data, out)

    def _finish(self, item: _Item, data: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        item.data, item.done = data, True
        if item.kind == "message":
            self._settle(item, out)
        elif item.kind == "function_call":
            if data.get("arguments"):
                item.arguments = [text_of(data["arguments"])]
        elif not item.parts:
            for number, part in enumerate(data.get("summary") or data.get("content") or ()):
                if text := part.get("text"):
                    self._show(item, text, (0, number), out)

    def _settle(self, item: _Item, out: list[LlmStreamEvent]) -> None:
        """Take of a finished message what didn't come as deltas."""
        for number, part in enumerate(item.data.get("content") or ()):
            if part.get("type") == "refusal":
                item.refusal = item.refusal or [text_of(part.get("refusal") or "")]
            elif part.get("text") and number not in item.parts:
                item.parts[number] = [text_of(part["text"])]
                self._said.append(part["text"])
                out.append(StreamDelta(part["text"]))

    # ---- the answer as such

    def _about(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        response = event["response"]
        answer_id = response.get("id") or ""
        if self._id and answer_id and answer_id != self._id:
            message = f"changed the answer's id midway, from `{self._id}` to `{answer_id}`: two answers may be mixed"
            raise _FAULTS.failed(message, "identity_drift", retryable=False).observed(Seen.RESPONSE)
        self._id = self._id or text_of(answer_id)
        self._model = text_of(response.get("model") or self._model)
        usage = response.get("usage")
        self._meter.tier = response.get("service_tier") or self._meter.tier
        if usage and self._meter.update(usage):
            self.usage = self._meter.usage
            out.append(StreamUsage(self.usage))

    def _ended(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        self._about(event, out)
        response = event["response"]
        for place, data in enumerate(response.get("output") or ()):
            kind = data["type"]
            known = self._known(kind, data.get("call_id"), data.get("id")) or self._last.get((place, kind))
            if known is None or known.is_another(data.get("call_id"), None):
                self._item_done({"output_index": place, "item": data}, out)
            elif not known.done or known.data.get("status") == "in_progress":
                self._finish(known, data, out)
        kind = (event.get("type") or "").removeprefix("response.")
        self._status = text_of(response.get("status") or (kind if kind != "done" else "completed"))
        if self._status == "failed":
            raise _reported(response.get("error") or {"message": "the response failed, and nobody says why"})
        self._why = text_of((response.get("incomplete_details") or {}).get("reason") or "")
        self.complete = self.done = True

    def _error(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        error = event.get("error")
        if not error:
            # Flat, as documented; what would be its type elsewhere stands in the code.
            error = {"code": event.get("code"), "type": event.get("code"), "message": event.get("message") or ""}
        raise _reported(error)

    # ---- output

    def finish(self) -> LlmResponse:
        """The answer. Raises `AttemptFailed` for a stream that ended without saying that it is whole."""
        if not self.complete:
            raise _FAULTS.failed(
                "ended the stream before the response was completed: the answer was cut off", "stream_cut"
            )
        parts: list[LlmOutputPart] = []
        for item in sorted(self._items, key=lambda each: each.place):
            try:
                part = _KINDS[item.kind](item)
            except MISSHAPEN as exc:
                data = dumps(item.data)
                raise _FAULTS.misshapen("an item that isn't of the Responses API", data) from exc
            if part is not None:
                parts.append(part)
        reason, diagnostic = self._terminal(any(isinstance(each, ToolCallOutputPart) for each in parts))
        return LlmResponse(
            full_text="".join(self._said),  # what was shown, in that order
            parts=tuple(parts),
            usage=self.usage or TokenUsage(at_least=True),
            terminal_reason=reason,
            terminal_diagnostic=diagnostic,
            provider_usage=self._meter.raw,
            response_id=self._id or None,
            served_model=self._model or None,
        )

    def _terminal(self, calls: bool) -> tuple[LlmTerminalReason, str | None]:
        refusal = "".join(piece for item in self._items for piece in item.refusal)
        if refusal:
            return _Reason.CONTENT_FILTER, refusal
        if self._status in ("completed", "complete"):
            return (_Reason.TOOL_USE if calls else _Reason.STOP), None
        if self._status == "cancelled":
            return _Reason.CANCELLED, None
        reason = _INCOMPLETE.get(self._why)
        if reason is None:
            return _Reason.PROVIDER_ERROR, f"unknown end `{self._why or self._status}`"
        return reason, None


def _message(item: _Item) -> TextOutput | None:
    text = item.text()
    if not text:
        return None
    data = item.data
    meta = None
    if data.get("id"):
        meta = ResponseTextMeta(id=text_of(data["id"]), status=data.get("status"), phase=data.get("phase"))
    return TextOutput(text=text, response_meta=meta)


def _call(item: _Item) -> ToolCallOutputPart:
    data = item.data
    return ToolCallOutputPart(
        call_id=text_of(data.get("call_id") or f"call_{uuid4().hex[:24]}"),
        tool_name=text_of(data.get("name") or ""),
        input_json="".join(item.arguments) or "{}",
        replay=ProviderReplayMeta(item_id=data["id"]) if data.get("id") else None,
    )


def _reasoning(item: _Item) -> ReasoningOutput | None:
    data, text = item.data, item.text(_BETWEEN_PARTS)
    sealed = data.get("encrypted_content")
    if not text and not sealed:
        return None
    replay = None
    if sealed:
        summary = tuple(text_of(each.get("text") or "") for each in data.get("summary") or ())
        known = text_of(data.get("id") or "") or None
        replay = ProviderReasoningMeta(item_id=known, encrypted_content=text_of(sealed), summary=summary)
    return ReasoningOutput(text=text, replay=replay)


_KINDS: Mapping[str, Callable[[_Item], LlmOutputPart | None]] = {
    "function_call": _call,
    "message": _message,
    "reasoning": _reasoning,
}


def _place(event: dict[str, Any], name: str) -> int:
    """The first, where an event doesn't say."""
    index = event.get(name)
    return 0 if index is None else place_of(index)


def _reported(error: Any) -> AttemptFailed:
    return _FAULTS.reported(error_object({"error": error}), error)
