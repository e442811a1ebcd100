"""What requests of all wires have in common: values as JSON takes them, attachments, bounds, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from lash_hookspecs.errors import ConfigurationError, LlmCallFailed
from lash_hookspecs.llm import (
    GenerationOptions,
    LlmAttachment,
    LlmCallError,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind,
)
from lash_hookspecs.llm_messages import ImageBlock, LlmMessage, LlmTextMessage
from lash_hookspecs.models import ModelCapability

__all__ = [
    "IMAGE_TYPES",
    "INVALID_OPTION",
    "UNSUPPORTED_ATTACHMENT",
    "UNSUPPORTED_OUTPUT",
    "RequestChecks",
    "Toolsets",
    "asked_effort",
    "further_fields",
    "is_lasting",
    "merged",
    "option_receipt",
    "taken",
]

IMAGE_TYPES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
INVALID_OPTION = "invalid_generation_option"
UNSUPPORTED_ATTACHMENT = "unsupported_attachment_capability"
UNSUPPORTED_OUTPUT = "unsupported_structured_output"
_DEFAULT_EFFORTS = frozenset({None, "", "default", "provider-default"})
_NOT_LOADED = "attachment_not_loaded"
_KEPT_TOOLSETS = 32


class RequestChecks:
    """What is refused before anything is sent, as failures which name the provider."""

    def __init__(self, provider: str) -> None:
        self._provider = provider

    def refuse(self, message: str, code: str, kind: ProviderFailureKind = ProviderFailureKind.VALIDATION) -> NoReturn:
        """Raise the failure of a request that isn't worth sending."""
        raise LlmCallFailed(LlmCallError(message=f"{self._provider}: {message}", kind=kind, code=code))

    def plain(self, value: Any, where: str) -> Any:
        """`value` as plain dicts and lists, which is what the encoder takes; refuses numbers that JSON doesn't have."""
        if isinstance(value, Mapping):
            return {str(name): self.plain(each, where) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(each, where) for each in value]
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(f"{where} holds {value!r}, which JSON can't", INVALID_OPTION)
        return value

    def schema(self, tool: LlmToolSpec) -> Any:
        """A tool's input schema as a plain value."""
        return self.plain(tool.input_schema, f"the schema of tool `{tool.name}`")

    def no_tools(self, choice: LlmToolChoice) -> None:
        """Refuse to have a tool called where none is offered."""
        if choice is LlmToolChoice.REQUIRED:
            self.refuse("a tool call is required, but no tools are offered", "tool_choice_without_tools")

    # ---- attachments

    def attachment(self, block: ImageBlock, attachments: Sequence[LlmAttachment]) -> LlmAttachment:
        """The attachment that a block means."""
        if block.attachment is not None:
            for each in attachments:
                if each.reference.id == block.attachment.id:
                    return each
            return LlmAttachment(reference=block.attachment)
        if not 0 <= block.attachment_idx < len(attachments):
            self.refuse(f"there is no attachment {block.attachment_idx} in this request", _NOT_LOADED)
        return attachments[block.attachment_idx]

    def not_loaded(self, found: LlmAttachment) -> NoReturn:
        """Refuse an attachment without its bytes."""
        self.refuse(f"the bytes of attachment `{found.reference.id}` weren't loaded", _NOT_LOADED)

    # ---- options

    def output_token_cap(self, cap: int) -> int:
        """The limit, if it is one."""
        if not _is_integer(cap) or cap < 1:
            self.refuse(f"`output_token_cap` must be a whole number of at least 1, not {cap!r}", INVALID_OPTION)
        return cap

    def temperature(self, temperature: float) -> float:
        """The temperature, if it is one."""
        if isinstance(temperature, bool) or not math.isfinite(temperature) or temperature < 0:
            self.refuse(f"`temperature` must be a finite number of at least 0, not {temperature!r}", INVALID_OPTION)
        return temperature

    def seed(self, seed: int, bits: int) -> int:
        """The seed, if it is one of so many bits."""
        if not _is_integer(seed) or not -(2 ** (bits - 1)) <= seed < 2 ** (bits - 1):
            self.refuse(f"`seed` must be a whole number of {bits} bits here, not {seed!r}", INVALID_OPTION)
        return seed


class Toolsets:
    """Tools as JSON, by the identity of their tuple: the same ones come with every request of a conversation."""

    def __init__(self, encode: Callable[[Sequence[LlmToolSpec]], bytes]) -> None:
        self._encode = encode
        # Keeping the tuple keeps its id from being given to another one.
        self._kept: dict[int, tuple[Sequence[LlmToolSpec], bytes]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, tools: Sequence[LlmToolSpec]) -> bytes:
        """What `encode` made of `tools`."""
        kept = self._kept.get(id(tools))
        if kept is None:
            made = self._encode(tools)
            if len(self._kept) >= _KEPT_TOOLSETS:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[id(tools)] = (tools, made)
        return kept[1]


def further_fields(extra: Mapping[str, Any], provider: str, owned: Sequence[str]) -> tuple[dict[str, Any], list[Any]]:
    """The fields that a user adds to each request, and the tools among them, which don't replace a turn's own.

    Raises `ConfigurationError` for what each request says itself (`owned`): a name that is there twice means nothing.
    """
    fields = dict(extra)
    if taken := [name for name in owned if name in fields]:
        raise ConfigurationError(f"`provider.{provider}.extra_body` can't hold `{taken[0]}`: that is the conversation")
    tools = fields.pop("tools", ())
    if not isinstance(tools, list | tuple):
        raise ConfigurationError(f"in `provider.{provider}.extra_body`, `tools` is a list")
    return fields, list(tools)


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Theirs over ours, table by table; a table of another `type` is another thing, and takes the place of ours."""
    made = dict(ours)
    for name, value in theirs.items():
        before = made.get(name)
        if isinstance(before, dict) and isinstance(value, dict) and value.get("type") in (None, before.get("type")):
            value = merged(before, value)
        made[name] = value
    return made


def asked_effort(variant: str | None) -> str | None:
    """The reasoning effort that a request asks for; None where it leaves that to the model."""
    return None if variant in _DEFAULT_EFFORTS else variant


def is_lasting(message: LlmMessage) -> bool:
    """Whether it is encoded the same in every request.

    An image without a reference is a place in this request's attachments, which means nothing in the next one.
    """
    return type(message) is LlmTextMessage or all(
        block.attachment is not None for block in message.blocks if type(block) is ImageBlock
    )


def option_receipt(asked: GenerationOptions, otherwise: Mapping[str, str]) -> Mapping[str, str]:
    """What became of each option that is asked for: what `otherwise` says of it, or that it was applied."""
    told = {
        "output_token_cap": asked.output_token_cap is not None,
        "temperature": asked.temperature is not None,
        "seed": asked.seed is not None,
        "stop_sequences": bool(asked.stop_sequences),
    }
    return {name: otherwise.get(name, "applied") for name, is_asked in told.items() if is_asked}


def taken(can: ModelCapability) -> str:
    """What attachments a model takes, as a part of the key of what is kept: one that is refused isn't another's."""
    return "".join("-" if each is False else "+" for each in (can.images, can.documents, can.audio, can.video))


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
