"""Answers as Chat Completions sends them: chunks of a stream, or one document, into an `LlmResponse`.

Sans I/O: it is given the data of events, in order, and appends what they mean to a list. The services that speak this
wire differ in dozens of small ways; each tolerance here says whose way it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from lash_hookspecs.llm import (
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
from lash_plugin_provider_openai.details import ReasoningDetails
from lash_plugin_provider_openai.usage import UsageMeter
from lash_provider_kit.answer_faults import MISSHAPEN, AnswerFaults
from lash_provider_kit.call_ids import own_id
from lash_provider_kit.failures import Seen, error_object
from lash_provider_kit.wire_json import load

__all__ = ["ChatDecoder"]

_Reason = LlmTerminalReason

_FINISH: Mapping[str, LlmTerminalReason] = {
    "content_filter": _Reason.CONTENT_FILTER,
    "function_call": _Reason.TOOL_USE,
    "length": _Reason.OUTPUT_LIMIT,
    "model_length": _Reason.OUTPUT_LIMIT,  # Mistral's
    "stop": _Reason.STOP,
    "tool_calls": _Reason.TOOL_USE,
}
_FAULTS = AnswerFaults("openai-chat")


class _Call:
    """A tool call that is being written."""

    __slots__ = ("arguments", "call_id", "name")

    def __init__(self) -> None:
        self.call_id = ""
        self.name = ""
        self.arguments: list[str] = []


class ChatDecoder:
    """Reads one answer. `strict_identity`: whether an id or a model that changes midway fails it.

    `replayed` is the field in which its reasoning goes back as text, if it does: models are shown none without a mark.
    """

    def __init__(self, *, strict_identity: bool = True, replayed: str | None = None) -> None:
        self.output_seen = False
        self.usage: TokenUsage | None = None
        self.complete = False
        self.done = False
        self._strict = strict_identity
        self._reasoned = None if replayed is None else ProviderReasoningMeta(item_id=replayed)
        self._streamed = True
        self._id = ""
        self._model = ""
        self._runs: list[tuple[type[TextOutput | ReasoningOutput], list[str]]] = []  # alternating text and reasoning
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._details = ReasoningDetails()
        self._refusal: list[str] = []
        self._finish = ""
        self._meter = UsageMeter()

    # ---- input

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        """Take one event of a stream."""
        if data == b"[DONE]":
            self.done = True
            return
        try:
            chunk = load(data)
        except ValueError as exc:
            raise _FAULTS.no_json("an event", exc, data) from None
        try:
            self._take(chunk, out, "delta")
        except MISSHAPEN as exc:
            raise _FAULTS.misshapen("an event that is no chunk of a chat completion", data) from exc

    def whole(self, body: bytes | bytearray, out: list[LlmStreamEvent]) -> None:
        """Take an answer that came in one piece."""
        self._streamed = False
        try:
            document = load(body)
        except ValueError as exc:
            raise _FAULTS.no_json("an answer", exc, body) from None
        try:
            self._take(document, out, "message")
            if not document["choices"]:
                raise LookupError("no choices")
        except MISSHAPEN as exc:
            raise _FAULTS.misshapen("JSON that is no chat completion", body) from exc
        self.complete = self.done = True

    def _take(self, chunk: dict[str, Any], out: list[LlmStreamEvent], field: str) -> None:
        error = chunk.get("error")
        if error:
            raise _FAULTS.reported(error_object({"error": error}), error)
        answer_id = chunk.get("id")
        model = chunk.get("model")
        if answer_id != self._id or model != self._model:
            self._identify(answer_id, model)
        choices = chunk.get("choices")
        if choices:
            for choice in choices:
                if not choice.get("index"):  # we never ask for a second one
                    self._choice(choice, out, field)
        self._meter.tier = chunk.get("service_tier") or self._meter.tier
        usage = chunk.get("usage")
        if usage:
            self._usage(usage, out)

    def _identify(self, answer_id: object, model: object) -> None:
        # Empty or absent is no drift: Azure's first chunk has neither, and some gateways name them once.
        for name, old, new in (("id", self._id, answer_id), ("model", self._model, model)):
            if not new or not isinstance(new, str) or new == old:
                continue
            if old and self._strict:
                message = (
                    f"changed the answer's {name} midway, from `{old}` to `{new}`: two answers may be mixed "
                    "(`strict_identity = false` accepts it)"
                )
                raise _FAULTS.failed(message, "identity_drift", retryable=False).observed(Seen.RESPONSE)
            if name == "id":
                self._id = self._id or new
            else:
                self._model = self._model or new

    def _choice(self, choice: dict[str, Any], out: list[LlmStreamEvent], field: str) -> None:
        delta = choice.get(field)
        if delta:
            content = delta.get("content")
            if content:
                if isinstance(content, str):
                    self._append(TextOutput, content)
                    out.append(StreamDelta(content))
                else:
                    self._content_parts(content, out)
            # Most chunks have a single field; a role comes once, nulls hide the rest.
            if len(delta) > 1 or not content:
                self._rare(delta, out)
        finish = choice.get("finish_reason")
        if finish:
            # OpenRouter repeats it; a limit that was reported once stays reported.
            if not self._finish or finish in ("length", "content_filter"):
                self._finish = str(finish)
            self.complete = True

    def _rare(self, delta: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        # DeepSeek, vLLM and z.ai say reasoning_content; OpenRouter, Groq, Cerebras and Ollama reasoning.
        reasoning = delta.get("reasoning_content") or delta.get("reasoning") or delta.get("reasoning_text")
        if reasoning and isinstance(reasoning, str):
            self._append(ReasoningOutput, reasoning)
            out.append(StreamReasoningDelta(reasoning))
        details = delta.get("reasoning_details")
        if details:
            self.output_seen = True  # sealed reasoning is paid for as well, though nobody sees it
            self._details.take(details)
        refusal = delta.get("refusal")
        if refusal and isinstance(refusal, str):
            self.output_seen = True
            self._refusal.append(refusal)
        calls = delta.get("tool_calls")
        if calls:
            self.output_seen = True
            for call in calls:
                self._tool_call(call)

    def _content_parts(self, parts: object, out: list[LlmStreamEvent]) -> None:
        """Mistral's content: a list of typed parts, in which thinking is nested once more."""
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, dict):
                continue
            text = part.get("text")
            thinking = part.get("thinking")
            if isinstance(text, str) and text:
                self._append(TextOutput, text)
                out.append(StreamDelta(text))
            elif isinstance(thinking, list):
                inner = "".join(each.get("text") or "" for each in thinking if isinstance(each, dict))
                if inner:
                    self._append(ReasoningOutput, inner)
                    out.append(StreamReasoningDelta(inner))

    def _append(self, kind: type[TextOutput | ReasoningOutput], text: str) -> None:
        runs = self._runs
        if runs and runs[-1][0] is kind:
            runs[-1][1].append(text)
        else:
            self.output_seen = True
            runs.append((kind, [text]))

    def _tool_call(self, piece: dict[str, Any]) -> None:
        function = piece.get("function") or {}
        name, call_id, index = function.get("name"), piece.get("id"), piece.get("index")
        # Text by the book; some gateways send the object itself.
        written = function.get("arguments")
        arguments = written if isinstance(written, str | None) else orjson.dumps(written).decode()
        call = self._begun(index, call_id)
        if call is None or _begins_another(call, call_id, name, arguments):
            call = _Call()
            self._calls.append(call)
            if isinstance(index, int):
                self._by_index[index] = call
        call.call_id = call.call_id or str(call_id or "")
        call.name = call.name or str(name or "")
        if arguments:
            call.arguments.append(arguments)

    def _begun(self, index: object, call_id: object) -> _Call | None:
        """The call that a piece is of, if that has begun; a document's calls are whole, each in one piece."""
        if not self._streamed:
            return None
        if isinstance(index, int):
            return self._by_index.get(index)
        # Gemini's compatible endpoint leaves the index out.
        if call_id:
            return next((each for each in self._calls if each.call_id == call_id), None)
        return self._calls[-1] if self._calls else None

    def _part(self, kind: type[TextOutput | ReasoningOutput], text: str) -> TextOutput | ReasoningOutput:
        return kind(text=text) if kind is TextOutput else ReasoningOutput(text=text, replay=self._reasoned)

    def _finished_calls(self) -> list[ToolCallOutputPart]:
        used: set[str] = set()
        return [
            ToolCallOutputPart(
                call_id=own_id(call.call_id, used),
                tool_name=call.name,
                input_json="".join(call.arguments) or "{}",
            )
            for call in self._calls
        ]

    def _usage(self, usage: Any, out: list[LlmStreamEvent]) -> None:
        if isinstance(usage, dict) and self._meter.update(usage):
            self.usage = self._meter.usage
            out.append(StreamUsage(self.usage))

    # ---- output

    def finish(self) -> LlmResponse:
        """The answer. Raises `AttemptFailed` for a stream that ended without saying why."""
        if self._streamed and not self._finish:
            raise _FAULTS.failed("ended the stream without a finish reason: the answer was cut off", "stream_cut")
        reason, diagnostic = self._terminal()
        parts = self._details.kept_in([self._part(kind, "".join(pieces)) for kind, pieces in self._runs])
        parts += self._finished_calls()
        return LlmResponse(
            full_text="".join(part.text for part in parts if isinstance(part, TextOutput)),
            parts=tuple(parts),
            usage=self.usage or TokenUsage(at_least=True),
            terminal_reason=reason,
            terminal_diagnostic=diagnostic,
            provider_usage=self._meter.raw,
            response_id=self._id or None,
            served_model=self._model or None,
        )

    def _terminal(self) -> tuple[LlmTerminalReason, str | None]:
        if self._refusal:
            return _Reason.CONTENT_FILTER, "".join(self._refusal)
        if not self._finish:
            return (_Reason.TOOL_USE if self._calls else _Reason.STOP), None
        reason = _FINISH.get(self._finish)
        if reason is None:
            return _Reason.PROVIDER_ERROR, f"unknown finish reason `{self._finish}`"
        if reason is _Reason.STOP and self._calls:
            return _Reason.TOOL_USE, None  # Ollama's and others' way to end a tool call
        if reason is _Reason.TOOL_USE and not self._calls:
            return _Reason.STOP, f"finish reason `{self._finish}` without any call"
        return reason, None


def _begins_another(call: _Call, call_id: object, name: object, arguments: str | None) -> bool:
    """Whether a piece that seems to be of `call` begins another one.

    Ollama gives every parallel call the index 0, and others neither an index nor an id, and send each call in one
    piece: a name that comes behind such a one is another call's, unless it only repeats itself.
    """
    if not name or not call.name:
        return False
    if call_id and call.call_id:
        return call_id != call.call_id
    return (name != call.name or bool(arguments)) and _is_whole(call.arguments)


def _is_whole(arguments: list[str]) -> bool:
    """Whether they are JSON, and came at once: looking at what grows would cost its whole length with each piece."""
    if len(arguments) != 1:
        return False
    try:
        orjson.loads(arguments[0])
    except ValueError:
        return False
    return True
