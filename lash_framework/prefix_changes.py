"""Why a request doesn't begin as the one before it did: told by who changed it. Pure.

Within a turn it follows from the turn's records, between turns from what is stored of both, so every process says the
same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

from attrs import evolve

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.codec import unstructure
from lash_hookspecs.compaction import Compaction
from lash_hookspecs.context_views import ContextPiece, ContextView, KeptMessages
from lash_hookspecs.llm import LlmToolSpec
from lash_hookspecs.messages import Message, PluginOrigin
from lash_hookspecs.prefix import PrefixChange, PrefixPart
from lash_hookspecs.prompts import RenderedPrompt

__all__ = ["differing", "gone_on", "prompt_changes", "tool_changes", "turn_changes"]

Piece = tuple[str, tuple[str, ...], Hashable]
"""A piece by its name, its owners, and what it says."""


def differing(part: PrefixPart, before: Sequence[Piece], after: Sequence[Piece]) -> Iterator[PrefixChange]:
    """What was added, removed, changed or moved. A piece that only says something else is changed."""
    gone, new = Counter(before) - Counter(after), Counter(after) - Counter(before)
    removed = _named(gone.elements())
    for (name, owners), times in _named(new.elements()).items():
        both = min(times, removed[name, owners])
        removed[name, owners] -= both
        if both:
            yield PrefixChange(part=part, name=name, change="changed", plugin_ids=owners)
        if times > both:
            yield PrefixChange(part=part, name=name, change="added", plugin_ids=owners)
    for name, owners in +removed:
        yield PrefixChange(part=part, name=name, change="removed", plugin_ids=owners)
    if not gone and not new:
        for (name, owners, _), other in zip(after, before, strict=True):
            if (name, owners) != other[:2]:
                yield PrefixChange(part=part, name=name, change="moved", plugin_ids=owners)


def _named(pieces: Iterable[Piece]) -> Counter[tuple[str, tuple[str, ...]]]:
    return Counter((name, owners) for name, owners, _ in pieces)


def prompt_changes(before: RenderedPrompt, after: RenderedPrompt) -> Iterator[PrefixChange]:
    """What changed between two prompts of a turn."""
    if before.text != after.text:
        yield from differing(PrefixPart.PROMPT, _pieces(before), _pieces(after))


def _pieces(prompt: RenderedPrompt) -> list[Piece]:
    return [(each.title or each.slot or each.section or "text", each.owners, each.sha256) for each in prompt.pieces]


def tool_changes(
    before: Sequence[LlmToolSpec], after: Sequence[LlmToolSpec], owners: Mapping[str, str]
) -> Iterator[PrefixChange]:
    """What changed between two sets of tools of a turn."""
    if before is after or before == after:
        return
    known: dict[str, LlmToolSpec] = {each.name: each for each in before}

    def pieces(specs: Sequence[LlmToolSpec]) -> list[Piece]:
        return [
            (each.name, tuple(filter(None, [owners.get(each.name)])), known.setdefault(each.name, each) == each)
            for each in specs
        ]

    yield from differing(PrefixPart.TOOL, pieces(before), pieces(after))


def turn_changes(
    said: Iterable[Message],
    context: ContextView | None,
    compaction: Compaction | None,
    frame_key: str,
    place_of: Callable[[str], int | None],
    length: int,
) -> Iterator[PrefixChange]:
    """What one turn shows that no other one does, and the frame that it opened. `place_of` is about the conversation
    before it, which has that `length`.
    """
    if compaction is not None:
        yield PrefixChange(
            part=PrefixPart.FRAME,
            name=frame_key,
            change=f"compacted ({compaction.reason})",
            plugin_ids=(compaction.plugin_id,),
        )
    if context is not None and context.pieces is not None:
        yield PrefixChange(
            part=PrefixPart.VIEW,
            name="history",
            change="shown otherwise in this turn",
            plugin_ids=context.plugin_ids,
            sha256=_view_sha256(context.pieces, place_of, length),
        )
    for each in said:
        if each.is_transient and isinstance(each.origin, PluginOrigin):
            yield PrefixChange(
                part=PrefixPart.MESSAGE,
                name=each.id,
                change="shown in this turn only",
                plugin_ids=(each.origin.plugin_id,),
            )


def _view_sha256(pieces: Sequence[ContextPiece], place_of: Callable[[str], int | None], length: int) -> str:
    """What a view shows, by what reaches the model. The run that ends it may grow with the conversation."""
    told: list[object] = []
    for each in pieces:
        if not isinstance(each, KeptMessages):
            told.append([each.message.role.value, [unstructure(evolve(part, id="")) for part in each.message.parts]])
        elif each is pieces[-1] and (place_of(each.first) or 0) + each.count == length:
            told.append([each.first])
        else:
            told.append([each.first, each.count])
    return stable_hash("lash.context_view", told)


def gone_on(before: Iterable[PrefixChange], here: Sequence[PrefixChange]) -> list[PrefixChange]:
    """Both without the view that the turn before had and that this one goes on with: it begins as before."""
    before = list(before)
    same = _views(before) & _views(here)
    return [each for each in (*before, *here) if each.part is not PrefixPart.VIEW or each.sha256 not in same]


def _views(changes: Iterable[PrefixChange]) -> set[str]:
    return {each.sha256 for each in changes if each.part is PrefixPart.VIEW and each.sha256}
