"""A session's tools: its mode's catalog, under what was said in the session, and what can be reached just now.

Where nothing was said and everything can be reached they are the catalog's own, and cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lash_framework.arguments import shown
from lash_framework.faults import failure_text
from lash_framework.provenance import APPLICATION
from lash_framework.state import NO_TOOL_WORDS, PluginStates
from lash_hookspecs.errors import ConfigurationError, UnknownName, nearest
from lash_hookspecs.tool_catalog import ToolEntry, ToolState, ToolWords
from lash_hookspecs.tools import CompletedToolCall, ToolFailureClass, ToolManifest

if TYPE_CHECKING:
    from lash_framework.catalog import Catalog
    from lash_hookspecs.connected_tools import ToolSetRecord
    from lash_hookspecs.llm import LlmToolSpec

__all__ = ["Refusal", "SessionTools", "edit_of", "refuse_edit", "tool_state", "why_not", "with_edits"]

_TOLD = 3
"""Of so many toolsets that are absent a model is told that calls a tool which isn't there: it may be one of theirs."""


class Refusal(NamedTuple):
    """Why a call isn't made."""

    code: str
    text: str
    kind: ToolFailureClass


class _Now(NamedTuple):
    """What the model may call, as of these words and reasons."""

    words: ToolWords
    unavailable: Mapping[str, str]
    names: frozenset[str]
    manifests: tuple[ToolManifest, ...]
    specs: tuple[LlmToolSpec, ...]


class SessionTools:
    """The tools of one session, as they stand whenever they are looked at.

    `catalog` is the composition's, with what its toolsets offered as the turn started. `told` is what the model was
    told last, which a record says; `took_edits`, whether the application's are in.
    """

    __slots__ = ("_base", "_now", "_states", "catalog", "told", "took_edits")

    def __init__(self, catalog: Catalog, states: PluginStates | None = None) -> None:
        self._base = catalog
        self._states = states
        self.told: Sequence[LlmToolSpec] | None = None
        self.took_edits = False
        self.use(())

    def use(self, toolsets: Sequence[ToolSetRecord]) -> None:
        """Go by what toolsets offered, live or recorded."""
        self.catalog = catalog = self._base.with_toolsets(toolsets)
        self._now = _Now(NO_TOOL_WORDS, {}, catalog.callable_names, catalog.manifests, catalog.specs)

    @property
    def callable_names(self) -> frozenset[str]:
        """What the model may call."""
        return self._current().names

    @property
    def manifests(self) -> tuple[ToolManifest, ...]:
        """The same, as manifests."""
        return self._current().manifests

    @property
    def specs(self) -> tuple[LlmToolSpec, ...]:
        """The same, as the model is told."""
        return self._current().specs

    def refusal(self, name: str, *, nested: bool = False) -> Refusal | None:
        """Why a call of this name isn't made; None if it is. `nested`: a tool makes it, and may call internal ones."""
        now, catalog = self._current(), self.catalog
        if name in now.names:
            return None
        if name in now.unavailable and _hidden(catalog, now.words, name) is None:
            text = f"`{name}` can't be called now: {now.unavailable[name]}"
            return Refusal("tool_unavailable", text, ToolFailureClass.UNAVAILABLE)
        if nested and name not in catalog.hidden and name in catalog.internal:
            return None
        # Who calls what was there a while ago would look elsewhere, and not wait.
        hidden = None if name in catalog.hidden or name in catalog.internal else _hidden(catalog, now.words, name)
        if hidden is not None and name in catalog.tools:
            text = f"`{name}` isn't to be called now: it is {hidden}"
        else:
            absent = "".join(f"; {what} is absent: {each.reason}" for what, each in [*catalog.absent.items()][:_TOLD])
            text = f"there is no tool `{name}`; {nearest(name, now.names)}{absent}"
        return Refusal("unknown_tool", text, ToolFailureClass.INVALID_REQUEST)

    def explained(self) -> tuple[tuple[ToolManifest, ...], tuple[tuple[str, str], ...]]:
        """What the model was told of, and why not of the others: from records, so that a replay says the same."""
        catalog, told = self.catalog, self.told
        if told is None or told is catalog.specs:
            shown, names = catalog.manifests, catalog.callable_names
        else:
            names = frozenset(each.name for each in told)
            shown = tuple(each for name, each in catalog.annotated.items() if name in names)
        absent = tuple((name, each.reason) for name, each in catalog.absent.items())
        if len(names) == len(catalog.annotated):
            return shown, absent
        words = NO_TOOL_WORDS if self._states is None else self._states.tool_words
        others = [name for name in catalog.annotated if name not in names]
        withheld = ((name, _not_member(catalog, words, name) or "was not available") for name in others)
        return shown, (*withheld, *absent)

    def find(self, query: str, limit: int) -> Sequence[ToolManifest]:
        """Deferred tools that nobody hid and that fit the query, the best first."""
        now, catalog = self._current(), self.catalog
        offered = [
            catalog.annotated[name]
            for name in catalog.deferred
            if name not in now.unavailable and _hidden(catalog, now.words, name) is None
        ]
        asked = set(_words(query))
        ranked = sorted(
            ((score, place, each) for place, each in enumerate(offered) if (score := _score(asked, each))),
            key=lambda row: (-row[0], row[1]),
        )
        return [each for _, _, each in ranked[:limit]]

    def reveal(self, results: Iterable[CompletedToolCall]) -> None:
        """Make members of the deferred tools that these calls found, live or recorded."""
        for call in results:
            names = [each for each in call.output.reveals if each in self.catalog.deferred]
            if names and self._states is not None:
                hidden = [each for each in names if _hidden(self.catalog, self._states.tool_words, each)]
                said = {each: True for each in names if each not in hidden}
                owner = self.catalog.tools[call.tool_name].plugin_id if call.tool_name in self.catalog.tools else ""
                self._states.tool_words = self._states.tool_words.with_words(said, owner)
            self.reveal(call.children)

    def take(self, edits: Iterable[Mapping[str, bool]]) -> None:
        """What the application said of the tools since the last turn."""
        assert self._states is not None  # a turn's tools have them
        self._states.tool_words = with_edits(self._states.tool_words, edits)
        self.took_edits = True

    def edit(self, by: str, *, show: Iterable[str] = (), hide: Iterable[str] = ()) -> None:
        """Show and hide tools of the session from now on. Raises `ConfigurationError` for what can't be."""
        assert self._states is not None  # a turn's tools have them
        said = {**dict.fromkeys(show, True), **dict.fromkeys(hide, False)}
        refuse_edit(self.catalog, self._states.tool_words, said)
        self._states.tool_words = self._states.tool_words.with_words(said, by)

    def _current(self) -> _Now:
        catalog, now = self.catalog, self._now
        words = NO_TOOL_WORDS if self._states is None else self._states.tool_words
        unavailable = _unavailable(catalog) if catalog.guarded else now.unavailable
        if words is now.words and unavailable == now.unavailable:
            return now
        names = frozenset(
            name for name in catalog.annotated if name not in unavailable and _not_member(catalog, words, name) is None
        )
        manifests = tuple(each for name, each in catalog.annotated.items() if name in names)
        self._now = _Now(words, unavailable, names, manifests, tuple(catalog.spec(each.name) for each in manifests))
        return self._now


