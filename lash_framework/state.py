"""What plugins remember of one session: restored from the last commit, changed in turns, recorded, rolled back, stored.

A state is an immutable value; a change is another value in its place. So a mark is a handful of references, unchanged
means `is`, and rolling back is putting the old reference back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lash_framework.composition import Composition
from lash_framework.hooks import failure_text
from lash_hookspecs.contexts import PluginScope, declared_state
from lash_hookspecs.errors import CodecError, PluginError, StoreCorrupt
from lash_hookspecs.plugins import SessionStateSpec
from lash_hookspecs.stores import (
    ComponentChanged,
    ComponentEntry,
    ComponentUnchanged,
    StoredComponent,
    attachment_id,
)
from lash_hookspecs.tool_catalog import ToolWords
from lash_hookspecs.values import frozen

__all__ = ["NO_TOOL_WORDS", "PREFIX", "TOOLS", "Mark", "PluginStates"]

PREFIX = "plugin/"
"""A plugin's component is stored under this and its id."""

TOOLS = "/tools"
"""What a session says of its tools: stored and recorded under this, which is no plugin's id."""

NO_TOOL_WORDS = ToolWords()
"""Of a session whose tools are those of its mode."""

_HOOK = "lash_session_state"

Mark = Mapping[str, Any]
"""The states as they stood at some moment, by plugin."""


@frozen
class _Stored:
    """A state on disk. `version` is the plugin's own, of its class."""

    version: int
    state: Any


class PluginStates:
    """The plugins' corners of one session. Nothing is made before `scopes` is first looked at.

    Raises `PluginError` then, for a state that is newer than its plugin, or can't be read.
    """

    __slots__ = ("_initial", "_scopes", "_stored", "_tool_words", "_written", "composition")

    def __init__(self, composition: Composition, stored: Mapping[str, StoredComponent] | None = None) -> None:
        self.composition = composition
        self._stored: Mapping[str, StoredComponent] = stored or {}
        self._scopes: dict[str, PluginScope] | None = None
        self._tool_words: ToolWords | None = None
        # What a state was made as when nothing was stored: it needs no storing until it changes.
        self._initial: dict[str, Any] = {}
        # The last state that was read or encoded, with the name of its bytes.
        self._written: dict[str, tuple[Any, str]] = {}

    @property
    def scopes(self) -> dict[str, PluginScope]:
        """Each plugin's corner, by id."""
        if self._scopes is None:
            self._scopes = self._make_scopes()
        return self._scopes

    def attach_hosts(self, hosts: Mapping[str, Any]) -> None:
        """Give each plugin what its lifespan yielded."""
        for plugin_id, value in hosts.items():
            if plugin_id in self.scopes:
                self.scopes[plugin_id].host = value

    def _make_scopes(self) -> dict[str, PluginScope]:
        states, options = self.composition.states, self.composition.options
        scopes = {}
        for plugin in self.composition.plugins:
            plugin_id = plugin.plugin_id
            scope = scopes[plugin_id] = PluginScope(plugin_id, None, options[plugin_id])
            spec = states.get(plugin_id)
            if spec is not None:
                scope.state_type = spec.state
                scope.state = self._restored(plugin_id, spec)
        return scopes

    def _restored(self, plugin_id: str, spec: SessionStateSpec) -> Any:
        component = self._stored.get(PREFIX + plugin_id)
        if component is None:
            state = self._initial[plugin_id] = declared_state(spec.state)
            return state
        version, state = _decode(plugin_id, spec, component.body)
        if version == spec.version:
            self._written[plugin_id] = state, component.ref
        return state

    @property
    def tool_words(self) -> ToolWords:
        """What the session says of its tools; a value, like a state."""
        if self._tool_words is None:
            component = self._stored.get(TOOLS)
            self._tool_words = NO_TOOL_WORDS if component is None else _tool_words(component.body)
        return self._tool_words

    @tool_words.setter
    def tool_words(self, new: ToolWords) -> None:
        self._tool_words = new

    # ---- within a turn ----------------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """The states as they stand now, for `rollback` and `recorded`."""
        words, scopes = self._tool_words, self._scopes
        mark = {TOOLS: self.tool_words if words is None else words}
        if scopes is None:
            scopes = self.scopes
        for plugin_id in self.composition.states:
            mark[plugin_id] = scopes[plugin_id].state
        return mark

    def rollback(self, mark: Mark) -> None:
        """Put the states back to what they were at the mark."""
        for plugin_id, state in mark.items():
            if plugin_id == TOOLS:
                self.tool_words = state
            else:
                self.scopes[plugin_id].state = state

    def recorded(self, mark: Mark) -> dict[str, Any]:
        """The states that changed since the mark, as plain data, for the record of the effect that changed them.

        Each is from then on what the record says of it, as it is for whoever replays it. Raises `PluginError` for a
        state that can't be stored, or not read again.
        """
        changed: dict[str, Any] = {}
        if not self.composition.states and self._tool_words is mark[TOOLS]:
            return changed  # as it mostly is
        for plugin_id, state in self.mark().items():
            if state is mark[plugin_id]:
                continue
            if plugin_id == TOOLS:
                from lash_hookspecs.codec import unstructure

                changed[TOOLS] = unstructure(state)
            else:
                changed[plugin_id], self.scopes[plugin_id].state = _settled(
                    plugin_id, self.composition.states[plugin_id], state
                )
        return changed

    def replay(self, recorded: Mapping[str, Any]) -> None:
        """Take over what `recorded` gave; states of plugins that aren't here are passed over."""
        if not recorded:
            return
        from lash_hookspecs.codec import structure

        for plugin_id, data in recorded.items():
            if plugin_id == TOOLS:
                self.tool_words = structure(data, ToolWords)
                continue
            spec = self.composition.states.get(plugin_id)
            if spec is not None:
                stored = _shaped(plugin_id, lambda data=data: structure(data, _Stored))
                self.scopes[plugin_id].state = _typed(plugin_id, spec, stored)

    # ---- the commit -------------------------------------------------------------------------------------------------

    def components(self, previous: Mapping[str, StoredComponent]) -> dict[str, ComponentEntry]:
        """The entries for a commit that follows one which left `previous`.

        What isn't a state of this composition (a plugin that is absent, a component of the kernel) stays as it is. A
        first state that was never changed is not stored.
        """
        entries: dict[str, ComponentEntry] = {key: ComponentUnchanged(each.ref) for key, each in previous.items()}
        if self._tool_words is not None and self._tool_words.generation:
            from lash_hookspecs.codec import encode

            body = encode(self._tool_words)
            if TOOLS not in previous or previous[TOOLS].ref != attachment_id(body):
                entries[TOOLS] = ComponentChanged(body)
        if self._scopes is None:
            return entries
        for plugin_id, spec in self.composition.states.items():
            key, state = PREFIX + plugin_id, self._scopes[plugin_id].state
            before = previous.get(key)
            written, ref = self._written.get(plugin_id, (None, None))
            if before is None:
                if state is self._initial.get(plugin_id):
                    continue
            elif state is written and ref == before.ref:
                continue
            body = _encode(plugin_id, spec, state)
            ref = attachment_id(body)
            self._written[plugin_id] = state, ref
            if before is None or before.ref != ref:
                entries[key] = ComponentChanged(body)
        return entries


