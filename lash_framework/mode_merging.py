"""What `extends` makes of modes, and what plugins add to modes of others. Pure: no plugin is called here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from attrs import evolve, field, fields

from lash_framework.faults import failure_text
from lash_framework.hooks import Owned
from lash_framework.provenance import NOT_TAKEN, OWN, Provenance
from lash_framework.settings import SaidByMode
from lash_framework.signed_drivers import QUESTIONS, SignedDriver, signed
from lash_hookspecs.errors import ConfigurationError, PluginConflictError, PluginError
from lash_hookspecs.modes import Mode, ModeDriver, ModeExtension
from lash_hookspecs.prompts import PromptLayer
from lash_hookspecs.turn_steps import ProtocolDriver
from lash_hookspecs.values import frozen

__all__ = ["ResolvedMode", "extend", "merge"]


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


# ---- `extends` ------------------------------------------------------------------------------------------------------


def merge(chain: Sequence[Owned[Mode]]) -> ResolvedMode:
    """The modes of a chain as one: later ones win, `plugins` add up, `without` takes away."""
    top = chain[-1]
    merging = _Merging(top.value.mode_id)
    for owner, mode in chain:
        merging.lay(owner, mode)
    return merging.resolved(top.plugin_id)


class _Merging:
    """Modes while they are laid over each other, the lowest first."""

    def __init__(self, mode_id: str) -> None:
        self._mode = Mode(mode_id=mode_id)
        self._named: dict[str, tuple[str, str]] = {}
        self._removed: dict[str, str] = {}
        self._prompts: list[Owned[PromptLayer]] = []
        self._plugin_options: dict[str, tuple[SaidByMode, ...]] = {}
        self._rows: list[Provenance] = []
        self._single: dict[tuple[str, str], Provenance] = {}
        """Of what only the highest mode counts that says it."""

    def lay(self, owner: str, mode: Mode) -> None:
        """Lay a mode over those before it."""
        where, below = f"mode `{mode.mode_id}`", self._mode
        self._rows.append(Provenance("mode", mode.mode_id, owner, f"extends `{mode.extends}`" if mode.extends else ""))
        self._switch_plugins(owner, mode, where)
        self._note_single(owner, mode, where)
        driver = mode.driver or below.driver
        if mode.driver is not None:  # with what was laid around the one before it
            self._rows = [row for row in self._rows if row.kind != "driver"]
        if mode.wrap is not None:
            driver = _wrapped(mode, owner, driver, self._driver_owner)
            self._rows.append(Provenance("driver", mode.mode_id, owner, f"laid around the driver by {where}"))
        if mode.prompt != PromptLayer():
            self._prompts.append(Owned(owner, mode.prompt))
            self._rows += _prompt_rows(owner, mode.prompt, where)
        for plugin_id, values in mode.plugin_options.items():
            said = SaidByMode(mode_id=mode.mode_id, owner=owner, is_own=owner in OWN, values=values)
            self._plugin_options[plugin_id] = (*self._plugin_options.get(plugin_id, ()), said)
        self._mode = evolve(
            below,
            driver=driver,
            plugins=tuple(self._named),
            without=tuple(self._removed),
            prompt=mode.prompt.over(below.prompt),
            options={**below.options, **mode.options},
            plugin_options=_values(self._plugin_options),
            generation=mode.generation.over(below.generation),
            max_turns=below.max_turns if mode.max_turns is None else mode.max_turns,
            summary=mode.summary or below.summary,
        )

    @property
    def _driver_owner(self) -> str | None:
        """Whose the driver is that is laid around, if there is one yet."""
        driver = self._single.get(("driver", ""))
        return driver.plugin_id if driver else None

    def _switch_plugins(self, owner: str, mode: Mode, where: str) -> None:
        both = set(mode.plugins) & set(mode.without)
        if both:
            raise ConfigurationError(f"{where} of {owner} has plugin `{min(both)}` in both `plugins` and `without`")
        for plugin_id in mode.without:
            self._named.pop(plugin_id, None)
            self._removed[plugin_id] = owner
        for plugin_id in mode.plugins:
            self._removed.pop(plugin_id, None)
            self._named.setdefault(plugin_id, (owner, f"named by {where}"))

    def _note_single(self, owner: str, mode: Mode, where: str) -> None:
        if mode.driver is not None:
            self._single["driver", ""] = Provenance("driver", mode.mode_id, owner, where)
        if mode.max_turns is not None:
            self._single["max_turns", ""] = Provenance("max_turns", str(mode.max_turns), owner, where)
        for key in mode.options:
            self._single["option", key] = Provenance("option", key, owner, where)
        for key, value in _set_fields(mode.generation).items():
            self._single["generation", key] = Provenance("generation", key, owner, f"{where}: {value}")

    def resolved(self, owner: str) -> ResolvedMode:
        """What came of it; the highest mode is `owner`'s."""
        return ResolvedMode(
            mode=self._mode,
            owner=owner,
            driver_owner=self._driver_owner or owner,
            named=self._named,
            removed=self._removed,
            prompts=tuple(self._prompts),
            plugin_options=self._plugin_options,
            provenance=(*self._rows, *self._single.values()),
        )


