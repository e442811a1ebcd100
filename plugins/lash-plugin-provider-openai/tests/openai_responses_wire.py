"""The Responses API for the contract's kit: how a scripted answer looks on this wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openai_chat_wire import ChatWire

from lash_hookspecs.llm import LlmTerminalReason as Reason, TokenUsage
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.testing.provider import (
    MODEL,
    RESPONSE_ID,
    Ability,
    Call,
    Ends,
    Fails,
    Fault,
    Novelty,
    ProviderSetup,
    Reasoning,
    Refusal,
    Said,
    Sealed,
    Text,
    Used,
)
from lash_plugin_provider_openai.responses_decode import ResponsesDecoder
from lash_plugin_provider_openai.responses_provider import OpenAiProvider
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_provider_kit.service_wire import ServiceWire, opening_of, settings_of

__all__ = ["ResponsesWire", "event", "response"]

_WHY = {Reason.OUTPUT_LIMIT: "max_output_tokens", Reason.CONTENT_FILTER: "content_filter"}


class ResponsesWire(ServiceWire):
    """OpenAI's own."""

    provider_id = "openai"
    decoder = ResponsesDecoder
    cannot: Mapping[str, str] = {
        Ability.SEALED_CALLS: "calls have no opaque state; reasoning has",
        Ability.SEED: "the Responses API has no seed",
        Ability.STOP: "the Responses API has no stop sequences",
    }

    def open(self, setup: ProviderSetup) -> OpenAiProvider:
        return OpenAiProvider(
            OpenAiSettings(**settings_of(setup, "/v1")),
            models={MODEL: ModelCapability(images=setup.images)},
            **opening_of(setup),
        )

    def stream(self, said: Sequence[Said]) -> list[bytes]:
        return _Script().play(said)

    def document(self, said: Sequence[Said]) -> bytes:
        script = _Script()
        script.play(said)
        return json.dumps(script.ended).encode()

    def error(self, fault: Fault, message: str) -> bytes:
        return ChatWire().error(fault, message)


class _Script:
    """The events of one answer, as the documentation orders them."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.output: list[dict[str, Any]] = []
        self.usage: TokenUsage | None = None
        self.open: dict[str, Any] | None = None
        self.ended: dict[str, Any] = {}
        self.text: list[str] = []  # of the open message: joined once, since it may be very long

    def play(self, said: Sequence[Said]) -> list[bytes]:
        self.say("response.created", response=response(status="in_progress"))
        self.say("response.in_progress", response=response(status="in_progress"))
        for step in said:
            self.step(step)
        return self.events

    def say(self, kind: str, **fields: Any) -> None:
        self.events.append(event(kind, sequence_number=len(self.events), **fields))

    def step(self, step: Said) -> None:
        match step:
            case Text(text):
                self.part("message", "output_text")
                self.text.append(text)
                self.delta("response.output_text.delta", text, content_index=0, logprobs=[])
            case Refusal(text):
                part = self.part("message", "refusal")
                part["refusal"] += text
                self.delta("response.refusal.delta", text, content_index=0)
            case Reasoning(text):
                item = self.item("reasoning")
                if not item["summary"]:
                    item["summary"].append({"type": "summary_text", "text": ""})
                item["summary"][0]["text"] += text
                self.delta("response.reasoning_summary_text.delta", text, summary_index=0)
            case Sealed(opaque):
                self.item("reasoning")["encrypted_content"] = opaque
                self.close()
            case Call():
                self.close()
                item = self.item("function_call", call_id=step.call_id, name=step.name)
                for piece in step.pieces:
                    item["arguments"] += piece
                    self.delta("response.function_call_arguments.delta", piece)
                named = {"item_id": item["id"], "output_index": len(self.output) - 1, "name": step.name}
                self.say("response.function_call_arguments.done", **named, arguments=item["arguments"])
                self.close()
            case Used(usage):
                self.usage = usage
                self.say("response.in_progress", response=response(status="in_progress", usage=_usage(usage)))
            case Ends(reason):
                self.close()
                self.end(reason)
            case Fails(fault, message):
                error = json.loads(ChatWire().error(fault, message))["error"]
                self.say("error", code=error["code"] or error["type"], message=message, param=None)
            case Novelty():
                self.say("response.novelty.delta", output_index=77, delta={"level": 3})

    def end(self, reason: Reason | str) -> None:
        why = _WHY.get(reason) if isinstance(reason, Reason) else reason
        self.ended = response(
            status="completed" if why is None else "incomplete",
            incomplete_details=None if why is None else {"reason": why},
            output=self.output,
            usage=None if self.usage is None else _usage(self.usage),
        )
        self.say("response.completed" if why is None else "response.incomplete", response=self.ended)

    # ---- items

    def item(self, kind: str, **fields: Any) -> dict[str, Any]:
        if self.open is not None and self.open["type"] == kind:
            return self.open
        self.close()
        number = len(self.output)
        more: Mapping[str, dict[str, Any]] = {
            "message": {"role": "assistant", "content": []},
            "reasoning": {"summary": []},
            "function_call": {"arguments": ""},
        }
        self.open = {"id": f"{kind}-{number}", "type": kind, "status": "in_progress", **more[kind], **fields}
        self.output.append(self.open)
        self.say("response.output_item.added", output_index=number, item=self.open)
        return self.open

    def part(self, kind: str, part: str) -> dict[str, Any]:
        item = self.item(kind)
        if item["content"] and item["content"][0]["type"] != part:
            self.close()
            item = self.item(kind)
        if not item["content"]:
            empty = {"text": "", "annotations": []} if part == "output_text" else {"refusal": ""}
            item["content"].append({"type": part, **empty})
            named = {"item_id": item["id"], "output_index": len(self.output) - 1, "content_index": 0}
            self.say("response.content_part.added", **named, part=item["content"][0])
        found: dict[str, Any] = item["content"][0]
        return found

    def delta(self, kind: str, delta: str, **fields: Any) -> None:
        assert self.open is not None
        self.say(kind, item_id=self.open["id"], output_index=len(self.output) - 1, delta=delta, **fields)

    def close(self) -> None:
        if self.open is not None:
            if self.text:
                self.open["content"][0]["text"] = "".join(self.text)
                self.text.clear()
            self.open["status"] = "completed"
            self.say("response.output_item.done", output_index=len(self.output) - 1, item=self.open)
            self.open = None


def event(kind: str, **fields: Any) -> bytes:
    """One event, with its name before its data."""
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def response(**fields: Any) -> dict[str, Any]:
    """A response object, as much of it as the API's types require."""
    return {
        "id": RESPONSE_ID,
        "object": "response",
        "created_at": 1,
        "model": MODEL,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "temperature": None,
        "top_p": None,
        "usage": None,
        **fields,
    }


def _usage(usage: TokenUsage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_total,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_input,
            "cache_write_tokens": usage.cache_write_input,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output},
        "total_tokens": usage.total,
    }
