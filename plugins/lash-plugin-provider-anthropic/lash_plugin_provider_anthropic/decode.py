"""Answers as Messages sends them: events of a stream, or one document, into an `LlmResponse`.

Sans I/O: it is given the data of events, in order, and appends what they mean to a list. What isn't known (events,
blocks, deltas) is passed over, as the vendor asks for. Blocks of the service's own tools are kept as opaque state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

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
from lash_hookspecs.messages import ProviderReasoningMeta
from lash_plugin_provider_anthropic.usage import UsageMeter
from lash_provider_kit.answer_faults import MISSHAPEN, AnswerFaults
from lash_provider_kit.call_ids import own_id
from lash_provider_kit.failures import AttemptFailed, Seen, classify, error_object
from lash_provider_kit.wire_json import dump, load, place_of, text_of

__all__ = ["MessageDecoder"]

_Reason = LlmTerminalReason

_STOP: Mapping[str, LlmTerminalReason] = {
    "end_turn": _Reason.STOP,
    "max_tokens": _Reason.OUTPUT_LIMIT,
    "model_context_window_exceeded": _Reason.CONTEXT_OVERFLOW,
    "pause_turn": _Reason.STOP,
    "refusal": _Reason.CONTENT_FILTER,
    "stop_sequence": _Reason.STOP,
    "tool_use": _Reason.TOOL_USE,
}

# The status that an error would have had before the stream began, by its type.
_STATUS: Mapping[str, int] = {
    "api_error": 500,
    "authentication_error": 401,
    "billing_error": 402,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "request_too_large": 413,
    "timeout_error": 504,
}

_FAULTS = AnswerFaults("anthropic")


# Besides its text, what a block can't do without.
_NEEDED: Mapping[str, tuple[str, ...]] = {"redacted_thinking": ("data",), "tool_use": ("id", "name")}


class _Block:
    """A content block that is being written. `start` is what it began as; `pieces` are its text or its JSON."""

    __slots__ = ("kind", "pieces", "signature", "start")

    def __init__(self, start: dict[str, Any]) -> None:
        self.kind = text_of(start["type"])
        self.start = start
        self.pieces: list[str] = []
        self.signature = text_of(start.get("signature") or "")
        for name in _NEEDED.get(self.kind, ()):
            text_of(start[name])

    def write_json(self, piece: str) -> None:
        if self.kind in ("text", "thinking"):
            raise TypeError(f"arguments of a block of {self.kind}")
        self.pieces.append(piece)


class MessageDecoder:
    """Reads one answer; `cached_for_an_hour` is what was asked for of the cache."""

    def __init__(self, *, cached_for_an_hour: bool = False) -> None:
        self.output_seen = False
        self.usage: TokenUsage | None = None
        self.complete = False
        self.done = False
        self._started = False
        self._id = ""
        self._model = ""
        self._blocks: list[_Block] = []  # in the order in which they began
        self._at: dict[int, _Block] = {}
        self._stop = ""
        self._details: str | None = None
        self._meter = UsageMeter(for_an_hour=cached_for_an_hour)

    # ---- input

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        """Take one event of a stream."""
        try:
            event = load(data)
        except ValueError as exc:
            raise _FAULTS.no_json("an event", exc, data) from None
        try:
            self._take(event, out)
        except MISSHAPEN as exc:
            raise _FAULTS.misshapen("an event that is none of Messages", data) from exc

    def whole(self, body: bytes | bytearray, out: list[LlmStreamEvent]) -> None:
        """Take an answer that came in one piece."""
        try:
            document = load(body)
        except ValueError as exc:
            raise _FAULTS.no_json("an answer", exc, body) from None
        try:
            if document.get("type") == "error" or document.get("error"):
                raise _service_failure(document)
            self._start(document, out)
            for index, block in enumerate(document["content"]):
                self._begin(index, block, out)
            self._end(document)
        except MISSHAPEN as exc:
            raise _FAULTS.misshapen("JSON that is no message", body) from exc
        self.complete = self.done = True

    def _take(self, event: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        kind = event["type"]
        if kind == "content_block_delta":
            self._delta(event["index"], event["delta"], out)
        elif kind == "content_block_start":
            self._begin(event["index"], event["content_block"], out)
        elif kind == "message_start":
            self._start(event["message"], out)
        elif kind == "message_delta":
            self._end(event.get("delta") or {})
            self._usage(event.get("usage"), out)
        elif kind == "message_stop":
            if not self._started:
                raise _FAULTS.failed("ended a message that it hadn't begun", "stream_cut")
            self.complete = self.done = True
        elif kind == "error":
            raise _service_failure(event)

    def _start(self, message: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        if self._started and message.get("id") != self._id:
            was = f"from `{self._id}` to `{message.get('id')}`"
            raise _FAULTS.failed(
                f"began a second message midway, {was}: two answers may be mixed", "identity_drift", retryable=False
            ).observed(Seen.RESPONSE)
        self._started = True
        self._id = str(message.get("id") or "")
        self._model = str(message.get("model") or "")
        self._usage(message.get("usage"), out)

    def _begin(self, index: int, start: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        block = self._open(index, start)
        if block.kind == "text":
            if text := start.get("text"):
                self._write(block, text, StreamDelta(text), out)
        elif block.kind == "thinking":
            if text := start.get("thinking"):
                self._write(block, text, StreamReasoningDelta(text), out)
        else:
            self.output_seen = True

    def _delta(self, index: int, delta: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        kind = delta["type"]
        if kind == "text_delta":
            if text := delta["text"]:
                self._write(self._block(index, "text"), text, StreamDelta(text), out)
        elif kind == "input_json_delta":
            self._at[index].write_json(text_of(delta["partial_json"]))
        elif kind == "thinking_delta":
            if text := delta["thinking"]:
                self._write(self._block(index, "thinking"), text, StreamReasoningDelta(text), out)
        elif kind == "signature_delta":
            self._at[index].signature += text_of(delta["signature"])

    def _open(self, index: int, start: dict[str, Any]) -> _Block:
        block = self._at[place_of(index)] = _Block(start)
        self._blocks.append(block)
        return block

    def _block(self, index: int, kind: str) -> _Block:
        """The block at this place, or a new one: what is shown stays in the order in which it came.

        Gateways leave the beginning of a block out; and a damaged stream may go back to an earlier one.
        """
        block = self._at.get(index)
        if block is None or block is not self._blocks[-1] or block.kind != kind:
            block = self._open(index, {"type": kind})
        return block

    def _write(self, block: _Block, text: str, event: LlmStreamEvent, out: list[LlmStreamEvent]) -> None:
        self.output_seen = True
        block.pieces.append(text_of(text))
        out.append(event)

    def _end(self, said: dict[str, Any]) -> None:
        if stop := said.get("stop_reason"):
            self._stop = str(stop)
        if isinstance(details := said.get("stop_details"), dict):
            told = [str(each) for name in ("category", "explanation") if (each := details.get(name))]
            self._details = ": ".join(told) or None

    def _usage(self, usage: Any, out: list[LlmStreamEvent]) -> None:
        if isinstance(usage, dict) and self._meter.update(usage):
            self.usage = self._meter.usage
            out.append(StreamUsage(self.usage))

    # ---- output

    def finish(self) -> LlmResponse:
        """The answer. Raises `AttemptFailed` for a stream that ended before its message did."""
        if not self.complete:
            raise _FAULTS.failed("ended the stream before the message was over: the answer was cut off", "stream_cut")
        parts = self._parts()
        reason, diagnostic = self._terminal(any(isinstance(part, ToolCallOutputPart) for part in parts))
        return LlmResponse(
            full_text="".join(part.text for part in parts if isinstance(part, TextOutput)),
            parts=tuple(parts),
            usage=self.usage or TokenUsage(at_least=True),
            terminal_reason=reason,
            terminal_diagnostic=diagnostic,
            provider_usage=self._meter.raw or None,
            response_id=self._id or None,
            served_model=self._model or None,
        )

    def _parts(self) -> list[LlmOutputPart]:
        whole = self._whole_server_calls()
        parts: list[LlmOutputPart] = []
        used: set[str] = set()
        for block in self._blocks:
            text = "".join(block.pieces)
            match block.kind:
                case "text":
                    last = parts[-1] if parts else None
                    if isinstance(last, TextOutput):  # citations cut one text in many
                        parts[-1] = evolve(last, text=last.text + text)
                    elif text:
                        parts.append(TextOutput(text=text))
                case "thinking":
                    replay = ProviderReasoningMeta(signature=block.signature) if block.signature else None
                    if text or replay:
                        parts.append(ReasoningOutput(text=text, replay=replay))
                case "redacted_thinking":
                    meta = ProviderReasoningMeta(encrypted_content=block.start["data"], redacted=True)
                    parts.append(ReasoningOutput(text="", replay=meta))
                case "tool_use":
                    call_id, name = own_id(block.start["id"], used), block.start["name"]
                    parts.append(ToolCallOutputPart(call_id=call_id, tool_name=name, input_json=_input(block)))
                case _ if _key(block) in whole:
                    parts.append(ReasoningOutput(text="", replay=_opaque(block)))
        return parts

    def _whole_server_calls(self) -> set[str | None]:
        """The keys of the service's own calls that may go back: half of one would make it refuse the conversation."""
        keys = [(_key(block), "tool_use_id" in block.start) for block in self._blocks if block.kind not in _OURS]
        results = {key for key, is_result in keys if is_result}
        calls = {key for key, is_result in keys if not is_result}
        # A pause is before a result that is still to come.
        return calls if self._stop == "pause_turn" else calls & results | {None}

    def _terminal(self, called: bool) -> tuple[LlmTerminalReason, str | None]:
        if not self._stop:
            return (_Reason.TOOL_USE if called else _Reason.STOP), None
        reason = _STOP.get(self._stop)
        if reason is None:
            return _Reason.PROVIDER_ERROR, f"unknown stop reason `{self._stop}`"
        if reason is _Reason.TOOL_USE and not called:
            return _Reason.STOP, f"stop reason `{self._stop}` without any call"
        if self._stop == "end_turn" and called:
            return _Reason.TOOL_USE, None
        if self._stop == "pause_turn":
            return reason, "the service paused a long turn of its own tools: ask it to go on"
        if reason is _Reason.CONTENT_FILTER:
            return reason, self._details or "the model refused"
        return reason, None


_OURS = frozenset({"redacted_thinking", "text", "thinking", "tool_use"})


def _key(block: _Block) -> str | None:
    """What a server tool's call and its result have in common; None for what is neither."""
    key = block.start.get("tool_use_id") or block.start.get("id")
    return str(key) if key else None


def _opaque(block: _Block) -> ProviderReasoningMeta:
    """A block as it goes back, its type first, by which the encoder knows it."""
    value = {"type": block.kind, **block.start}
    if block.pieces:
        value["input"] = _value(_input(block))
    return ProviderReasoningMeta(item_id=_key(block) or block.kind, encrypted_content=dump(value))


def _input(block: _Block) -> str:
    """The arguments as the model wrote them; some gateways send them whole at the beginning."""
    return "".join(block.pieces) or dump(block.start.get("input") or {})


def _value(text: str) -> Any:
    try:
        return load(text.encode())
    except ValueError:
        return {}


def _service_failure(event: Any) -> AttemptFailed:
    said = error_object(event)
    return _FAULTS.reported(said, event, classify(said, said.status or _STATUS.get(said.type)))
