"""The hash of what an effect is asked, and beside it a short digest for each piece, so that a difference has a name.

Both are the same in every process. Attachments count by reference, and memos and callbacks not at all. A request costs
what is new in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any

import orjson
from attrs import field, fields

from lash_framework.message_chain import chain_of, message_digest
from lash_hookspecs.canonical import canonical_bytes, stable_hash
from lash_hookspecs.codec import encode, unstructure
from lash_hookspecs.effect_commands import (
    AssistantResponseCommand,
    CheckpointCommand,
    DirectCommand,
    LlmCallCommand,
    ProcessCommand,
    RuntimeEffectCommand,
    SyncEnvironmentCommand,
    ToolCallCommand,
    TurnEndCommand,
)
from lash_hookspecs.effect_outcomes import SyncEnvironmentOutcome, TurnStartOutcome
from lash_hookspecs.llm import GenerationOptions, LlmRequest, LlmRequestScope, LlmToolSpec
from lash_hookspecs.llm_messages import LlmMessage, LlmMessages, LlmRole, TextBlock
from lash_hookspecs.prompts import RenderedPrompt
from lash_hookspecs.values import mutable

__all__ = ["Asked", "EnvelopeHasher", "Parts", "owner_of"]

NEWS = 8
"""How many messages of a turn's first request have a digest of their own: what is new there, nobody says."""
DIGITS = 12

_SPECS_KEPT = 1024
_WORD = 64


def _short(data: bytes) -> str:
    return sha256(data).hexdigest()[:DIGITS]


def _digest(value: Any) -> str:
    """The short digest of plain data."""
    if type(value) is str and len(value) <= _WORD:
        return _word_digest(value)
    return _short(canonical_bytes(value))


@lru_cache(maxsize=1024)
def _word_digest(word: str) -> str:
    """The same of a short text: names of tools, models and plugins are asked for in every turn."""
    return _short(canonical_bytes(word))


def _owned(path: str, owner: str | None) -> str:
    """A path with the plugin whose piece it is."""
    return f"{path}@{owner}" if owner else path


def owner_of(path: str) -> str | None:
    """The plugin whose piece is at a path, if it says so."""
    return path.rpartition("@")[2] if "@" in path else None


# ---- tools ----------------------------------------------------------------------------------------------------------

Pieces = Iterable[tuple[str, str]]

_specs: dict[int, tuple[LlmToolSpec, bytes]] = {}


def _spec_digest(spec: LlmToolSpec) -> bytes:
    """The digest of a tool as the model is told of it; the same objects are in every request."""
    known = _specs.get(id(spec))  # a spec holds dicts, so it is no key itself
    if known is None:
        if len(_specs) >= _SPECS_KEPT:
            _specs.clear()
        known = _specs[id(spec)] = (spec, sha256(encode(spec)).digest())
    return known[1]


# ---- envelopes ------------------------------------------------------------------------------------------------------


@mutable
class Asked:
    """What an effect was asked: the hash of it, and a short digest for each piece by its path, when somebody wants it.

    A path is `what/which`, and `what/which@plugin` where it is known whose piece it is.
    """

    hash: str
    _told: Callable[[], Iterable[bytes]]
    _written: bytes | None = None

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each piece. The history as a whole is one of them."""
        digests: dict[str, str] = orjson.loads(self.written)
        return digests

    @property
    def written(self) -> bytes:
        """The same as a row holds it."""
        if self._written is None:
            self._written = b"{" + b",".join(filter(None, self._told())) + b"}"
        return self._written


def _told(pieces: Pieces) -> bytes:
    """Pieces as an object in JSON has them between its brackets: what requests have in common is written once."""
    return orjson.dumps(dict(pieces))[1:-1]


def _told_of(data: Mapping[str, Any], owner: str | None) -> tuple[bytes]:
    return (_told(_paths(data, owner)),)


def _told_of_call(data: Mapping[str, Any], owner: str) -> Iterator[bytes]:
    """The same of a tool call: what of it is the tool's is made once."""
    call = data["call"]
    yield _told_of_tool(owner, *(call[name] for name in _OF_THE_TOOL))
    yield _told(
        _paths({**data, "call": {name: part for name, part in call.items() if name not in _OF_THE_TOOL}}, owner)
    )


