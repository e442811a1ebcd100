"""Typed values out of raw ones: TOML values are checked, texts (environment, `--set`) are read by the wanted type.

Also the typed settings of providers, stores and plugins: attrs classes whose fields may name environment variables
(`metadata["env"]`) and may be secret (`metadata["secret"]`). A message repeats a value only where one of a few names
was expected, and never a secret one.
"""

from __future__ import annotations

import enum
import inspect
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from lash_framework.settings.by_mode import SaidByMode, with_modes
from lash_framework.settings.sources import toml_value
from lash_hookspecs.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from lash_framework.settings.values import Settings
    from lash_hookspecs.llm import ProviderSpec
    from lash_hookspecs.models import ModelCapability
    from lash_hookspecs.stores import StoreSpec

__all__ = [
    "Mismatch",
    "from_text",
    "from_value",
    "inside",
    "model_settings",
    "plugin_settings",
    "provider_settings",
    "secret_fields",
    "store_settings",
    "typed",
]

T = TypeVar("T", bound=attrs.AttrsInstance)

_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "an array",
    dict: "a table",
}
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_SEQUENCES = (list, tuple, set, frozenset)


class Mismatch(Exception):
    """A value that doesn't fit. `at` is the path to it below the setting, such as `[1].slot`.

    The text says what is expected; `with_value` adds what was given where it was to be one of a few names.
    """

    def __init__(self, expected: str, given: str = "", at: str = "") -> None:
        super().__init__(expected)
        self.given = given
        self.at = at

    def with_value(self) -> str:
        """The text for settings that aren't secret."""
        return f"{self}{self.given}"


def inside(at: str, value: Any, tp: Any) -> Any:
    """A member of a value; its mismatch knows where it stands."""
    try:
        return from_value(value, tp)
    except Mismatch as fault:
        fault.at = at + fault.at
        raise


def _choices(tp: Any) -> tuple[Any, ...] | None:
    if get_origin(tp) is Literal:
        return get_args(tp)
    return tuple(each.value for each in tp) if inspect.isclass(tp) and issubclass(tp, enum.Enum) else None


def _either(choices: tuple[Any, ...]) -> str:
    *most, last = (f"`{each}`" for each in choices)
    return f"{', '.join(most)} or {last}" if most else last


def _named(tp: Any) -> str:
    base = get_origin(tp) or tp
    if inspect.isclass(base):
        if issubclass(base, _SEQUENCES) or base in (Sequence,):
            return _NAMES[list]
        if issubclass(base, Mapping) or attrs.has(base):
            return _NAMES[dict]
    return _NAMES.get(base, "something else")


def _mismatch(tp: Any, value: Any) -> Mismatch:
    choices = _choices(tp)
    if choices is not None:
        hint = nearest(str(value), map(str, choices)) if isinstance(value, str) else ""
        close = f": {hint}" if hint.startswith("did you mean") else ""
        plain = isinstance(value, (str, int, float))
        return Mismatch(f"must be {_either(choices)}", f", not `{value}`{close}" if plain else "")
    given = next((name for kind, name in _NAMES.items() if isinstance(value, kind)), type(value).__name__)
    return Mismatch(f"must be {_named(tp)}, not {given}")


def _members(tp: Any) -> tuple[Any, ...] | None:
    """The non-None members of a union, or None for anything else."""
    if get_origin(tp) in (Union, types.UnionType):
        return tuple(each for each in get_args(tp) if each is not type(None))
    return None


