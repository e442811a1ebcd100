"""A session's tools: what plugins want changed in a mode's catalog, and what a session remembers of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field

from lash_hookspecs.tools import Tool, ToolManifest
from lash_hookspecs.values import frozen

__all__ = ["CatalogEdit", "ToolEntry", "ToolState", "ToolWord", "ToolWords"]


@frozen(kw_only=True)
class CatalogEdit:
    """What one plugin wants changed in the catalog. Edits of all plugins are united; a hidden tool stays hidden.

    `add`: tools (see `Tool`). `hide`: names that the model may not call. `annotate`: name to text that is appended to
    the tool's description.
    """

    add: Sequence[Tool] = ()
    hide: frozenset[str] = frozenset()
    annotate: Mapping[str, str] = field(factory=dict)


@frozen
class ToolWord:
    """Whether a tool is one of the session's, and who said so: a plugin's id, or `application`."""

    member: bool
    by: str


@frozen(kw_only=True)
class ToolWords:
    """What is stored of a session's tools: by name, what was said of them. Nothing in it tells where a tool is from.

    So a tool that is gone keeps its word, and has it again when it is back. `generation` counts the changes.
    """

    generation: int = 0
    words: Mapping[str, ToolWord] = field(factory=dict)

    def with_words(self, said: Mapping[str, bool], by: str) -> ToolWords:
        """What is said now on top; itself if that changes nothing."""
        new = {name: ToolWord(member, by) for name, member in said.items() if self._member(name) is not member}
        return ToolWords(generation=self.generation + 1, words={**self.words, **new}) if new else self

    def _member(self, name: str) -> bool | None:
        word = self.words.get(name)
        return None if word is None else word.member


@frozen(kw_only=True)
class ToolEntry:
    """A tool as a session has it. `member`: the model may call it; if not, `reason` says why.

    `orphaned`: the session remembers it, and nobody offers it now, so that there is no manifest.
    """

    manifest: ToolManifest | None
    member: bool
    orphaned: bool = False
    reason: str = ""


@frozen(kw_only=True)
class ToolState:
    """A session's tools by name, all of them. An edit may be made to depend on `generation`.

    `absent` says why nothing is known of a toolset that connects (`toolset NAME`), or why a tool of it is left out.
    """

    generation: int
    tools: Mapping[str, ToolEntry]
    absent: Mapping[str, str] = field(factory=dict)