@lru_cache(maxsize=1024)
def _told_of_tool(owner: str, *parts: str) -> bytes:
    return _told(_paths({"call": dict(zip(_OF_THE_TOOL, parts, strict=True))}, owner))


@lru_cache(maxsize=64)
def _constant(
    command: TurnEndCommand | CheckpointCommand | SyncEnvironmentCommand | AssistantResponseCommand,
) -> Asked:
    """A command that asks the same in every turn."""
    data = unstructure(command)
    return Asked(stable_hash("lash.effect", data), partial(_told_of, data, None))


@mutable(eq=False)
class _Kept:
    """What was made of a part of a request, as long as the next one has an equal part."""

    kept: tuple[object, Any] | None = None

    def make(self, of: object, make: Callable[[], Any]) -> Any:
        """It again, or anew."""
        kept = self.kept
        if kept is None or (kept[0] is not of and kept[0] != of):
            kept = self.kept = of, make()
        return kept[1]


@mutable(eq=False)
class Parts:
    """What was made of the parts that requests have in common: those of a turn, and mostly those of a host."""

    head: _Kept = field(factory=_Kept)
    tools: _Kept = field(factory=_Kept)
    shown: _Kept = field(factory=_Kept)


@mutable
class EnvelopeHasher:
    """Hashes the effects of one turn, in their order: it follows which prompt is shown, and which messages are new.

    `tool_owners` names the plugin of each tool, where that is known. `parts` may be those of the turn before.
    """

    tool_owners: Mapping[str, str] = field(factory=dict)
    parts: Parts = field(factory=Parts)
    _prompt: RenderedPrompt = field(factory=RenderedPrompt)
    _seen: int | None = None

    def note(self, outcome: TurnStartOutcome | SyncEnvironmentOutcome) -> None:
        """What the next requests show, and whose it is: the prompt, and the tools of toolsets."""
        self.note_prompt(outcome.prompt)
        if isinstance(outcome, TurnStartOutcome) and outcome.toolsets:
            connected = {tool.name: each.plugin_id for each in outcome.toolsets for tool in each.tools}
            self.tool_owners = {**connected, **self.tool_owners}

    def note_prompt(self, prompt: RenderedPrompt) -> None:
        """The prompt that the next requests show, with the owners of its pieces."""
        self._prompt = prompt

    def ask(self, command: RuntimeEffectCommand) -> Asked:
        """The hash and the digests of what the command asks."""
        match command:
            case LlmCallCommand():
                seen, self._seen = self._seen, len(command.request.messages)
                return self._request(command, seen)
            case DirectCommand():
                return self._request(command, None)
            case TurnEndCommand() | CheckpointCommand() | SyncEnvironmentCommand() | AssistantResponseCommand():
                return _constant(command)
        data = unstructure(command)
        told: Callable[[], Iterable[bytes]] = partial(_told_of, data, None)
        if isinstance(command, ToolCallCommand):
            data["call"].pop("on_unknown", None)  # what to do after a crash is not what was asked
            told = partial(_told_of_call, data, command.call.plugin_id)
        elif isinstance(command, ProcessCommand):
            data["operation"].get("input", {}).get("call", {}).pop("on_unknown", None)  # nor here
        return Asked(stable_hash("lash.effect", data), told)

    def _request(self, command: LlmCallCommand | DirectCommand, seen: int | None) -> Asked:
        request = command.request
        messages = LlmMessages.of(request.messages)
        # The prompt may be another in every request. It stands apart, so that the history behind it keeps its hash.
        system = messages[0] if len(messages) and messages[0].role is LlmRole.SYSTEM else None
        usage_source = command.usage_source if isinstance(command, DirectCommand) else None
        set_to = (request.model, request.model_variant, request.tool_choice, request.generation)
        head, head_told = self.parts.head.make(
            (command.provider_id, usage_source, *set_to, request.output_spec),
            lambda: _head_of(command.provider_id, usage_source, request),
        )
        scope = None if request.scope is None else {name: getattr(request.scope, name) for name in _SCOPE}
        prompt = message_digest(system).hex() if system is not None else None
        offered = (request.tools, self.tool_owners)
        tools, tools_told = self.parts.tools.make(offered, lambda: _tools_of(*offered))
        chained = chain_of(messages, 0 if system is None else 1).hex()
        attachments = [[each.reference.id, each.reference.media_type] for each in request.attachments]
        whole = {
            "kind": command.kind._value_,
            "head": {**head, "scope": scope},
            "prompt": prompt,
            "messages": chained,
            "attachments": attachments,
            "tools": tools,
        }
        shown = self._prompt

        def told() -> Iterable[bytes]:
            """All pieces; those of the last request that are the same in this one aren't made again."""
            start = max(0, len(messages) - NEWS) if seen is None else min(seen, len(messages))
            own = dict(_paths({"scope": scope}, None))
            own["attachments"] = _short(canonical_bytes(attachments)) if attachments else _NO_ATTACHMENTS
            for at, message in _from(messages, start):
                if message is not system:
                    own[f"messages/{at}"] = message_digest(message).hex()[:DIGITS]
            own["messages/all"] = chained[:DIGITS]
            yield head_told
            yield _told(own.items())
            if system is not None:
                assert prompt is not None  # there is one
                yield self.parts.shown.make((shown, prompt), lambda: _told(_prompt_pieces(shown, system, prompt)))
            yield tools_told

        return Asked(stable_hash("lash.effect", whole), told)


