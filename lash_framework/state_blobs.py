"""The bytes that plugins' states name: a session that remembers an attachment keeps it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import attrs

from lash_framework.state import PREFIX, Mark, PluginStates
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.stores import ComponentChanged, ComponentEntry

__all__ = ["kept_blobs"]

log = logging.getLogger("lash.plugins")


async def kept_blobs(
    states: PluginStates,
    before: Mark,
    components: Mapping[str, ComponentEntry],
    get_blob: Callable[[str], Awaitable[bytes | None]],
) -> tuple[str, ...]:
    """The ids that states name since the turn, for its commit to adopt; those named `before` are the session's already.

    Bytes that are gone are left out: a turn that waited for days must be committed all the same.
    """
    kept: dict[str, None] = {}
    for key, entry in components.items():
        plugin_id = key.removeprefix(PREFIX)
        if isinstance(entry, ComponentChanged) and plugin_id in states.composition.states and key != plugin_id:
            known = {each.id for each in _references(before.get(plugin_id))}
            for each in _references(states.scopes[plugin_id].state):
                if each.id not in known and each.id not in kept:
                    if await get_blob(each.id) is None:
                        log.warning("plugin `%s` remembers `%s`, which is not in the store", plugin_id, each.id)
                    else:
                        kept[each.id] = None
    return tuple(kept)


def _references(value: Any) -> Iterator[AttachmentRef]:
    """All references in a state, however deep they lie."""
    if isinstance(value, AttachmentRef):
        yield value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from _references(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes)):
        for each in value:
            yield from _references(each)
