"""Answers as Gemini sends them: chunks of a stream, or one document, into an `LlmResponse`.

Sans I/O: it is given the data of events, in order, and appends what they mean to a list.

A part that only Google can read (a signature without text, what a tool of Google's own did) becomes reasoning without
text that holds the part as it came, and goes back as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

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
from lash_plugin_provider_google.failures import FAULTS, service_failure
from lash_plugin_provider_google.usage import UsageMeter
from lash_provider_kit.answer_faults import MISSHAPEN
from lash_provider_kit.wire_json import dump, load

__all__ = ["GeminiDecoder"]

_Reason = LlmTerminalReason

_FINISH: Mapping[str, LlmTerminalReason] = {
    "STOP": _Reason.STOP,
    "MAX_TOKENS": _Reason.OUTPUT_LIMIT,
    "CONTINUATION": _Reason.OUTPUT_LIMIT,  # the limit of one request, rather than of the answer
    "FUNCTION_CALL": _Reason.TOOL_USE,  # not Google's, which says STOP, but that of servers which stand in for it
    **dict.fromkeys(
        (
            "BLOCKLIST",
            "ESCALATION",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "IMAGE_SAFETY",
            "MODEL_ARMOR",
            "PROHIBITED_CONTENT",
            "RECITATION",
            "SAFETY",
            "SPII",
        ),
        _Reason.CONTENT_FILTER,
    ),
    **dict.fromkeys(
        (
            "IMAGE_OTHER",
            "LANGUAGE",
            "MALFORMED_FUNCTION_CALL",
            "MALFORMED_RESPONSE",
            "MISSING_THOUGHT_SIGNATURE",
            "NO_IMAGE",
            "OTHER",
            "PUP_LIMITED_DISABLED",
            "TOO_MANY_TOOL_CALLS",
            "UNEXPECTED_TOOL_CALL",
        ),
        _Reason.PROVIDER_ERROR,
    ),
}
_UNSAID = frozenset({"FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED"})

_TEXT_KEYS = frozenset({"text", "thought", "thoughtSignature"})


class _Text:
    """Text, or thoughts, that are being written; `marks` are the signed pieces: where each begins and ends."""

    __slots__ = ("length", "marks", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.length = 0
        self.marks: list[tuple[int, int, str]] = []

    def add(self, text: str, signature: str) -> None:
        self.pieces.append(text)
        start, self.length = self.length, self.length + len(text)
        if signature:
            self.marks.append((start, self.length, signature))


class _Thought(_Text):
    """Thoughts."""

    __slots__ = ()


class GeminiDecoder:
    """Reads one answer. `salt` makes the ids of its calls its own, where the service gives none."""

    def __init__(self, salt: str = "") -> None:
        self.output_seen = False
        self.complete = False
        self.done = False
        self._salt = salt
        self._id = ""
        self._model = ""
        self._parts: list[_Text | LlmOutputPart] = []
        self._open: _Text | None = None  # the last part, while it can grow
        self._call_ids: set[str] = set()
        self._finish = ""
        self._why = ""
        self._blocked = ""
        self._whole = False
        self._meter = UsageMeter()
        self._told: TokenUsage | None = None

    @property
    def usage(self) -> TokenUsage | None:
        """What the service has told of its usage so far."""
        return self._meter.usage

    # ---- input

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        """Take one event of a stream."""
        try:
            chunk = load(data)
        except ValueError as exc:
            raise FAULTS.no_json("an event", exc, data) from None
        try:
            self._take(chunk, out)
        except MISSHAPEN as exc:
            raise FAULTS.misshapen("an event that is no part of an answer", data) from exc

    def whole(self, body: bytes | bytearray, out: list[LlmStreamEvent]) -> None:
        """Take an answer that came in one piece: one object, or a list of what would have been events."""
        try:
            document = load(body)
        except ValueError as exc:
            raise FAULTS.no_json("an answer", exc, body) from None
        try:
            for chunk in document if isinstance(document, list) else [document]:
                self._take(chunk, out)
            if not self._id and not self._parts and not self.complete and self.usage is None:
                raise LookupError("nothing of an answer")
        except MISSHAPEN as exc:
            raise FAULTS.misshapen("JSON that is no answer", body) from exc
        # A lone object with content is all there is; a list may have been cut.
        self._whole = isinstance(document, dict) and bool(self._parts)
        self.done = True

    def _take(self, chunk: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        candidates = chunk.get("candidates")
        if not self._id or not candidates:
            self._rare(chunk)
        if candidates:
            for candidate in candidates:
                if not candidate.get("index"):  # we never ask for a second one
                    self._candidate(candidate, out)
        elif chunk.get("error"):
            raise service_failure(chunk["error"])
        usage = chunk.get("usageMetadata")
        if usage:
            self._meter.update(usage, last=self.done)
            if self.done or self._told is None:
                self._tell(out)

    def _tell(self, out: list[LlmStreamEvent]) -> None:
        """Say what the first report holds, and what the last one does: those between them come with every delta."""
        usage = self._meter.usage
        if usage is not None and usage != self._told:
            self._told = usage
            out.append(StreamUsage(usage))

    def _rare(self, chunk: dict[str, Any]) -> None:
        answer_id, model = chunk.get("responseId"), chunk.get("modelVersion")
        self._id = self._id or (answer_id if isinstance(answer_id, str) else "")
        self._model = self._model or (model if isinstance(model, str) else "")
        feedback = chunk.get("promptFeedback") or {}
        reason = feedback.get("blockReason")
        if reason and reason not in _UNSAID:
            said = feedback.get("blockReasonMessage")
            self._blocked = f"{reason}{_categories(feedback)}" + (f": {said}" if said else "")
            self.complete = self.done = True

    def _candidate(self, candidate: dict[str, Any], out: list[LlmStreamEvent]) -> None:
        content = candidate.get("content")
        parts = content.get("parts") if content else None
        if parts:
            for part in parts:
                text = part.get("text")
                if text and len(part) == 1 and type(text) is str:  # as nearly always
                    open_text = self._open
                    if type(open_text) is not _Text:
                        open_text = self._begin(_Text)
                    open_text.pieces.append(text)
                    open_text.length += len(text)
                    out.append(StreamDelta(text))
                else:
                    self._part(part, text, out)
        finish = candidate.get("finishReason")
        if finish and finish not in _UNSAID:
            self._finish = str(finish)
            said = candidate.get("finishMessage")
            self._why = _categories(candidate) + (f": {said}" if said else "")
            self.complete = self.done = True

    def _part(self, part: dict[str, Any], text: object, out: list[LlmStreamEvent]) -> None:
        signature = part.get("thoughtSignature") or ""
        if not isinstance(signature, str) or not isinstance(text, str | None):
            raise TypeError("a signature, or text, that is none")
        call = part.get("functionCall")
        if call is not None:
            self._call(call, signature)
            return
        kind = _Thought if part.get("thought") is True else _Text
        is_open = type(self._open) is kind
        if text:
            current = self._open if self._open is not None and is_open else self._begin(kind)
            current.add(text, signature)
            out.append(StreamReasoningDelta(text) if kind is _Thought else StreamDelta(text))
        elif signature and self._open is not None and is_open and part.keys() <= _TEXT_KEYS:
            self._open.add("", signature)  # it stands behind what it signs
        elif signature or part.keys() - _TEXT_KEYS:
            self._seen(ReasoningOutput(text="", replay=ProviderReasoningMeta(encrypted_content=dump(part))))
        if signature and kind is _Thought:
            self._open = None  # it is for one whole thought

    def _begin(self, kind: type[_Text]) -> _Text:
        begun = kind()
        self._seen(begun)
        self._open = begun
        return begun

    def _seen(self, part: _Text | LlmOutputPart) -> None:
        self.output_seen = True
        self._open = None
        self._parts.append(part)

    def _call(self, call: dict[str, Any], signature: str) -> None:
        args, name = call.get("args"), str(call.get("name") or "")
        if not isinstance(args, dict | None):
            raise TypeError("arguments that are no object")
        self._seen(
            ToolCallOutputPart(
                call_id=self._call_id(call.get("id"), name),
                tool_name=name,
                input_json=dump(args or {}),
                replay=ProviderReplayMeta(opaque=signature) if signature else None,
            )
        )

    def _call_id(self, given: object, name: str) -> str:
        """The service's own id; else one that is the same each time this answer is read, and in no other answer."""
        call_id = given if isinstance(given, str) else ""
        if not call_id or call_id in self._call_ids:
            seed = "\n".join((self._salt, self._id, str(len(self._call_ids)), call_id, name))
            call_id = f"call_{sha256(seed.encode('utf-8', 'replace')).hexdigest()[:24]}"
        self._call_ids.add(call_id)
        return call_id

    # ---- output

    def finish(self) -> LlmResponse:
        """The answer. Raises `AttemptFailed` for one that ended without saying why."""
        if not self.complete and not self._whole:
            raise FAULTS.failed("ended the answer without a finish reason: it was cut off", "stream_cut")
        reason, diagnostic = self._terminal()
        parts = tuple(_settled(part) if isinstance(part, _Text) else part for part in self._parts)
        return LlmResponse(
            full_text="".join(part.text for part in parts if isinstance(part, TextOutput)),
            parts=parts,
            usage=self.usage or TokenUsage(at_least=True),
            terminal_reason=reason,
            terminal_diagnostic=diagnostic,
            provider_usage=self._meter.raw,
            response_id=self._id or None,
            served_model=self._model or None,
        )

    def _terminal(self) -> tuple[LlmTerminalReason, str | None]:
        has_calls = bool(self._call_ids)
        if not self._finish:
            if self._blocked:
                return _Reason.CONTENT_FILTER, f"the service blocked the prompt: {self._blocked}"
            return (_Reason.TOOL_USE if has_calls else _Reason.STOP), None
        reason = _FINISH.get(self._finish)
        if reason is None:
            return _Reason.PROVIDER_ERROR, f"unknown finish reason `{self._finish}`{self._why}"
        if reason in (_Reason.STOP, _Reason.TOOL_USE):
            return (_Reason.TOOL_USE if has_calls else _Reason.STOP), None
        return reason, f"finish reason `{self._finish}`{self._why}"


def _settled(run: _Text) -> LlmOutputPart:
    text = "".join(run.pieces)
    if isinstance(run, _Thought):
        signature = run.marks[-1][2] if run.marks else None
        return ReasoningOutput(text=text, replay=ProviderReasoningMeta(signature=signature) if signature else None)
    payload = dump(run.marks) if run.marks else None
    return TextOutput(text=text, response_meta=ResponseTextMeta(provider_payload=payload) if payload else None)


def _categories(about: dict[str, Any]) -> str:
    """What the service blocked it for, where it says so."""
    ratings = about.get("safetyRatings")
    blocked = [str(each.get("category")) for each in ratings if each.get("blocked")] if ratings else []
    return f" ({', '.join(blocked)})" if blocked else ""
