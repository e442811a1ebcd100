"""System prompts as data: slots, contributions, templates, and layers of them.

Values only; the kernel renders them. Every contribution is tagged with its plugin by whoever collects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Union

from attrs import evolve, field

from lash_hookspecs import _checks as checks
from lash_hookspecs.read_only_data import read_only_table
from lash_hookspecs.values import frozen

__all__ = [
    "BuiltinEntry",
    "DropReason",
    "DroppedPiece",
    "PromptBuiltin",
    "PromptContribution",
    "PromptEntry",
    "PromptLayer",
    "PromptPiece",
    "PromptSection",
    "PromptSlot",
    "PromptTemplate",
    "RenderedPrompt",
    "SlotEntry",
    "SlotLayer",
    "TextEntry",
]


class PromptSlot(StrEnum):
    """Where a contribution goes; this is also their order."""

    INTRO = "intro"
    EXECUTION = "execution"
    GUIDANCE = "guidance"
    PROJECT_INSTRUCTIONS = "project_instructions"
    RUNTIME_CONTEXT = "runtime_context"
    ENVIRONMENT = "environment"


class PromptBuiltin(StrEnum):
    """Text that the kernel itself supplies."""

    MAIN_AGENT_INTRO = "main_agent_intro"
    EXECUTION_INSTRUCTIONS = "execution_instructions"
    CORE_GUIDANCE = "core_guidance"


def _slot(value: PromptSlot | str) -> PromptSlot:
    try:
        return PromptSlot(value)
    except ValueError:
        known = ", ".join(PromptSlot)
        raise ValueError(f"`PromptContribution.slot` must be one of {known}, and is {value!r}") from None


@frozen(kw_only=True)
class PromptContribution:
    """A piece of system prompt.

    Lower `priority` comes first within a slot. With `tools`, it is kept only if at least one of them can be called.
    `plugin_id` is for lash to say whose it is in a session's policy.
    """

    content: str = field(validator=checks.text)
    slot: PromptSlot = field(default=PromptSlot.GUIDANCE, converter=_slot)
    title: str | None = field(default=None, validator=checks.optional_text)
    priority: int = field(default=0, validator=checks.whole)
    tools: frozenset[str] = field(default=frozenset(), converter=checks.as_frozenset, validator=checks.names)
    plugin_id: str | None = field(default=None, validator=checks.optional_text)


@frozen
class TextEntry:
    """Fixed text."""

    tag: ClassVar[str] = "text"
    text: str


@frozen
class BuiltinEntry:
    """Text of the kernel."""

    tag: ClassVar[str] = "builtin"
    builtin: PromptBuiltin


@frozen
class SlotEntry:
    """All contributions of one slot."""

    tag: ClassVar[str] = "slot"
    slot: PromptSlot


PromptEntry = Union[TextEntry, BuiltinEntry, SlotEntry]


@frozen
class PromptSection:
    """Entries under a `##` heading, or without one. An empty section vanishes."""

    entries: tuple[PromptEntry, ...]
    title: str | None = None


@frozen
class PromptTemplate:
    """The order of sections. `plugin_id` is for lash to say whose it is in a session's policy."""

    sections: tuple[PromptSection, ...]
    plugin_id: str | None = None


@frozen
class SlotLayer:
    """One layer's say on a slot: `reset` drops what lower layers said there, then its contributions are added.

    `plugin_id` is for lash to say whose reset it is in a session's policy.
    """

    reset: bool = False
    contributions: tuple[PromptContribution, ...] = ()
    plugin_id: str | None = None


@frozen
class PromptLayer:
    """One layer of prompt: host, then session, then turn. The last template wins; slots append or reset."""

    template: PromptTemplate | None = None
    slots: Mapping[PromptSlot, SlotLayer] = field(factory=dict, converter=read_only_table)

    def with_contribution(self, contribution: PromptContribution) -> PromptLayer:
        """This layer and one more contribution."""
        before = self.slots.get(contribution.slot, SlotLayer())
        after = evolve(before, contributions=(*before.contributions, contribution))
        return evolve(self, slots={**self.slots, contribution.slot: after})

    def with_slot(self, slot: PromptSlot, *contributions: PromptContribution) -> PromptLayer:
        """This layer with exactly these contributions in `slot`, lower layers' dropped; their slot is set to it."""
        moved = tuple(evolve(each, slot=slot) for each in contributions)
        return evolve(self, slots={**self.slots, slot: SlotLayer(reset=True, contributions=moved)})

    def without_slot(self, slot: PromptSlot) -> PromptLayer:
        """This layer with `slot` emptied, lower layers' contributions dropped as well."""
        return self.with_slot(slot)

    def over(self, lower: PromptLayer) -> PromptLayer:
        """Both layers as one, this one on top."""
        slots = dict(lower.slots)
        for slot, mine in self.slots.items():
            below = slots.get(slot, SlotLayer())
            slots[slot] = mine if mine.reset else evolve(below, contributions=below.contributions + mine.contributions)
        return PromptLayer(template=self.template or lower.template, slots=slots)


# ---- rendered ------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class PromptPiece:
    """Whose words stand at `text[start:end]`, counted in characters. Several owners said the same, or one.

    `section` is its heading; `slot` is None for texts of the template and builtins. `sha256` in hex, of UTF-8 bytes.
    """

    owners: tuple[str, ...]
    start: int
    end: int
    sha256: str
    section: str | None = None
    slot: PromptSlot | None = None
    title: str | None = None


class DropReason(StrEnum):
    """Why a contribution isn't in the prompt."""

    BLANK = "blank"
    GATED = "gated"
    DUPLICATE = "duplicate"
    RESET = "reset"
    NO_PLACE = "no_place"


@frozen(kw_only=True)
class DroppedPiece:
    """A contribution that isn't in the prompt, and why; `because` names the layer, the tools, or who said it before.

    What several owners said is there once, and is all of theirs.
    """

    owner: str
    slot: PromptSlot
    title: str | None
    reason: DropReason
    because: str = ""


@frozen(kw_only=True)
class RenderedPrompt:
    """A system prompt, where each of its pieces came from, and what was left out; headings are `template_owner`'s."""

    text: str = ""
    pieces: tuple[PromptPiece, ...] = ()
    dropped: tuple[DroppedPiece, ...] = ()
    template_owner: str = "lash-framework"
