"""Modes: where they come from, what `extends` makes of them, and what plugins add to modes of others.

Three layers: the plugins' modes, those of `lash.toml`, those of the application. A mode of a higher layer may have the
id of a lower one if it extends it. Pure functions over values; no plugin is called here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve, field, fields

from lash_framework.discovery import none_offered
from lash_framework.hooks import Owned
from lash_framework.provenance import APPLICATION, OWN, Provenance
from lash_framework.settings import SaidByMode
from lash_hookspecs.errors import CodecError, ConfigurationError, PluginConflictError, PluginError, UnknownName, nearest
from lash_hookspecs.modes import Mode, ModeDriver, ModeExtension
from lash_hookspecs.prompts import PromptLayer
from lash_hookspecs.turn_steps import ProtocolDriver
from lash_hookspecs.values import frozen

__all__ = [
    "ModeTable",
    "ResolvedMode",
    "check_extension",
    "driver_options",
    "extend",
    "load_extension",
    "merge",
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


@frozen(kw_only=True)
class ResolvedMode:
    """A mode with all that it extends folded in, and who each piece is from.

    `named` maps the plugins that it names to (who named it, how). `prompts` are the layers of `mode.prompt`, and
    `plugin_options` what is said of each plugin's options, by extensions and modes, the lowest first.
    """

    mode: Mode
    owner: str
    driver_owner: str
    named: Mapping[str, tuple[str, str]] = field(factory=dict)
    removed: Mapping[str, str] = field(factory=dict)
    prompts: tuple[Owned[PromptLayer], ...] = ()
    plugin_options: Mapping[str, tuple[SaidByMode, ...]] = field(factory=dict)
    provenance: tuple[Provenance, ...] = ()


def merge(chain: Sequence[Owned[Mode]]) -> ResolvedMode:
    """The modes of a chain as one: later ones win, `plugins` add up, `without` takes away."""
    top = chain[-1]
    named: dict[str, tuple[str, str]] = {}
    removed: dict[str, str] = {}
    single: dict[tuple[str, str], Provenance] = {}
    prompts: list[Owned[PromptLayer]] = []
    rows: list[Provenance] = []
    told: dict[str, tuple[SaidByMode, ...]] = {}
    whole = Mode(mode_id=top.value.mode_id)
    for owner, mode in chain:
        both = set(mode.plugins) & set(mode.without)
        if both:
            raise ConfigurationError(
                f"mode `{mode.mode_id}` of {owner} has plugin `{min(both)}` in both `plugins` and `without`"
            )
        where = f"mode `{mode.mode_id}`"
        rows.append(Provenance("mode", mode.mode_id, owner, f"extends `{mode.extends}`" if mode.extends else ""))
        for plugin_id in mode.without:
            named.pop(plugin_id, None)
            removed[plugin_id] = owner
        for plugin_id in mode.plugins:
            removed.pop(plugin_id, None)
            named.setdefault(plugin_id, (owner, f"named by {where}"))
        if mode.driver is not None:
            single["driver", ""] = Provenance("driver", mode.mode_id, owner, where)
        driver = mode.driver or whole.driver
        if mode.wrap is not None:
            driver = _wrapped(mode, owner, driver)
            rows.append(Provenance("driver", mode.mode_id, owner, f"laid around the driver by {where}"))
        if mode.max_turns is not None:
            single["max_turns", ""] = Provenance("max_turns", str(mode.max_turns), owner, where)
        for key in mode.options:
            single["option", key] = Provenance("option", key, owner, where)
        for key, value in _set_fields(mode.generation).items():
            single["generation", key] = Provenance("generation", key, owner, f"{where}: {value}")
        if mode.prompt != PromptLayer():
            prompts.append(Owned(owner, mode.prompt))
            rows += _prompt_rows(owner, mode.prompt, where)
        for plugin_id, values in mode.plugin_options.items():
            said = SaidByMode(mode_id=mode.mode_id, owner=owner, is_own=owner in OWN, values=values)
            told[plugin_id] = (*told.get(plugin_id, ()), said)
        whole = evolve(
            whole,
            driver=driver,
            plugins=tuple(named),
            without=tuple(removed),
            prompt=mode.prompt.over(whole.prompt),
            options={**whole.options, **mode.options},
            plugin_options={
                **whole.plugin_options,
                **{key: {**whole.plugin_options.get(key, {}), **each} for key, each in mode.plugin_options.items()},
            },
            generation=mode.generation.over(whole.generation),
            max_turns=whole.max_turns if mode.max_turns is None else mode.max_turns,
            summary=mode.summary or whole.summary,
        )
    made = single.get(("driver", ""))
    return ResolvedMode(
        mode=whole,
        owner=top.plugin_id,
        driver_owner=made.plugin_id if made else top.plugin_id,
        named=named,
        removed=removed,
        prompts=tuple(prompts),
        plugin_options=told,
        provenance=(*rows, *single.values()),
    )


def extend(resolved: ResolvedMode, extensions: Sequence[Owned[ModeExtension]]) -> ResolvedMode:
    """The mode with what plugins add to it.

    Prompts are laid over the mode's. An option that the mode sets itself stays, and what it says of a plugin's is
    stronger. Raises `PluginConflictError` if two plugins give one option different values, or offer different extension
    classes under one id.
    """
    mode = resolved.mode
    named, prompts, rows = dict(resolved.named), list(resolved.prompts), list(resolved.provenance)
    driver = mode.driver
    conflicts: list[str] = []
    told: dict[str, tuple[SaidByMode, ...]] = {}
    options = dict(mode.options)
    given: dict[str, str] = {}
    owners: dict[tuple[str, str], str] = {}
    kinds: dict[str, dict[str, type]] = {
        "turn_extension": dict(driver.turn_extensions) if driver else {},
        "session_extension": dict(driver.session_extensions) if driver else {},
    }
    for owner, extension in extensions:
        for plugin_id in extension.plugins:
            if plugin_id not in resolved.removed:
                named.setdefault(plugin_id, (owner, f"added by the extension of `{owner}`"))
        if extension.prompt != PromptLayer():
            prompts.append(Owned(owner, extension.prompt))
            rows += _prompt_rows(owner, extension.prompt, "mode extension")
        for key, value in extension.options.items():
            if key in mode.options:
                rows.append(Provenance("option", key, owner, "not taken: the mode sets it"))
            elif key in given and options[key] != value:
                conflicts.append(f"option `{key}`: extensions of plugin `{given[key]}` and plugin `{owner}`")
            elif key not in given:
                given[key], options[key] = owner, value
                rows.append(Provenance("option", key, owner, "mode extension"))
        for plugin_id, values in extension.plugin_options.items():
            said = SaidByMode(mode_id=mode.mode_id, owner=owner, is_own=False, values=values, is_extension=True)
            told[plugin_id] = (*told.get(plugin_id, ()), said)
        for kind, declared in (
            ("turn_extension", extension.turn_extensions),
            ("session_extension", extension.session_extensions),
        ):
            for key, cls in declared.items():
                if kinds[kind].setdefault(key, cls) is not cls:
                    what = kind.replace("_", " ")
                    first = owners.get((kind, key))
                    other = f"plugin `{first}`" if first else f"the driver of {resolved.driver_owner}"
                    conflicts.append(
                        f"{what} `{key}`: {other} and plugin `{owner}` offer different classes, of which only one can "
                        "be, so one of them has to be left out"
                    )
                owners.setdefault((kind, key), owner)
                rows.append(Provenance(kind, key, owner, "mode extension"))  # type: ignore[arg-type]  # two of its names
    if conflicts:
        choose = (
            f"choose: name one plugin in the `without` of mode `{mode.mode_id}`, or set an option there, which wins"
        )
        raise PluginConflictError([f"mode `{mode.mode_id}`, {each}" for each in conflicts], choose)
    if driver is not None:
        driver = evolve(driver, turn_extensions=kinds["turn_extension"], session_extensions=kinds["session_extension"])
    prompt = PromptLayer()
    for _, layer in prompts:
        prompt = layer.over(prompt)
    told = {
        key: (*told.get(key, ()), *resolved.plugin_options.get(key, ())) for key in {**resolved.plugin_options, **told}
    }
    of_plugins = {key: {name: one for said in each for name, one in said.values.items()} for key, each in told.items()}
    whole = evolve(mode, driver=driver, plugins=tuple(named), prompt=prompt, options=options, plugin_options=of_plugins)
    return evolve(
        resolved, mode=whole, named=named, prompts=tuple(prompts), plugin_options=told, provenance=tuple(rows)
    )


def _wrapped(mode: Mode, owner: str, driver: ModeDriver | None) -> ModeDriver:
    wrap = mode.wrap
    assert wrap is not None  # else nobody asks
    if driver is None:
        text = f"mode `{mode.mode_id}` of {owner} has a `wrap`, and no driver to lay it around: let it extend a mode"
        raise ConfigurationError(text)
    checkpoints = dict[str, str]([*driver.checkpoints.items(), *wrap.checkpoints.items()])
    make = partial(_made_around, mode.mode_id, owner, wrap.around, driver.make)
    return evolve(driver, make=make, checkpoints=checkpoints)


_QUESTIONS = tuple(name for name in vars(ProtocolDriver) if not name.startswith("_"))


def _made_around(
    mode_id: str,
    owner: str,
    around: Callable[[ProtocolDriver], ProtocolDriver],
    make: Callable[[], ProtocolDriver],
) -> Any:
    inner = make()
    made = around(inner)
    if lacks := [f"`{name}`" for name in _QUESTIONS if hasattr(inner, name) and not hasattr(made, name)]:
        text = f"the driver that mode `{mode_id}` lays around another one lacks {', '.join(lacks)}"
        raise PluginError(owner, "lash_modes", f"{text}: pass on what it leaves to the inner one, as by `__getattr__`")
    return made


def _set_fields(value: Any) -> dict[str, Any]:
    """The fields of an attrs value that are not at their default."""
    return {
        each.name: getattr(value, each.name)
        for each in fields(type(value))
        if getattr(value, each.name) != each.default
    }


def _prompt_rows(owner: str, layer: PromptLayer, where: str) -> list[Provenance]:
    rows = [Provenance("prompt", "template", owner, where)] if layer.template is not None else []
    for slot, said in layer.slots.items():
        if said.reset:
            rows.append(Provenance("prompt", slot.value, owner, f"{where}: drops what was said before"))
        for each in said.contributions:
            first_line = (each.title or each.content.strip()).partition("\n")[0]
            rows.append(Provenance("prompt", slot.value, owner, f"{where}: {first_line[:80]}"))
    return rows


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
    if data["id"] not in declared:
        raise UnknownName(f"{kind} extension", data["id"], declared)
    return structure(data["value"], declared[data["id"]])


def _declared(driver: ModeDriver | None, kind: str) -> Mapping[str, type]:
    if driver is None:
        return {}
    return driver.turn_extensions if kind == "turn" else driver.session_extensions
