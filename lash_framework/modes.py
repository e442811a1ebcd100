"""Modes: which there are, and what their drivers are given: options, and extensions as data. Pure.

Three layers: the plugins' modes, those of `lash.toml`, those of the application. A mode of a higher layer may have the
id of a lower one if it extends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import fields

from lash_framework.discovery import none_offered
from lash_framework.hooks import Owned
from lash_framework.provenance import APPLICATION
from lash_hookspecs.errors import CodecError, ConfigurationError, PluginConflictError, UnknownName, nearest
from lash_hookspecs.modes import Mode, ModeDriver

__all__ = [
    "ModeTable",
    "check_extension",
    "driver_options",
    "load_extension",
    "store_extension",
]


class ModeTable:
    """All modes that a host knows. `modes` maps each id to the highest layer's."""

    def __init__(self, offered: Mapping[str, Owned[Mode]], own: Sequence[Owned[Mode] | Mode]) -> None:
        self._layers: dict[str, list[Owned[Mode]]] = {mode_id: [owned] for mode_id, owned in offered.items()}
        conflicts = []
        for each in own:
            owned = each if isinstance(each, Owned) else Owned(APPLICATION, each)
            mode = owned.value
            layers = self._layers.setdefault(mode.mode_id, [])
            if layers and mode.extends != mode.mode_id:
                conflicts.append(
                    f"mode `{mode.mode_id}` of {owned.plugin_id} has the name of one of {layers[-1].plugin_id}: "
                    f'choose another, or write `extends = "{mode.mode_id}"` to change that one'
                )
            layers.append(owned)
        if conflicts:
            raise PluginConflictError(conflicts)
        self.modes: Mapping[str, Owned[Mode]] = {mode_id: layers[-1] for mode_id, layers in self._layers.items()}

    def chain(self, mode_id: str) -> tuple[Owned[Mode], ...]:
        """The mode and all that it extends, the lowest first.

        Raises `UnknownName` for a mode that isn't there and `ConfigurationError` for a circle.
        """
        if mode_id not in self._layers:
            raise UnknownName("mode", mode_id, self._layers, none_offered(self._layers))
        found: list[Owned[Mode]] = []
        visited: set[tuple[str, int]] = set()
        wanted, depth = mode_id, len(self._layers[mode_id]) - 1
        while True:
            if (wanted, depth) in visited:
                circle = " extends ".join(f"`{each.value.mode_id}`" for each in found)
                raise ConfigurationError(f"modes extend each other in a circle: {circle} extends `{wanted}`")
            visited.add((wanted, depth))
            owned = self._layers[wanted][depth]
            found.append(owned)
            base = owned.value.extends
            if base is None:
                return tuple(reversed(found))
            if base == wanted:
                depth -= 1
                if depth < 0:
                    text = f"mode `{wanted}` of {owned.plugin_id} extends itself, and no plugin here offers one like it"
                    raise ConfigurationError(f"{text}: install the plugin that does, or drop `extends`")
            elif base in self._layers:
                wanted, depth = base, len(self._layers[base]) - 1
            else:
                hint = f"mode `{wanted}` of {owned.plugin_id} extends it; {nearest(base, self._layers)}"
                raise UnknownName("mode", base, hint=hint)


# ---- options --------------------------------------------------------------------------------------------------------


def driver_options(mode: Mode, values: Mapping[str, Any]) -> Any:
    """Options as the mode's driver takes them: of the class that it declared, or the mapping as it stands.

    Raises `ConfigurationError` for an option that the class doesn't have, and for a value that doesn't fit.
    """
    declared = mode.driver.options if mode.driver is not None else None
    if declared is None:
        return values
    known = [each.name for each in fields(declared)]
    for key in values:
        if key not in known:
            raise ConfigurationError(f"mode `{mode.mode_id}` has no option `{key}`: {nearest(key, known)}")
    if not values:
        return declared()
    from lash_hookspecs.codec import structure

    try:
        return structure(dict(values), declared)
    except CodecError as error:
        raise ConfigurationError(f"an option of mode `{mode.mode_id}` doesn't fit: {error}") from error


# ---- turn and session extensions as data ----------------------------------------------------------------------------


def check_extension(mode: Mode, kind: str, value: object) -> str | None:
    """The id under which the mode knows an extension's class; None for no extension.

    `kind` is `turn` or `session`. Raises `ConfigurationError` for a class that the mode doesn't accept.
    """
    if value is None:
        return None
    declared = _declared(mode.driver, kind)
    for key, cls in declared.items():
        if type(value) is cls:
            return key
    accepted = ", ".join(f"`{each}`" for each in sorted(declared)) or "none"
    raise ConfigurationError(
        f"mode `{mode.mode_id}` takes no {kind} extension of class `{type(value).__name__}`; it takes: {accepted}"
    )


def store_extension(mode: Mode, kind: str, value: object) -> dict[str, Any] | None:
    """An extension as plain data: its id and its fields. Raises like `check_extension`."""
    from lash_hookspecs.codec import unstructure

    key = check_extension(mode, kind, value)
    return None if key is None else {"id": key, "value": unstructure(value)}


def load_extension(mode: Mode, kind: str, data: Mapping[str, Any] | None) -> Any:
    """What `store_extension` made plain. Only declared classes are made; an id that isn't known is `UnknownName`."""
    from lash_hookspecs.codec import structure

    if data is None:
        return None
    declared = _declared(mode.driver, kind)
    if not data.keys() >= {"id", "value"}:
        raise ConfigurationError(f"a {kind} extension is stored as its `id` and its `value`, and this one has not both")
    if data["id"] not in declared:
        raise UnknownName(f"{kind} extension", data["id"], declared)
    return structure(data["value"], declared[data["id"]])


def _declared(driver: ModeDriver | None, kind: str) -> Mapping[str, type]:
    if driver is None:
        return {}
    return driver.turn_extensions if kind == "turn" else driver.session_extensions
