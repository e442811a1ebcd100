"""What modes say of their plugins' options, laid under and over what the settings say. Pure.

Weakest first: what plugins add to the mode (`ModeExtension`), modes of plugins, `[plugin.<id>]` of `lash.toml`, the
user's own modes, the environment and the command line. A field whose metadata has `"adds": True` holds what all but the
last two say, the strongest first, in place of what the strongest says: for lists in which nothing is taken back, such
as rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from lash_framework.settings.values import Origin, Rank, Settings
from lash_hookspecs.values import frozen

__all__ = ["SaidByMode", "with_modes"]


@frozen(kw_only=True)
class SaidByMode:
    """Options of one plugin, as a mode has them.

    `is_own`: the mode is the user's, not a plugin's; `is_extension`: `owner` adds them to the mode.
    """

    mode_id: str
    owner: str
    is_own: bool
    values: Mapping[str, Any]
    is_extension: bool = False

    def __str__(self) -> str:
        return f"extension of mode `{self.mode_id}`" if self.is_extension else f"mode `{self.mode_id}`"

    @property
    def origin(self) -> Origin:
        """Where an error says that it comes from."""
        return Origin(f"{self} of {self.owner}", Rank.FILE)


def with_modes(
    plugin_id: str, settings: Settings, said: Iterable[SaidByMode], cls: type[attrs.AttrsInstance] | None = None
) -> Settings:
    """The settings with a plugin's options as they are in a mode. `said` is by the lowest mode first."""
    adding = {each.name for each in attrs.fields(cls) if each.metadata.get("adds")} if cls is not None else set()
    prefix = f"plugin.{plugin_id}"
    given = settings.plugin.get(plugin_id, {})
    is_last = {key: settings.origin_of(f"{prefix}.{key}").rank > Rank.FILE for key in given}
    layers: list[tuple[Mapping[str, Any], Origin | None]] = []
    said = tuple(said)
    layers += [(each.values, each.origin) for each in said if not each.is_own]
    layers.append(({key: value for key, value in given.items() if not is_last[key]}, None))
    layers += [(each.values, each.origin) for each in said if each.is_own]
    values: dict[str, Any] = {}
    origins = dict(settings.origins)
    for layer, origin in layers:
        for key, value in layer.items():
            path = f"{prefix}.{key}"
            values[key] = [*value, *values[key]] if key in adding and _are_lists(values.get(key), value) else value
            if not is_last.get(key):
                origins[path] = origin or settings.origin_of(path)
    values |= {key: given[key] for key in given if is_last[key]}
    return attrs.evolve(settings, plugin={**settings.plugin, plugin_id: values}, origins=origins)


def _are_lists(*values: object) -> bool:
    return all(isinstance(each, Sequence) and not isinstance(each, str) for each in values)
