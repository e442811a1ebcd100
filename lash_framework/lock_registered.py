"""What a lock holds of plugins beside hooks and tools: what they register by name, and what they make of modes.

Each is one line of text, so that a lock that is read, or compared, needs to know nothing of their kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lash_framework.plain_values import as_plain
from lash_hookspecs.canonical import stable_hash

if TYPE_CHECKING:
    from lash_framework.hooks import Owned
    from lash_framework.plugins import LoadedPlugin
    from lash_framework.registrations import Registrations
    from lash_hookspecs.modes import Mode, ModeExtension

__all__ = ["registered_by_plugin"]


def registered_by_plugin(
    registrations: Registrations, extensions: Mapping[str, Sequence[Owned[ModeExtension]]]
) -> dict[str, tuple[str, ...]]:
    """What each plugin registers, sorted. `extensions` are what plugins add to modes, by mode.

    A mode is one line with all that it switches on, so that one that lost its approval is another mode, too.
    """
    found = {each.plugin_id: {*_of_info(each)} for each in registrations.report.loaded}
    for plugin_id, offer in registrations.offers.items():
        for (what, name), value in offer.claims.items():
            found[plugin_id].add(_mode(value) if what == "mode" else f"{what} {name}")
    for mode_id, owned in extensions.items():
        # A user's own modes come and go, and are no matter of a plugin.
        where = f"mode {mode_id}" if mode_id in registrations.modes else "other modes"
        for plugin_id, extension in owned:
            found[plugin_id] |= {f"adds plugin {each} to {where}" for each in extension.plugins}
            found[plugin_id] |= {f"adds {each} to {where}" for each in _options(extension)}
    return {plugin_id: tuple(sorted(each)) for plugin_id, each in found.items()}


def _of_info(plugin: LoadedPlugin) -> Iterator[str]:
    if plugin.info.enabled_by_default:
        yield "on by default"
    for each in plugin.info.replaces:
        yield f"replaces plugin {each}"


def _mode(mode: Mode) -> str:
    pieces = [*sorted(mode.plugins), *(f"without {each}" for each in sorted(mode.without)), *_options(mode)]
    base = f" extends {mode.extends}" if mode.extends else ""
    return f"mode {mode.mode_id}{base}: {', '.join(pieces) or 'no plugins of its own'}"


def _options(of: Mode | ModeExtension) -> Iterator[str]:
    """Whose options it says, and a digest of them: they may say whom to ask before a tool runs."""
    for plugin_id, values in sorted(of.plugin_options.items()):
        yield f"options {stable_hash('lash.lock', as_plain(values))[:8]} of {plugin_id}"