def from_value(value: Any, tp: Any) -> Any:
    """A TOML value as a `tp`. Raises `Mismatch`."""
    if (members := _members(tp)) is not None:
        return _first_fitting(value, members, from_value)
    origin, args = get_origin(tp), get_args(tp)
    base = origin or tp
    if base is Literal:
        if value in args:
            return value
    elif not inspect.isclass(base) or base is object:
        return value
    elif base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif base in (str, int, bool, float):
        if isinstance(value, base) and (base is bool or not isinstance(value, bool)):
            return value
    elif issubclass(base, enum.Enum):
        if value in [each.value for each in base]:
            return base(value)
    elif issubclass(base, Path):
        if isinstance(value, str):
            return Path(value).expanduser()
    elif issubclass(base, _SEQUENCES) or base is Sequence:
        if isinstance(value, (list, tuple)):
            made = [inside(f"[{at}]", each, args[0] if args else Any) for at, each in enumerate(value)]
            return made if base is list else (base if base in _SEQUENCES else tuple)(made)
    elif issubclass(base, Mapping):
        if isinstance(value, Mapping):
            return {key: inside(f".{key}", each, args[1] if args else Any) for key, each in value.items()}
    elif attrs.has(base):
        if isinstance(value, Mapping):
            return base(**{key: inside(f".{key}", each, tp) for key, each, tp in _known(value, base)})
    else:
        return value
    raise _mismatch(tp, value)


def _known(value: Mapping[str, Any], cls: type) -> list[tuple[str, Any, Any]]:
    hints = field_types(cls)
    for key in value:
        if key not in hints:
            raise Mismatch(f"has the unknown key `{key}`: {nearest(key, hints)}")
    return [(key, each, hints[key]) for key, each in value.items()]


def from_text(text: str, tp: Any) -> Any:
    """A text from the environment or `--set` as a `tp`. Raises `Mismatch`.

    A sequence is a TOML array, or its members separated by commas; a table is an inline one.
    """
    if (members := _members(tp)) is not None:
        return _first_fitting(text, members, from_text)
    base = get_origin(tp) or tp
    if not inspect.isclass(base) or base is object:
        if base is Literal:
            return from_value(text if text in get_args(tp) else toml_value(text), tp)
        return toml_value(text)
    if base is bool:
        if text.strip().lower() in _TRUTH:
            return _TRUTH[text.strip().lower()]
        raise Mismatch("must be true or false")
    if base in (int, float):
        try:
            return base(text)
        except ValueError:
            raise _mismatch(tp, text) from None
    if base is str or issubclass(base, Path):
        return from_value(text, tp)
    if issubclass(base, enum.Enum):
        return from_value(text if text in [each.value for each in base] else toml_value(text), tp)
    parsed = toml_value(text)
    if isinstance(parsed, (str, int, float)) and (issubclass(base, _SEQUENCES) or base is Sequence):
        args = get_args(tp)
        pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
        return from_value([from_text(piece, args[0] if args else str) for piece in pieces], tp)
    return from_value(parsed, tp)


def _first_fitting(value: Any, members: tuple[Any, ...], convert: Any) -> Any:
    faults = []
    for member in members:
        try:
            return convert(value, member)
        except Mismatch as fault:
            faults.append(fault)
    # What went furthest into the value says most.
    raise max(faults, key=lambda fault: len(fault.at)) if faults else Mismatch("must be absent")


def field_types(cls: type) -> dict[str, Any]:
    """The types of an attrs class's fields; a type that can't be resolved counts as anything."""
    try:
        hints = get_type_hints(cls)
    except (NameError, TypeError):
        hints = {}
    return {each.name: hints.get(each.name, Any) for each in attrs.fields(cls) if each.init}


# ---- typed settings -------------------------------------------------------------------------------------------------


