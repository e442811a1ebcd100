"""Modes: named compositions of a protocol driver, plugins, prompt and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import GenerationOptions
from lash_hookspecs.prompts import PromptContribution, PromptLayer
from lash_hookspecs.read_only_data import read_only_table
from lash_hookspecs.turn_steps import ProtocolDriver
from lash_hookspecs.values import frozen

__all__ = [
    "DriverWrap",
    "Mode",
    "ModeDriver",
    "ModeExtension",
    "ModeSessionExtension",
    "ModeTurnExtension",
    "ModeTurnOptions",
]


@frozen
class ModeTurnOptions:
    """A turn's options for its mode's driver: plain JSON data, stored with the input."""

    values: Mapping[str, Any] = field(factory=dict, converter=read_only_table)


@runtime_checkable
class ModeTurnExtension(Protocol):
    """Typed data for one turn that reaches the mode's driver: an attrs instance of a registered class.

    It may offer prompt contributions of its own.
    """

    def prompt_contributions(self) -> tuple[PromptContribution, ...]:
        """What it adds to this turn's prompt."""
        ...


@runtime_checkable
class ModeSessionExtension(Protocol):
    """Typed data for a whole session that reaches the mode's driver: an attrs instance of a registered class."""

    def prompt_contributions(self) -> tuple[PromptContribution, ...]:
        """What it adds to every prompt of the session."""
        ...


def _own_kinds(given: Mapping[str, str]) -> Mapping[CheckpointKind, str]:
    if not isinstance(given, Mapping):
        text = f"`checkpoints` is a `{type(given).__name__}`: say of each kind when it comes, in a mapping"
        raise ConfigurationError(text)
    for name in given:
        try:
            built_in = not CheckpointKind(name).is_own
        except ValueError:
            raise ConfigurationError(f"`{name}` names no checkpoint: write `MODE:NAME`, in small letters") from None
        if built_in:
            raise ConfigurationError(f"every mode has the checkpoint `{name}`: declare only its own, `MODE:NAME`")
    return {CheckpointKind(name): when for name, when in given.items()}


@frozen(kw_only=True)
class ModeDriver:
    """How a mode runs: its protocol driver, the language it speaks with the model, and what it accepts.

    `make()` is called once per composition and returns a stateless driver. `turn_extensions` and `session_extensions`
    list the classes (by id) that it understands; everything else is refused by name. `execution_prompt` tells the model
    how to act in this mode. `sync_execution_environment`: whether prompt and tools are brought up to date between
    iterations. `options` is a frozen attrs class whose every field has a default: the driver gets an instance of it,
    and an option that it doesn't have is refused by name. `checkpoints` are the kinds of the driver's own
    (`CheckpointKind("MODE:NAME")`), each with a line that says when it comes.
    """

    make: Callable[[], ProtocolDriver]
    execution_prompt: str = ""
    sync_execution_environment: bool = True
    turn_extensions: Mapping[str, type] = field(factory=dict)
    session_extensions: Mapping[str, type] = field(factory=dict)
    options: type | None = field(default=None, validator=checks.optional_class_of_defaults)
    checkpoints: Mapping[CheckpointKind, str] = field(factory=dict, converter=_own_kinds)


@frozen(kw_only=True)
class DriverWrap:
    """A driver laid around the one that the mode inherits, with `checkpoints` of its own.

    `around` gets the inherited driver and returns one that asks it for most of its steps.
    """

    around: Callable[[ProtocolDriver], ProtocolDriver]
    checkpoints: Mapping[CheckpointKind, str] = field(factory=dict, converter=_own_kinds)


def _tables(instance: object, attribute: object, value: Mapping[str, Any]) -> None:
    for plugin_id, table in value.items():
        if not isinstance(table, Mapping):
            where = f"`{type(instance).__name__}.plugin_options`"
            raise TypeError(f"{where} has {table!r} for `{plugin_id}`; it must be a mapping of options")


def _names(value: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return checks.as_tuple(value)


def _layer(instance: object, attribute: Any, value: object) -> None:
    if isinstance(value, str):
        where = f"`{type(instance).__name__}.prompt`"
        write = "PromptLayer().with_contribution(PromptContribution(content=…))"
        raise TypeError(f"{where} must be a `PromptLayer`, and is text: write `{write}`")
    checks.a(PromptLayer)(instance, attribute, value)


@frozen(kw_only=True)
class Mode:
    """A named way to run turns.

    What it leaves open comes from the mode that it `extends`: `driver` and `max_turns` are replaced, `wrap` is laid
    around the driver, `plugins` appended, `without` removed, `prompt` laid over, `options`, `generation` and
    `plugin_options` merged per key.

    `plugin_options` are options of its plugins, by id, as plain data, such as `lash.toml` would have it. What a
    plugin's mode says gives way to `[plugin.<id>]` there; what a user's own mode says is stronger than that.
    """

    mode_id: str = field(validator=checks.text)
    extends: str | None = field(default=None, validator=checks.optional_text)
    driver: ModeDriver | None = field(default=None, validator=checks.a(ModeDriver, optional=True))
    wrap: DriverWrap | None = field(default=None, validator=checks.a(DriverWrap, optional=True))
    plugins: tuple[str, ...] = field(default=(), converter=_names, validator=checks.tuple_of(str))
    without: tuple[str, ...] = field(default=(), converter=_names, validator=checks.tuple_of(str))
    prompt: PromptLayer = field(default=PromptLayer(), validator=_layer)
    options: Mapping[str, Any] = field(factory=dict, validator=checks.a(Mapping))
    plugin_options: Mapping[str, Mapping[str, Any]] = field(factory=dict, validator=_tables)
    generation: GenerationOptions = field(default=GenerationOptions(), validator=checks.a(GenerationOptions))
    max_turns: int | None = field(default=None, validator=checks.optional_positive)
    summary: str = field(default="", validator=checks.text)


@frozen(kw_only=True)
class ModeExtension:
    """What a plugin adds to a mode that is not its own.

    `plugin_options` are options of plugins in that mode, such as of those in `plugins`: what any mode, or
    `[plugin.<id>]`, says of them is stronger.
    """

    plugins: tuple[str, ...] = field(default=(), converter=_names, validator=checks.tuple_of(str))
    prompt: PromptLayer = field(default=PromptLayer(), validator=_layer)
    options: Mapping[str, Any] = field(factory=dict, validator=checks.a(Mapping))
    plugin_options: Mapping[str, Mapping[str, Any]] = field(factory=dict, validator=_tables)
    turn_extensions: Mapping[str, type] = field(factory=dict)
    session_extensions: Mapping[str, type] = field(factory=dict)
