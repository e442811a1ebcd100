"""The system prompt: layers and contributions in, text and its provenance out.

Pure. It decides what is said, where, and in which order, and knows of every character who put it there. It doesn't
collect contributions, and it doesn't know which layer is whose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from attrs import evolve

from lash_hookspecs.prompts import (
    BuiltinEntry,
    DroppedPiece,
    DropReason,
    PromptBuiltin,
    PromptContribution,
    PromptEntry,
    PromptLayer,
    PromptPiece,
    PromptSection,
    PromptSlot,
    PromptTemplate,
    RenderedPrompt,
    SlotEntry,
    SlotLayer,
    TextEntry,
)
from lash_hookspecs.values import frozen

__all__ = [
    "DEFAULT_TEMPLATE",
    "KERNEL_OWNER",
    "REMEMBERED",
    "OwnedContribution",
    "OwnedLayer",
    "PromptInputs",
    "PromptRenderer",
    "render_prompt",
    "resolve_layers",
]

KERNEL_OWNER = "lash-framework"
"""Owner of the builtin texts."""

SESSION = "session"
"""Owner of the layer in a session's policy."""

MAIN_AGENT_INTRO = (
    "You are an agent that works for a user. Work towards what the user asked for until it is done or you know why it "
    "can't be, then say plainly what you found or did."
)
CORE_GUIDANCE = (
    "- Look before you claim: prefer what your tools show you to what you remember.\n"
    "- A tool's failure is information. Read it, then try another way instead of repeating the same call.\n"
    "- Do what was asked and no more; mention what else you noticed.\n"
    "- Say so when you are not sure, or when something was left undone."
)
ASK_GUIDANCE = "- Use `ask` when only the user can decide; otherwise choose sensibly and say what you chose."

DEFAULT_TEMPLATE = PromptTemplate(
    sections=(
        PromptSection(entries=(BuiltinEntry(PromptBuiltin.MAIN_AGENT_INTRO), SlotEntry(PromptSlot.INTRO))),
        PromptSection(
            title="Execution",
            entries=(BuiltinEntry(PromptBuiltin.EXECUTION_INSTRUCTIONS), SlotEntry(PromptSlot.EXECUTION)),
        ),
        PromptSection(
            title="Guidance",
            entries=(
                BuiltinEntry(PromptBuiltin.CORE_GUIDANCE),
                SlotEntry(PromptSlot.PROJECT_INSTRUCTIONS),
                SlotEntry(PromptSlot.GUIDANCE),
            ),
        ),
        PromptSection(
            title="Environment", entries=(SlotEntry(PromptSlot.RUNTIME_CONTEXT), SlotEntry(PromptSlot.ENVIRONMENT))
        ),
    )
)

_SLOT_ORDER = {slot: index for index, slot in enumerate(PromptSlot)}


class OwnedContribution(NamedTuple):
    """A contribution and who made it: a plugin's id, or the name of a layer."""

    owner: str
    contribution: PromptContribution


@frozen
class OwnedLayer:
    """A layer and its name, such as `host`, `session`, `turn` or a mode's id."""

    owner: str
    layer: PromptLayer


@frozen(kw_only=True)
class PromptInputs:
    """All that a prompt depends on.

    `layers` go from the lowest to the highest. `contributions` are the plugins': no layer's reset drops them.
    `callable_tools` are the names that the model may call. `execution_prompt` is the mode's, of the plugin
    `execution_owner`.
    """

    layers: tuple[OwnedLayer, ...] = ()
    contributions: tuple[OwnedContribution, ...] = ()
    callable_tools: frozenset[str] = frozenset()
    execution_prompt: str = ""
    execution_owner: str = KERNEL_OWNER


# ---- what is said ---------------------------------------------------------------------------------------------------


@frozen
class _Entry:
    """A contribution in its final wording, with everybody who made it."""

    owners: tuple[str, ...]
    contribution: PromptContribution


