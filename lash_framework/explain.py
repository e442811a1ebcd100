"""Which plugin put what before the model: the record that is stored with every turn.

Its size depends on the composition, not on the history; it is stored by content, so equal turns share one. Editing
`lash.toml` later changes no old turn's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lash_framework.catalog import Catalog
from lash_framework.composition import Composition
from lash_framework.explained_acts import ExplainedAct, acts_of
from lash_framework.prefix_changes import Piece, differing
from lash_framework.prompt import KERNEL_OWNER
from lash_framework.sourcing import Sourced
from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.codec import encode, unstructure
from lash_hookspecs.prefix import PrefixChange, PrefixPart
from lash_hookspecs.prompts import RenderedPrompt
from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.tools import ToolManifest
from lash_hookspecs.values import frozen

__all__ = [
    "ExplainRecord",
    "ExplainedCall",
    "ExplainedPlugin",
    "ExplainedPrompt",
    "ExplainedSetting",
    "ExplainedTool",
    "Explanation",
    "OwnedLine",
    "WithheldTool",
    "explain_record",
    "record_changes",
]


@frozen(kw_only=True)
class ExplainedPlugin:
    """A plugin that was on."""

    plugin_id: str
    version: str
    distribution: str | None = None


@frozen(kw_only=True)
class ExplainedPrompt:
    """A piece of the system prompt and who said it. Dropped pieces have a `dropped` reason and no text.

    `because` names the layer that reset the slot, the tools that aren't there, or who said it before.
    """

    plugin_ids: tuple[str, ...]
    section: str | None = None
    slot: str | None = None
    title: str | None = None
    text: str = ""
    dropped: str | None = None
    because: str = ""


@frozen(kw_only=True)
class ExplainedTool:
    """A tool that the model could call, whose it is, and who annotated or hid it.

    `sha256`: of what the model was told of it, for a tool of a toolset that connects to something.
    """

    name: str
    plugin_id: str
    detail: str = ""
    sha256: str = ""


@frozen(kw_only=True)
class WithheldTool:
    """A tool that the model could not call, or `toolset NAME`, whose it is, and why."""

    name: str
    plugin_id: str
    reason: str


@frozen(kw_only=True)
class ExplainedSetting:
    """A setting that was in force and where it came from."""

    key: str
    value: str
    source: str


@frozen(kw_only=True)
class ExplainedCall:
    """What a plugin did about a tool call: denied it, changed it, wanted to."""

    call_id: str
    tool_name: str
    plugin_id: str
    what: str


@frozen(kw_only=True)
class ExplainRecord:
    """What is stored: everything that shaped a turn apart from its conversation."""

    mode_id: str
    model: str
    composition_key: str
    plugins: tuple[ExplainedPlugin, ...] = ()
    prompt: tuple[ExplainedPrompt, ...] = ()
    tools: tuple[ExplainedTool, ...] = ()
    settings: tuple[ExplainedSetting, ...] = ()
    template_owner: str = KERNEL_OWNER
    withheld: tuple[WithheldTool, ...] = ()


class OwnedLine(NamedTuple):
    """A line of the rendered prompt, and whose it is: several said the same, or one."""

    plugin_ids: tuple[str, ...]
    text: str


@frozen(kw_only=True)
class Explanation:
    """A turn's record, whose turn it is, and what plugins did to it (`acts`), and about its tool calls.

    `changes` say why its model calls begin otherwise than those of the turn before it, or than one another.
    """

    turn_id: str
    session_id: str
    mode_id: str
    model: str
    plugins: tuple[ExplainedPlugin, ...]
    prompt: tuple[ExplainedPrompt, ...]
    tools: tuple[ExplainedTool, ...]
    settings: tuple[ExplainedSetting, ...]
    template_owner: str = KERNEL_OWNER
    changes: tuple[PrefixChange, ...] = ()
    calls: tuple[ExplainedCall, ...] = ()
    acts: tuple[ExplainedAct, ...] = ()
    withheld: tuple[WithheldTool, ...] = ()

    @property
    def lines(self) -> Sequence[OwnedLine]:
        """The rendered prompt, line by line, each with its owners. Headings and what is between pieces are the
        template's."""
        found: list[OwnedLine] = []
        template, section = (self.template_owner,), None
        for piece in self.prompt:
            if piece.dropped is not None:
                continue
            if found:
                found.append(OwnedLine(template, ""))
            if piece.section is not None and piece.section != section:
                found += [OwnedLine(template, f"## {piece.section}"), OwnedLine(template, "")]
            section = piece.section
            found += [OwnedLine(piece.plugin_ids, line) for line in piece.text.split("\n")]
        return found

    @classmethod
    def of(
        cls, turn: AssembledTurn, session_id: str, record: ExplainRecord, changes: Iterable[PrefixChange] = ()
    ) -> Explanation:
        """The record as an answer about one turn."""
        return cls(
            turn_id=turn.turn_id,
            session_id=session_id,
            mode_id=record.mode_id,
            model=record.model,
            plugins=record.plugins,
            prompt=record.prompt,
            tools=record.tools,
            settings=record.settings,
            template_owner=record.template_owner,
            withheld=record.withheld,
            changes=tuple(changes),
            acts=tuple(acts_of(turn)),
            calls=tuple(
                ExplainedCall(
                    call_id=call.call_id, tool_name=call.tool_name, plugin_id=each.plugin_id, what=_told(each)
                )
                for call in turn.tool_calls
                for each in call.interventions
            ),
        )