def _tool_words(body: bytes) -> ToolWords:
    from lash_hookspecs.codec import decode

    try:
        return decode(ToolWords, body)
    except CodecError as error:
        raise StoreCorrupt(f"what the session says of its tools can't be read: {error}") from error


# ---- bytes ----------------------------------------------------------------------------------------------------------


def _encode(plugin_id: str, spec: SessionStateSpec, state: Any) -> bytes:
    from lash_hookspecs.codec import encode

    try:
        return encode(_Stored(spec.version, state))
    except CodecError as error:
        raise PluginError(plugin_id, _HOOK, f"its state {error}") from error


def _settled(plugin_id: str, spec: SessionStateSpec, state: Any) -> tuple[Any, Any]:
    """A state as plain data, and as it is read from that: a list in a field of tuples is a tuple then."""
    from orjson import loads

    from lash_hookspecs.codec import structure

    data = loads(_encode(plugin_id, spec, state))
    try:
        return data, structure(data["state"], spec.state)
    except CodecError as error:
        raise PluginError(plugin_id, _HOOK, f"its state can be stored, but not read again: {error}") from error


def _decode(plugin_id: str, spec: SessionStateSpec, body: bytes) -> tuple[int, Any]:
    from lash_hookspecs.codec import decode

    stored = _shaped(plugin_id, lambda: decode(_Stored, body))
    return stored.version, _typed(plugin_id, spec, stored)


def _shaped(plugin_id: str, read: Any) -> Any:
    try:
        return read()
    except CodecError as error:
        raise PluginError(plugin_id, _HOOK, f"its stored state can't be read: {error}") from error


def _typed(plugin_id: str, spec: SessionStateSpec, stored: _Stored) -> Any:
    """A stored state as an instance of the declared class, brought up to date where it is older."""
    from lash_hookspecs.codec import structure

    name = spec.state.__name__
    if stored.version > spec.version:
        raise PluginError(
            plugin_id,
            _HOOK,
            f"this session's state was stored by version {stored.version} of `{name}`, and the plugin that is "
            f"installed knows only {spec.version}: upgrade it, or switch it off (what it stored is kept)",
        )
    if stored.version == spec.version:
        return _shaped(plugin_id, lambda: structure(stored.state, spec.state))
    if spec.migrate is None:
        raise PluginError(
            plugin_id,
            _HOOK,
            f"this session's state is of version {stored.version} of `{name}`, the plugin has {spec.version} and no "
            "`migrate`: install an older version of the plugin, or switch it off (what it stored is kept)",
        )
    try:
        state = spec.migrate(stored.version, stored.state)
    except Exception as error:
        text = f"`migrate` failed on version {stored.version}: {failure_text(error)}"
        raise PluginError(plugin_id, _HOOK, text) from error
    if not isinstance(state, spec.state):
        raise PluginError(plugin_id, _HOOK, f"`migrate` returned a `{type(state).__name__}`, not a `{name}`")
    return state