def resolve_layers(
    layers: Sequence[OwnedLayer],
) -> tuple[PromptTemplate | None, tuple[OwnedContribution, ...], tuple[DroppedPiece, ...]]:
    """The layers as one, lowest first: the last template, what each slot holds, and what a reset dropped."""
    template: PromptTemplate | None = None
    slots: dict[PromptSlot, list[OwnedContribution]] = {}
    dropped: list[DroppedPiece] = []
    for each in layers:
        template = each.layer.template or template
        for slot, mine in each.layer.slots.items():
            below = slots.setdefault(slot, [])
            if mine.reset:
                owner = _owner(each, mine)
                by = f"layer `{owner}`" if owner == each.owner else f"plugin `{owner}`"
                dropped.extend(_drop(lower, DropReason.RESET, by) for lower in below)
                below.clear()
            # The key says where it goes, whatever the contribution itself says.
            below.extend(OwnedContribution(_owner(each, one), evolve(one, slot=slot)) for one in mine.contributions)
    return template, tuple(one for held in slots.values() for one in held), tuple(dropped)


def _owner(layer: OwnedLayer, said: PromptContribution | SlotLayer | PromptTemplate) -> str:
    """Whose it is: a plugin's, in a session's policy that plugins had a hand in, else the layer's."""
    return said.plugin_id if said.plugin_id is not None and layer.owner == SESSION else layer.owner


def _drop(owned: OwnedContribution, reason: DropReason, because: str = "") -> DroppedPiece:
    given = owned.contribution
    return DroppedPiece(owner=owned.owner, slot=given.slot, title=given.title, reason=reason, because=because)


def _settle(
    offered: Iterable[OwnedContribution], callable_tools: frozenset[str]
) -> tuple[tuple[_Entry, ...], list[DroppedPiece]]:
    """Trimmed, gated, in order (slot, priority, title, content), and each only once."""
    dropped: list[DroppedPiece] = []
    kept: list[OwnedContribution] = []
    for owned in offered:
        given = owned.contribution
        trimmed = evolve(given, content=given.content.strip(), title=(given.title or "").strip() or None)
        if not trimmed.content:
            dropped.append(_drop(owned, DropReason.BLANK))
        elif trimmed.tools and not trimmed.tools & callable_tools:
            tools = ", ".join(f"`{name}`" for name in sorted(trimmed.tools))
            dropped.append(_drop(owned, DropReason.GATED, f"no tool of {tools}"))
        else:
            kept.append(OwnedContribution(owned.owner, trimmed))
    kept.sort(key=_order)
    said: dict[tuple[PromptSlot, str | None, str], _Entry] = {}
    for owned in kept:
        given = owned.contribution
        key = (given.slot, given.title, given.content)
        before = said.get(key)
        if before is None:
            said[key] = _Entry((owned.owner,), given)
            continue
        dropped.append(_drop(owned, DropReason.DUPLICATE, f"said by `{before.owners[0]}`"))
        if owned.owner not in before.owners:
            said[key] = evolve(before, owners=(*before.owners, owned.owner))
    return tuple(said.values()), dropped


def _order(owned: OwnedContribution) -> tuple[int, int, str, str, str]:
    given = owned.contribution
    return _SLOT_ORDER[given.slot], given.priority, given.title or "", given.content, owned.owner


# ---- how it is said -------------------------------------------------------------------------------------------------


