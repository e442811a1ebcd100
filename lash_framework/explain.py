"""Which plugin put what before the model: the record that is stored with every turn.

Its size depends on the composition, not on the history; it is stored by content, so equal turns share one. Editing
`lash.toml` later changes no old turn's answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from lash_framework.composition import Composition
from lash_framework.sourcing import Sourced
from lash_hookspecs.codec import encode
from lash_hookspecs.prompts import RenderedPrompt
from lash_hookspecs.tools import ToolManifest
from lash_hookspecs.values import frozen

__all__ = [
    "ExplainRecord",
    "ExplainedPlugin",
    "ExplainedPrompt",
    "ExplainedSetting",
    "ExplainedTool",
    "Explanation",
    "WithheldTool",
]


@frozen(kw_only=True)
class ExplainedPlugin:
    """A plugin that was on."""

    plugin_id: str
    version: str
    distribution: str | None = None


@frozen(kw_only=True)
class ExplainedPrompt:
    """A piece of the system prompt and who said it. Dropped pieces have a `dropped` reason and no text."""

    plugin_ids: tuple[str, ...]
    section: str | None = None
    slot: str | None = None
    title: str | None = None
    text: str = ""
    dropped: str | None = None


@frozen(kw_only=True)
class ExplainedTool:
    """A tool that the model could call, whose it is, and who annotated or hid it."""

    name: str
    plugin_id: str
    detail: str = ""


@frozen(kw_only=True)
class WithheldTool:
    """A tool that the model could not call, whose it is, and why."""

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
class ExplainRecord:
    """What is stored: everything that shaped a turn apart from its conversation."""

    mode_id: str
    model: str
    composition_key: str
    plugins: tuple[ExplainedPlugin, ...] = ()
    prompt: tuple[ExplainedPrompt, ...] = ()
    tools: tuple[ExplainedTool, ...] = ()
    settings: tuple[ExplainedSetting, ...] = ()
    withheld: tuple[WithheldTool, ...] = ()


@frozen(kw_only=True)
class Explanation:
    """A turn's record, and whose turn it is."""

    turn_id: str
    session_id: str
    mode_id: str
    model: str
    plugins: tuple[ExplainedPlugin, ...]
    prompt: tuple[ExplainedPrompt, ...]
    tools: tuple[ExplainedTool, ...]
    settings: tuple[ExplainedSetting, ...]
    withheld: tuple[WithheldTool, ...] = ()

    @classmethod
    def of(cls, turn_id: str, session_id: str, record: ExplainRecord) -> Explanation:
        """The record as an answer about one turn."""
        return cls(
            turn_id=turn_id,
            session_id=session_id,
            mode_id=record.mode_id,
            model=record.model,
            plugins=record.plugins,
            prompt=record.prompt,
            tools=record.tools,
            settings=record.settings,
            withheld=record.withheld,
        )


def explain_record(
    composition: Composition,
    model: str,
    prompt: RenderedPrompt,
    settings: Sequence[Sourced],
    tools: Sequence[ToolManifest],
    withheld: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The record of a turn, encoded. `withheld` are the tools that the model wasn't told of, with the reasons."""
    pieces = [
        ExplainedPrompt(
            plugin_ids=piece.owners,
            section=piece.section,
            slot=piece.slot.value if piece.slot else None,
            title=piece.title,
            text=prompt.text[piece.start : piece.end],
        )
        for piece in prompt.pieces
    ]
    pieces += [
        ExplainedPrompt(plugin_ids=(each.owner,), slot=each.slot.value, title=each.title, dropped=each.reason.value)
        for each in prompt.dropped
    ]
    details: dict[str, list[str]] = {}
    for row in composition.provenance:
        if row.kind in ("annotate", "hide"):
            details.setdefault(row.name, []).append(f"{row.kind} by {row.plugin_id}")
    record = ExplainRecord(
        mode_id=composition.mode.mode_id,
        model=model,
        composition_key=composition.key,
        plugins=tuple(
            ExplainedPlugin(plugin_id=each.plugin_id, version=each.info.version, distribution=each.distribution)
            for each in composition.plugins
        ),
        prompt=tuple(pieces),
        tools=tuple(
            ExplainedTool(
                name=each.name,
                plugin_id=composition.tools[each.name].plugin_id,
                detail=", ".join(details.get(each.name, ())),
            )
            for each in tools
        ),
        settings=tuple(ExplainedSetting(key=key, value=value, source=source) for key, value, source in settings),
        withheld=tuple(
            WithheldTool(name=name, plugin_id=composition.tools[name].plugin_id, reason=reason)
            for name, reason in withheld
        ),
    )
    return encode(record)
