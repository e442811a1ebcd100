"""Requests as Messages wants them: JSON bytes, encoded once per message and joined per request.

A conversation grows by a few messages per turn and is sent whole each time. So each message keeps its encoding in its
memo, each run of messages the joined one, and tools are kept by the identity of their tuple. What is sent begins with
what changes least (model, tools, system, messages, options), and cache markers are put between kept bytes: but for
them, a request begins with the bytes of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from attrs import evolve

from lash_hookspecs.llm import (
    LlmAttachment,
    LlmRequest,
    LlmToolChoice,
    LlmToolSpec,
)
from lash_hookspecs.llm_messages import LlmMessage, LlmMessages, LlmRole, LlmTextMessage, MessageRun
from lash_hookspecs.messages import ProviderRoute
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_anthropic.blocks import CHECKS, BlockEncoder, Encoded
from lash_plugin_provider_anthropic.models import ANTHROPIC_MODELS, BUDGET, OFF
from lash_plugin_provider_anthropic.options import options, receipt, require_forcible
from lash_plugin_provider_anthropic.settings import AnthropicSettings
from lash_plugin_provider_anthropic.stale import is_amid_calls
from lash_plugin_provider_anthropic.stretches import Stretch, glue, joined, marked
from lash_provider_kit.request_parts import Toolsets, is_lasting, merged, taken
from lash_provider_kit.wire_json import dumps

__all__ = ["MARKERS", "RequestEncoder"]

MARKERS: Mapping[str, bytes] = {
    "off": b"",
    "short": b',"cache_control":{"type":"ephemeral"}',
    "long": b',"cache_control":{"type":"ephemeral","ttl":"1h"}',
}
_MOST_MARKERS = 4
_LONG = 256
"""A longer run comes from a store: only the run keeps what is made of its messages."""

_CHOICES: Mapping[LlmToolChoice, str] = {
    LlmToolChoice.AUTO: "auto",
    LlmToolChoice.NONE: "none",
    LlmToolChoice.REQUIRED: "any",
}


class RequestEncoder:
    """Makes request bodies for one set of settings. Raises `LlmCallFailed` of kind validation.

    `models` is what the user says of models, which is stronger than the table.
    """

    def __init__(
        self,
        settings: AnthropicSettings,
        *,
        provider_id: str = "anthropic",
        endpoint: str = "",
        models: Mapping[str, ModelCapability] = MappingProxyType({}),
    ) -> None:
        self._said = models
        self._settings = settings
        self._provider_id = provider_id
        self._endpoint = endpoint
        self._marker = MARKERS[settings.cache]
        self._body = {name: value for name, value in settings.extra_body.items() if name != "tools"}
        self._first_tools = [dumps(CHECKS.plain(each, "extra_body")) for each in settings.extra_body.get("tools", ())]
        self._tools = Toolsets(self._joined)
        self._models: dict[str, _OneModel] = {}

    def encode(self, request: LlmRequest) -> bytes:
        """The body of `request`."""
        return b"".join(self.pieces(request))

    def receipt(self, request: LlmRequest, stale: int = 0) -> Mapping[str, str]:
        """What becomes of each option that `request` asks for, sent without the thinking of its first messages."""
        can = self._model(request.model).can
        return receipt(_sent(request, stale, can), can)

    def pieces(self, request: LlmRequest, stale: int = 0) -> tuple[bytes, ...]:
        """The body of `request`, in pieces: nearly all of a long conversation's is one that an earlier request made.

        The first `stale` messages are sent without their thinking.
        """
        one = self._model(request.model)
        system, stretches = one.conversation(request, stale)
        request = _sent(request, stale, one.can)
        tools = self._tools(request.tools)
        marker = self._marker
        used = sum(map(bool, (marker and system, marker and tools, "cache_control" in self._body)))
        pieces = [b'{"model":%b' % dumps(request.model)]
        if tools:
            pieces += (b',"tools":[', tools[:-1], marker, b"}]")
        if system:
            pieces += (b',"system":[', system[:-1], marker, b"}]")
        pieces.append(b',"messages":[')
        last = b""
        for stretch, body in zip(
            stretches, marked(stretches, marker, _MOST_MARKERS - used if marker else 0), strict=True
        ):
            if stretch.first is last:
                pieces.append(b",")
            else:
                pieces.append(glue(stretch.first) if last else glue(stretch.first)[3:])
            pieces += body
            last = stretch.last
        said = options(request, one.can, self._settings) | self._choice(request, one.can)
        end = dumps(merged(said, CHECKS.plain(self._body, "extra_body")))
        pieces.append(b"%b],%b" % (b"]}" if last else b"", end[1:]))
        return tuple(pieces)

    def _model(self, model: str) -> _OneModel:
        found = self._models.get(model)
        if found is None:
            route = ProviderRoute(provider_id=self._provider_id, endpoint=self._endpoint, model=model)
            found = self._models[model] = _OneModel(route, ANTHROPIC_MODELS.capability(model, self._said))
        return found

    # ---- tools

    def _joined(self, tools: Sequence[LlmToolSpec]) -> bytes:
        """The tools with commas between them."""
        return b",".join([*self._first_tools, *map(_tool, tools)])

    def _choice(self, request: LlmRequest, can: ModelCapability) -> dict[str, Any]:
        if request.tools or self._first_tools:
            if request.tool_choice is LlmToolChoice.REQUIRED:
                require_forcible(request, can)
            return {"tool_choice": {"type": _CHOICES[request.tool_choice]}}
        CHECKS.no_tools(request.tool_choice)
        return {}


class _OneModel:
    """Conversations with one model: opaque state goes back to the model that it is from, so each has its own bytes."""

    def __init__(self, route: ProviderRoute, can: ModelCapability, *, thinking: bool = True) -> None:
        self.can = can
        self._key = f"anthropic\n{route.provider_id}\n{route.endpoint}\n{route.model}\n{taken(can)}"
        self._key += "" if thinking else "\nbare"
        self._first_key = f"{self._key}\nfirst"
        self._blocks = BlockEncoder(route, can, thinking=thinking)
        self._bare = _OneModel(route, can, thinking=False) if thinking else self

    def conversation(self, request: LlmRequest, stale: int) -> tuple[bytes, list[Stretch]]:
        """The blocks of the first messages that the system says, with commas between them, and all other messages."""
        if stale >= len(request.messages):
            return self._bare._conversation(request)
        if not stale:
            return self._conversation(request)
        # Rare: what was refused, and what the model has thought since, are no runs of their own.
        messages = LlmMessages.of(request.messages)
        system, before = self._bare._conversation(evolve(request, messages=messages[:stale]))
        _, after = self._conversation(evolve(request, messages=messages[stale:]), begins=False)
        if before and after and not after[0].fits(before[-1]):
            return self._bare._conversation(request)
        return system, [*before, *after]

    def _conversation(self, request: LlmRequest, *, begins: bool = True) -> tuple[bytes, list[Stretch]]:
        attachments = request.attachments
        system: list[bytes] = []
        parts: list[tuple[Sequence[LlmMessage], Stretch]] = []
        at_start = begins
        for run in LlmMessages.of(request.messages).runs:
            messages: Sequence[LlmMessage] = run.messages
            if not messages:
                continue
            if at_start and messages[0].role is LlmRole.SYSTEM:
                said, count, stretch = self._first_run(run, attachments)
                system += said
                at_start = count == len(messages)
                messages = messages[count:]
            else:
                at_start = False
                stretch = self._run(run, attachments)
            if stretch is None:
                continue
            while parts and not stretch.fits(parts[-1][1]):
                # Rare, and not kept: results of tools in another run than what has to stand behind them.
                messages = [*parts.pop()[0], *messages]
                stretch = joined(self._each(messages, attachments)) or stretch
            parts.append((messages, stretch))
        return b",".join(system), [stretch for _, stretch in parts]

    def _first_run(
        self, run: MessageRun, attachments: tuple[LlmAttachment, ...]
    ) -> tuple[list[bytes], int, Stretch | None]:
        """The system's blocks, how many messages hold them, and the rest of the run."""
        kept: tuple[list[bytes], int, Stretch | None] | None = run.memo.get(self._first_key)
        if kept is None:
            leading = list(takewhile(lambda message: message.role is LlmRole.SYSTEM, run.messages))
            rest = run.messages[len(leading) :]
            said = [block for message in leading for block in self._blocks.system(message)]
            kept = (said, len(leading), joined(self._each(rest, attachments)))
            if all(map(is_lasting, rest)):
                run.memo[self._first_key] = kept
        return kept

    def _run(self, run: MessageRun, attachments: tuple[LlmAttachment, ...]) -> Stretch | None:
        if self._key in run.memo:
            stretch: Stretch | None = run.memo[self._key]
            return stretch
        stretch = joined(self._each(run.messages, attachments))
        if all(map(is_lasting, run.messages)):
            run.memo[self._key] = stretch
        return stretch

    def _each(self, messages: Sequence[LlmMessage], attachments: tuple[LlmAttachment, ...]) -> Iterator[Encoded]:
        key, encode, keep = self._key, self._blocks.message, len(messages) <= _LONG
        for message in messages:
            if not keep and type(message) is LlmTextMessage:
                yield encode(message, attachments)  # without a look at the memo, which would make one
                continue
            made = message.memo.get(key)
            if made is None:
                made = encode(message, attachments)
                if keep and is_lasting(message):
                    message.memo[key] = made
            yield made


def _sent(request: LlmRequest, stale: int, can: ModelCapability) -> LlmRequest:
    """The request as it is sent: whoever thinks by a budget doesn't think on amid calls that began without."""
    if not stale or can.reasoning_encoding != BUDGET:
        return request
    if stale >= len(request.messages) or is_amid_calls(request.messages, stale):
        return evolve(request, model_variant=OFF)
    return request


def _tool(tool: LlmToolSpec) -> bytes:
    schema = CHECKS.schema(tool)
    described = {"description": tool.description} if tool.description else {}
    return dumps({"name": tool.name, **described, "input_schema": {"type": "object", **schema}})