class _Writer:
    """Joins pieces by blank lines and notes where each one stands. A section's heading waits for its first piece."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._length = 0
        self._heading: str | None = None
        self.pieces: list[PromptPiece] = []

    def section(self, title: str | None) -> None:
        self._section = title
        self._heading = f"## {title}" if title else None

    def piece(
        self, text: str, owners: tuple[str, ...], slot: PromptSlot | None = None, title: str | None = None
    ) -> None:
        if self._heading is not None:
            self._write(self._heading)
            self._heading = None
        start = self._write(text)
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        self.pieces.append(
            PromptPiece(
                owners=owners,
                start=start,
                end=start + len(text),
                sha256=digest,
                section=self._section,
                slot=slot,
                title=title,
            )
        )

    def _write(self, text: str) -> int:
        if self._texts:
            self._texts.append("\n\n")
            self._length += 2
        start = self._length
        self._texts.append(text)
        self._length += len(text)
        return start

    @property
    def text(self) -> str:
        return "".join(self._texts)


def render_prompt(inputs: PromptInputs) -> RenderedPrompt:
    """The prompt for these inputs: sections in the template's order, without blank pieces and empty sections."""
    template, layered, dropped = resolve_layers(inputs.layers)
    entries, unfit = _settle((*layered, *inputs.contributions), inputs.callable_tools)
    writer = _Writer()
    placed: set[PromptSlot] = set()
    templates = [_owner(each, each.layer.template) for each in inputs.layers if each.layer.template is not None]
    template_owner = templates[-1] if templates else KERNEL_OWNER
    for section in (template or DEFAULT_TEMPLATE).sections:
        writer.section((section.title or "").strip() or None)
        for entry in section.entries:
            _write_entry(writer, entry, entries, inputs, template_owner)
            if isinstance(entry, SlotEntry):
                placed.add(entry.slot)
    homeless = [
        _drop(OwnedContribution(owner, entry.contribution), DropReason.NO_PLACE)
        for entry in entries
        if entry.contribution.slot not in placed
        for owner in entry.owners
    ]
    return RenderedPrompt(
        text=writer.text,
        pieces=tuple(writer.pieces),
        dropped=(*dropped, *unfit, *homeless),
        template_owner=template_owner,
    )


def _write_entry(
    writer: _Writer, entry: PromptEntry, entries: Sequence[_Entry], inputs: PromptInputs, template_owner: str
) -> None:
    match entry:
        case TextEntry(text=text) if text.strip():
            writer.piece(text.strip(), (template_owner,))
        case BuiltinEntry(builtin=builtin):
            text = _builtin(builtin, inputs).strip()
            is_execution = builtin is PromptBuiltin.EXECUTION_INSTRUCTIONS
            if text:
                writer.piece(text, (inputs.execution_owner if is_execution else KERNEL_OWNER,))
        case SlotEntry(slot=slot):
            for each in entries:
                given = each.contribution
                if given.slot is slot:
                    text = f"### {given.title}\n\n{given.content}" if given.title else given.content
                    writer.piece(text, each.owners, slot, given.title)
        case _:
            pass  # blank text


def _builtin(builtin: PromptBuiltin, inputs: PromptInputs) -> str:
    match builtin:
        case PromptBuiltin.MAIN_AGENT_INTRO:
            return MAIN_AGENT_INTRO
        case PromptBuiltin.EXECUTION_INSTRUCTIONS:
            return inputs.execution_prompt
        case PromptBuiltin.CORE_GUIDANCE:
            return f"{CORE_GUIDANCE}\n{ASK_GUIDANCE}" if "ask" in inputs.callable_tools else CORE_GUIDANCE


REMEMBERED = 8
"""How many prompts a renderer remembers: sessions of one mode have instructions of their own, and take turns."""


class PromptRenderer:
    """Renders, and remembers the latest results: equal inputs get the identical object, and every cache behind it."""

    def __init__(self) -> None:
        self._latest: list[tuple[PromptInputs, RenderedPrompt]] = []

    def render(self, inputs: PromptInputs) -> RenderedPrompt:
        """The prompt for these inputs."""
        latest = self._latest
        for at, (known, prompt) in enumerate(latest):
            if known == inputs:
                if at:
                    latest.insert(0, latest.pop(at))
                return prompt
        prompt = render_prompt(inputs)
        latest[:] = [(inputs, prompt), *latest[: REMEMBERED - 1]]
        return prompt