def _head_of(provider_id: str, usage_source: str | None, request: LlmRequest) -> tuple[Any, bytes]:
    """All of a request but its prompt, its messages and its tools; and its pieces."""
    head = {
        "provider": provider_id,
        "usage_source": usage_source,
        "model": request.model,
        "model_variant": request.model_variant,
        "tool_choice": request.tool_choice.value,
        "generation": {each.name: unstructure(getattr(request.generation, each.name)) for each in _GENERATION},
        "output": unstructure(request.output_spec),
    }
    return head, _told(_paths(head, None))


def _tools_of(specs: tuple[LlmToolSpec, ...], owners: Mapping[str, str]) -> tuple[list[str], bytes]:
    """The digests of a request's tools; and their pieces."""
    digests = [_spec_digest(each).hex() for each in specs]
    names = [each.name for each in specs]
    pieces = [
        (_owned(f"tools/{name}", owners.get(name)), digest[:DIGITS])
        for name, digest in zip(names, digests, strict=True)
    ]
    return digests, _told([*pieces, ("tools/order", _short(canonical_bytes(names)))])


_NO_ATTACHMENTS = _short(canonical_bytes([]))
_GENERATION = fields(GenerationOptions)
_SCOPE = tuple(each.name for each in fields(LlmRequestScope))  # texts, so this is its plain form


def _from(messages: LlmMessages, start: int) -> Iterator[tuple[int, LlmMessage]]:
    at = 0
    for run in messages.runs:
        end = at + len(run)
        for index in range(max(start, at), end):
            yield index, run.messages[index - at]
        at = end


def _prompt_pieces(prompt: RenderedPrompt, system: LlmMessage, digest: str) -> Pieces:
    """A digest for each piece of the prompt, if that is what is shown; else of the whole."""
    if system.blocks != (TextBlock(text=prompt.text),):
        yield "prompt", digest[:DIGITS]
        return
    ordinals: Counter[str] = Counter()
    order = []
    for piece in prompt.pieces:
        owner = "+".join(piece.owners)
        place = f"prompt/{piece.slot or piece.section or 'text'}"
        ordinals[_owned(place, owner)] += 1  # an owner's own, so that one plugin more shifts nobody else's
        path = _owned(f"{place}/{ordinals[_owned(place, owner)]}", owner)
        order.append(path)
        yield path, piece.sha256[:DIGITS]
    yield "prompt/text", digest[:DIGITS]
    yield "prompt/order", _short(canonical_bytes(order))


def _paths(data: Mapping[str, Any], owner: str | None) -> Pieces:
    """A digest for each field, and for the fields of objects in it. The plugin's own part is marked as its."""
    for key, value in data.items():
        if key == "call" and isinstance(value, dict):
            for name, part in value.items():
                if name == "args":
                    yield from ((f"args/{each}", _digest(part[each])) for each in part)
                else:
                    yield _owned(name, owner if name in _OF_THE_TOOL else None), _digest(part)
        elif isinstance(value, dict):
            yield from ((f"{key}/{each}", _digest(value[each])) for each in value)
        else:
            yield key, _digest(value)


_OF_THE_TOOL = ("tool_name", "effect", "plugin_id")