def typed(
    cls: type[T], prefix: str, raw: Mapping[str, Any], settings: Settings, env: Mapping[str, str] | None = None
) -> T:
    """An instance of `cls` from the raw settings under `prefix` and the environment variables that its fields name.

    Order: default < `lash.toml` < the field's own variables < `LASH_…` and the command line. Raises
    `ConfigurationError` naming source and key.
    """
    env = os.environ if env is None else env
    hints = field_types(cls)
    fields = {each.name: each for each in attrs.fields(cls) if each.init}
    for key in raw:
        if key not in fields:
            where = settings.source_of(f"{prefix}.{key}")
            hint = nearest(key, fields)
            raise ConfigurationError(f"{where}: unknown setting `{prefix}.{key}`: {hint}")
    values: dict[str, Any] = {}
    text: str | None
    for name, each in fields.items():
        path = f"{prefix}.{name}"
        variable = _variable(each.metadata.get("env"), env)
        if variable is not None and (name not in raw or settings.is_from_file(path)):
            source, value, text = f"env {variable}", None, env[variable]
        elif name in raw:
            source, value, text = settings.source_of(path), raw[name], settings.text_of(path)
        else:
            continue
        try:
            values[name] = from_value(value, hints[name]) if text is None else from_text(text, hints[name])
            # Alone first: a validator that fails then can only mean this field.
            cls(**{name: values[name]})
        except Mismatch as fault:
            said = fault if each.metadata.get("secret") else fault.with_value()
            raise ConfigurationError(f"{source}: `{path}{fault.at}` {said}") from None
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{source}: `{path}` {_scrubbed(error, cls, values)}") from None
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"`{prefix}`: {_scrubbed(error, cls, values)}") from None


def _variable(names: str | Sequence[str] | None, env: Mapping[str, str]) -> str | None:
    listed = (names,) if isinstance(names, str) else names or ()
    return next((name for name in listed if env.get(name)), None)


def secret_fields(cls: type | None) -> frozenset[str]:
    """The names of the fields that must not be shown."""
    if cls is None:
        return frozenset()
    return frozenset(each.name for each in attrs.fields(cls) if each.metadata.get("secret"))


def _scrubbed(error: Exception, cls: type, values: Mapping[str, Any]) -> str:
    """A validator's message, with every secret taken out of it."""
    text = str(error.args[0]) if error.args else type(error).__name__
    for name in secret_fields(cls) & values.keys():
        if str(values[name]):
            text = text.replace(str(values[name]), "***")
    return f"isn't valid: {text}"


def provider_settings(spec: ProviderSpec, settings: Settings, env: Mapping[str, str] | None = None) -> Any:
    """The typed settings of a provider, from `provider.<id>.<key>` and its environment variables."""
    raw = settings.provider.get(spec.provider_id, {})
    return typed(spec.settings_class(), f"provider.{spec.provider_id}", raw, settings, env)


def model_settings(settings: Settings, provider_id: str) -> Mapping[str, ModelCapability]:
    """What the settings say of a provider's models, by name, from `models."<provider id>:<name>".<key>`."""
    found: dict[str, ModelCapability] = {}
    if settings.models:
        from lash_hookspecs.models import ModelCapability

        for model, raw in settings.models.items():
            owner, _, name = model.partition(":")
            if not name:
                where = settings.source_of(f"models.{model}")
                raise ConfigurationError(f'{where}: `models."{model}"` names no model: type `models."provider:name"`')
            if owner == provider_id:
                found[name] = typed(ModelCapability, f"models.{model}", raw, settings)
                if "endpoint" in raw:
                    where = settings.source_of(f"models.{model}.endpoint")
                    raise ConfigurationError(f"{where}: `models.{model}.endpoint` is the provider's to say")
    return found


def store_settings(spec: StoreSpec, settings: Settings, env: Mapping[str, str] | None = None) -> Any:
    """The typed settings of a store, from `store_options.<key>`; None if it has none."""
    if spec.settings is None:
        if settings.store_options:
            key = next(iter(settings.store_options))
            where = settings.source_of(f"store_options.{key}")
            raise ConfigurationError(f"{where}: the store for `{spec.schemes[0]}:` has no settings")
        return None
    return typed(spec.settings, "store_options", settings.store_options, settings, env)


def plugin_settings(
    plugin_id: str,
    cls: type[T],
    settings: Settings,
    env: Mapping[str, str] | None = None,
    said: Sequence[SaidByMode] = (),
) -> T:
    """The typed settings of a plugin that has a class for them, from `plugin.<id>.<key>` and what modes say."""
    if said:
        settings = with_modes(plugin_id, settings, said, cls)
    return typed(cls, f"plugin.{plugin_id}", settings.plugin.get(plugin_id, {}), settings, env)