def _told(done: ToolIntervention) -> str:
    what = done.kind.value.replace("_", " ")
    by = f" by {done.by}" if done.by else ""
    return f"{what}{by}: {done.detail}" if done.detail else what


def record_changes(before: ExplainRecord, after: ExplainRecord) -> Iterator[PrefixChange]:
    """What changed between two turns, of all that comes before the conversation."""
    yield from differing(PrefixPart.PROMPT, _prompt_pieces(before), _prompt_pieces(after))
    yield from differing(PrefixPart.TOOL, _tool_pieces(before), _tool_pieces(after))
    if before.model != after.model:
        source = next((each.source for each in after.settings if each.key == "model"), "")
        yield PrefixChange(
            part=PrefixPart.SETTING,
            name="model",
            change=f"`{after.model}` in place of `{before.model}`",
            plugin_ids=(source,) if source else (),
        )
    versions = {each.plugin_id: each.version for each in before.plugins}
    for each in after.plugins:
        if versions.get(each.plugin_id, each.version) != each.version:
            change = f"version {each.version} in place of {versions[each.plugin_id]}"
            yield PrefixChange(part=PrefixPart.PLUGIN, name=each.plugin_id, change=change, plugin_ids=(each.plugin_id,))


def _prompt_pieces(record: ExplainRecord) -> list[Piece]:
    return [
        (each.title or each.slot or each.section or "text", each.plugin_ids, (each.section, each.text))
        for each in record.prompt
        if each.dropped is None
    ]


def _tool_pieces(record: ExplainRecord) -> list[Piece]:
    return [(each.name, (each.plugin_id,), (each.detail, each.sha256)) for each in record.tools]


def explain_record(
    composition: Composition,
    catalog: Catalog,
    model: str,
    prompt: RenderedPrompt,
    settings: Sequence[Sourced],
    tools: Sequence[ToolManifest],
    withheld: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The record of a turn, encoded. `withheld` are the tools that the model wasn't told of, with the reasons."""
    record = ExplainRecord(
        mode_id=composition.mode.mode_id,
        model=model,
        composition_key=composition.key,
        plugins=tuple(
            ExplainedPlugin(plugin_id=each.plugin_id, version=each.info.version, distribution=each.distribution)
            for each in composition.plugins
        ),
        prompt=(*_said(prompt), *_dropped(prompt)),
        tools=tuple(_explained_tools(catalog, tools)),
        settings=tuple(ExplainedSetting(key=key, value=value, source=source) for key, value, source in settings),
        template_owner=prompt.template_owner,
        withheld=tuple(
            WithheldTool(name=name, plugin_id=_owner(catalog, name), reason=reason) for name, reason in withheld
        ),
    )
    return encode(record)


def _said(prompt: RenderedPrompt) -> Iterator[ExplainedPrompt]:
    for piece in prompt.pieces:
        yield ExplainedPrompt(
            plugin_ids=piece.owners,
            section=piece.section,
            slot=piece.slot.value if piece.slot else None,
            title=piece.title,
            text=prompt.text[piece.start : piece.end],
        )


def _dropped(prompt: RenderedPrompt) -> Iterator[ExplainedPrompt]:
    for each in prompt.dropped:
        yield ExplainedPrompt(
            plugin_ids=(each.owner,),
            slot=each.slot.value,
            title=each.title,
            dropped=each.reason.value,
            because=each.because,
        )


def _explained_tools(catalog: Catalog, tools: Sequence[ToolManifest]) -> Iterator[ExplainedTool]:
    """Of tools that are known by a connection also what they were: they change without their plugin's version."""
    details: dict[str, list[str]] = {}
    for row in catalog.provenance:
        if row.kind in ("annotate", "hide"):
            details.setdefault(row.name, []).append(f"{row.kind} by {row.plugin_id}")
    for each in tools:
        yield ExplainedTool(
            name=each.name,
            plugin_id=catalog.owners[each.name],
            detail=", ".join(details.get(each.name, ())),
            sha256=_sha256(catalog, each.name),
        )


def _owner(catalog: Catalog, name: str) -> str:
    return catalog.owners[name] if name in catalog.owners else catalog.absent[name].plugin_id


def _sha256(catalog: Catalog, name: str) -> str:
    return stable_hash("lash.tool_spec", unstructure(catalog.spec(name))) if name in catalog.connected else ""