def with_edits(words: ToolWords, edits: Iterable[Mapping[str, bool]]) -> ToolWords:
    """The words with the application's on top."""
    for said in edits:
        words = words.with_words(said, APPLICATION)
    return words


def tool_state(catalog: Catalog, words: ToolWords) -> ToolState:
    """A session's tools, all of them, with what was said of tools that are gone."""
    unavailable = _unavailable(catalog)
    tools = {}
    for name, manifest in catalog.annotated.items():
        reason = why_not(catalog, words, name, unavailable)
        tools[name] = ToolEntry(manifest=manifest, member=reason is None, reason=reason or "")
    for name in words.words:
        if name not in tools:
            tools[name] = ToolEntry(manifest=None, member=False, orphaned=True, reason="no plugin offers it now")
    absent = {name: each.reason for name, each in catalog.absent.items()}
    return ToolState(generation=words.generation, tools=tools, absent=absent)


def why_not(catalog: Catalog, words: ToolWords, name: str, unavailable: Mapping[str, str] | None = None) -> str | None:
    """Why the model may not call a tool of the catalog; None if it may."""
    reasons = _unavailable(catalog) if unavailable is None else unavailable
    return _not_member(catalog, words, name) or (f"unavailable: {reasons[name]}" if name in reasons else None)


def edit_of(show: Iterable[str], hide: Iterable[str]) -> dict[str, bool]:
    """What an application says of tools. Raises `ConfigurationError` for what are no names."""
    for option, names in (("show", show), ("hide", hide)):
        # The letters of a text are texts, too.
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ConfigurationError(f"`session.edit_tools`: `{option}` is {shown(names)}; expected is a list of names")
    return {**dict.fromkeys(show, True), **dict.fromkeys(hide, False)}


def refuse_edit(catalog: Catalog, words: ToolWords, said: Mapping[str, bool]) -> None:
    """Raise `UnknownName` for names that nobody knows, and `ConfigurationError` for tools that can't be shown."""
    for name, member in said.items():
        if name not in catalog.annotated:
            if name not in words.words:
                raise UnknownName("tool", name, catalog.annotated)
        elif member and name in catalog.hidden:
            raise ConfigurationError(
                f"tool `{name}` can't be shown: plugin `{catalog.hidden[name]}` hides it in this mode; use another mode"
            )
        elif member and name in catalog.internal:
            raise ConfigurationError(f"tool `{name}` can't be shown: it is internal, only other tools call it")


# ---- membership -----------------------------------------------------------------------------------------------------


def _hidden(catalog: Catalog, words: ToolWords, name: str) -> str | None:
    if name in catalog.hidden:
        return f"hidden by plugin `{catalog.hidden[name]}`"
    word = words.words.get(name)
    return None if word is None or word.member else f"hidden in this session by `{word.by}`"


def _not_member(catalog: Catalog, words: ToolWords, name: str) -> str | None:
    hidden = _hidden(catalog, words, name)
    if hidden is not None:
        return hidden
    if name in catalog.internal:
        return "internal: only other tools call it"
    if name in catalog.deferred and name not in words.words:
        return "deferred: it wasn't found yet"
    return None


def _unavailable(catalog: Catalog) -> dict[str, str]:
    """The tools that say that they can't be called just now, and why."""
    found = {}
    for name in catalog.guarded:
        try:
            reason = getattr(catalog.tools[name].tool, "unavailable", None)
        except Exception as error:
            reason = failure_text(error)
        if reason:
            found[name] = str(reason)
    return found


# ---- search ---------------------------------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _score(asked: set[str], manifest: ToolManifest) -> int:
    """A word of the name counts most, then a part of the name, then a word of the description."""
    named, described = set(_words(manifest.name)), set(_words(manifest.description))
    name = manifest.name.lower()
    return sum(4 if each in named else 2 if each in name else 1 if each in described else 0 for each in asked)