# ---- what plugins add -----------------------------------------------------------------------------------------------


def extend(resolved: ResolvedMode, extensions: Sequence[Owned[ModeExtension]]) -> ResolvedMode:
    """The mode with what plugins add to it.

    Prompts are laid over the mode's. An option that the mode sets itself stays, and what it says of a plugin's is
    stronger. Raises `PluginConflictError` if two plugins give one option different values, or offer different extension
    classes under one id.
    """
    extending = _Extending(resolved)
    for owner, extension in extensions:
        extending.add(owner, extension)
    return extending.resolved()


class _Extending:
    """A mode while plugins add to it."""

    def __init__(self, resolved: ResolvedMode) -> None:
        driver = resolved.mode.driver
        self._base = resolved
        self._named = dict(resolved.named)
        self._prompts = list(resolved.prompts)
        self._rows = list(resolved.provenance)
        self._options = dict(resolved.mode.options)
        self._plugin_options: dict[str, tuple[SaidByMode, ...]] = {}
        self._turn_extensions = dict(driver.turn_extensions) if driver else {}
        self._session_extensions = dict(driver.session_extensions) if driver else {}
        self._first: dict[tuple[str, str], str] = {}
        """The plugin that was the first to give an option or an extension class, by kind and name."""
        self._conflicts: list[str] = []

    def add(self, owner: str, extension: ModeExtension) -> None:
        """Add what one plugin says."""
        for plugin_id in extension.plugins:
            if plugin_id not in self._base.removed:
                self._named.setdefault(plugin_id, (owner, f"added by the extension of `{owner}`"))
        if extension.prompt != PromptLayer():
            self._prompts.append(Owned(owner, extension.prompt))
            self._rows += _prompt_rows(owner, extension.prompt, "mode extension")
        for key, value in extension.options.items():
            self._add_option(owner, key, value)
        mode_id = self._base.mode.mode_id
        for plugin_id, values in extension.plugin_options.items():
            said = SaidByMode(mode_id=mode_id, owner=owner, is_own=False, values=values, is_extension=True)
            self._plugin_options[plugin_id] = (*self._plugin_options.get(plugin_id, ()), said)
        self._add_classes(owner, "turn_extension", extension.turn_extensions, self._turn_extensions)
        self._add_classes(owner, "session_extension", extension.session_extensions, self._session_extensions)

    def _add_option(self, owner: str, key: str, value: Any) -> None:
        first = self._first.get(("option", key))
        if key in self._base.mode.options:
            self._rows.append(Provenance("option", key, owner, f"{NOT_TAKEN}: the mode sets it"))
        elif first is None:
            self._first["option", key], self._options[key] = owner, value
            self._rows.append(Provenance("option", key, owner, "mode extension"))
        elif self._options[key] != value:
            self._conflicts.append(f"option `{key}`: extensions of plugin `{first}` and plugin `{owner}`")

    def _add_classes(
        self,
        owner: str,
        kind: Literal["turn_extension", "session_extension"],
        offered: Mapping[str, type],
        known: dict[str, type],
    ) -> None:
        for key, cls in offered.items():
            if known.setdefault(key, cls) is not cls:
                first = self._first.get((kind, key))
                other = f"plugin `{first}`" if first else f"the driver of {self._base.driver_owner}"
                self._conflicts.append(
                    f"{kind.replace('_', ' ')} `{key}`: {other} and plugin `{owner}` offer different classes, of which "
                    "only one can be, so one of them has to be left out"
                )
            self._first.setdefault((kind, key), owner)
            self._rows.append(Provenance(kind, key, owner, "mode extension"))

    def resolved(self) -> ResolvedMode:
        """What came of it. Raises `PluginConflictError` with all conflicts."""
        mode = self._base.mode
        if self._conflicts:
            choose = (
                f"choose: name one plugin in the `without` of mode `{mode.mode_id}`, or set an option there, which wins"
            )
            raise PluginConflictError([f"mode `{mode.mode_id}`, {each}" for each in self._conflicts], choose)
        driver = mode.driver
        if driver is not None:
            driver = evolve(driver, turn_extensions=self._turn_extensions, session_extensions=self._session_extensions)
        prompt = PromptLayer()
        for _, layer in self._prompts:
            prompt = layer.over(prompt)
        added, by_mode = self._plugin_options, self._base.plugin_options
        told = {key: (*added.get(key, ()), *by_mode.get(key, ())) for key in {**by_mode, **added}}
        return evolve(
            self._base,
            mode=evolve(
                mode,
                driver=driver,
                plugins=tuple(self._named),
                prompt=prompt,
                options=self._options,
                plugin_options=_values(told),
            ),
            named=self._named,
            prompts=tuple(self._prompts),
            plugin_options=told,
            provenance=tuple(self._rows),
        )


# ---- both -----------------------------------------------------------------------------------------------------------


def _values(said: Mapping[str, Sequence[SaidByMode]]) -> dict[str, dict[str, Any]]:
    """Each plugin's options, of which the last that is said counts."""
    return {key: {name: value for one in each for name, value in one.values.items()} for key, each in said.items()}


def _wrapped(mode: Mode, owner: str, driver: ModeDriver | None, driver_owner: str | None) -> ModeDriver:
    wrap = mode.wrap
    assert wrap is not None  # else nobody asks
    if driver is None:
        text = f"mode `{mode.mode_id}` of {owner} has a `wrap`, and no driver to lay it around: let it extend a mode"
        raise ConfigurationError(text)
    checkpoints = dict[str, str]([*driver.checkpoints.items(), *wrap.checkpoints.items()])
    make = partial(_made_around, mode.mode_id, owner, wrap.around, driver.make, driver_owner or owner)
    return evolve(driver, make=make, checkpoints=checkpoints)


def _made_around(
    mode_id: str,
    owner: str,
    around: Callable[[ProtocolDriver], ProtocolDriver],
    make: Callable[[], ProtocolDriver],
    inner_owner: str,
) -> Any:
    inner = signed(make(), inner_owner)
    try:
        made = around(inner)
    except Exception as error:
        text = f"mode `{mode_id}` can't lay its driver around another one: {failure_text(error)}"
        raise PluginError(owner, "lash_modes", text) from error
    if lacks := [f"`{name}`" for name in QUESTIONS if hasattr(inner, name) and not hasattr(made, name)]:
        text = f"the driver that mode `{mode_id}` lays around another one lacks {', '.join(lacks)}"
        raise PluginError(owner, "lash_modes", f"{text}: pass on what it leaves to the inner one, as by `__getattr__`")
    return SignedDriver(made, owner, is_around=True)


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
