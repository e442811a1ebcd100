"""What the tests of `lash_hookspecs` share: every public thing found, and a strategy for values of any type.

Nothing is listed by hand but the classes that are never stored, each with the reason; so a class that is added is
tested from its first day, or has to say why not.
"""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from types import ModuleType
from typing import Any, Union, get_args, get_origin

import attrs
from hypothesis import strategies as st

import lash_hookspecs
from lash_hookspecs import (
    Action,
    ActionCall,
    CatalogEdit,
    CommandContext,
    CommandSpec,
    CommitResult,
    ComponentChanged,
    CompositionContext,
    ConnectedToolSet,
    ContextCall,
    DriverWrap,
    EffectHostSpec,
    HookPolicy,
    HostContext,
    InboxItem,
    JournalRow,
    LoadedSession,
    Mode,
    ModeDriver,
    ModeExtension,
    NewInboxItem,
    NewSession,
    NodeRecord,
    PluginInfo,
    PluginScope,
    PreparedContext,
    ProviderContext,
    ProviderSpec,
    Receipt,
    RuntimeCommit,
    RuntimeEffectEnvelope,
    SessionCall,
    SessionHead,
    SessionStateSpec,
    Settlement,
    StoreContext,
    StoredComponent,
    StoreSpec,
    ToolCallContext,
    TurnBegin,
    TurnBegun,
    TurnCall,
    TurnCommitted,
)

MODULES: dict[str, ModuleType] = {
    module.name: importlib.import_module(f"lash_hookspecs.{module.name}")
    for module in pkgutil.iter_modules(lash_hookspecs.__path__)
    if not module.ispkg and not module.name.startswith("_")
}

_LIVE = "holds functions, types or live objects, and lives as long as a host"
_CALL = "made anew for every call of a hook"
_COLUMNS = "holds encoded bytes, which a store keeps in columns of its own"

NEVER_STORED: dict[type, str] = {
    Action: _LIVE,
    CatalogEdit: _LIVE,
    CommandContext: _CALL,
    CommandSpec: _LIVE,
    ConnectedToolSet: _LIVE,
    DriverWrap: _LIVE,
    EffectHostSpec: _LIVE,
    Mode: _LIVE,
    ModeDriver: _LIVE,
    ModeExtension: _LIVE,
    ProviderContext: _LIVE,
    PluginInfo: _LIVE,
    ProviderSpec: _LIVE,
    SessionStateSpec: _LIVE,
    StoreContext: _LIVE,
    StoreSpec: _LIVE,
    CompositionContext: _CALL,
    ContextCall: _CALL,
    PreparedContext: _CALL,
    ActionCall: _CALL,
    HostContext: _CALL,
    PluginScope: _CALL,
    SessionCall: _CALL,
    ToolCallContext: _CALL,
    TurnCall: _CALL,
    HookPolicy: "a row of the table of hooks",
    CommitResult: _COLUMNS,
    ComponentChanged: _COLUMNS,
    LoadedSession: _COLUMNS,
    NodeRecord: _COLUMNS,
    Receipt: _COLUMNS,
    RuntimeCommit: _COLUMNS,
    SessionHead: _COLUMNS,
    StoredComponent: _COLUMNS,
    InboxItem: _COLUMNS,
    NewInboxItem: _COLUMNS,
    NewSession: _COLUMNS,
    JournalRow: _COLUMNS,
    Settlement: _COLUMNS,
    TurnBegin: _COLUMNS,
    TurnBegun: _COLUMNS,
    TurnCommitted: _COLUMNS,
}


def defined(kind: Any) -> list[type]:
    """Every class of the modules, where it is defined, for which `kind` is true."""
    found = {
        value
        for module in MODULES.values()
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and kind(value)
    }
    return sorted(found, key=lambda cls: (cls.__module__, cls.__name__))


ATTRS_CLASSES = defined(attrs.has)
STORED_CLASSES = [cls for cls in ATTRS_CLASSES if cls not in NEVER_STORED]
ENUMS = defined(lambda cls: issubclass(cls, StrEnum))


def is_union(tp: Any) -> bool:
    return get_origin(tp) in (Union, types.UnionType)


def without_none(tp: Any) -> tuple[Any, ...]:
    return tuple(each for each in get_args(tp) if each is not type(None))


def tag_of(cls: type) -> tuple[str, str]:
    """A class's tag as it is stored: the field and the text, taken from a stored value."""
    (field,) = {
        key
        for key, value in lash_hookspecs.unstructure(an_example(cls)).items()
        if value == cls.tag  # type: ignore[attr-defined]  # only asked of tagged classes
    } & {"type", "kind", "status", "state", "op"}
    return field, cls.tag  # type: ignore[attr-defined]  # the same


_NAMED: dict[type, tuple[str, ...]] = {
    lash_hookspecs.AskPerson: ("question",),
    lash_hookspecs.PersonChoice: ("choice_id",),
}
"""Fields that may not be empty."""


@cache
def an_example(cls: type) -> Any:
    """The plainest value of a class: every field that has a default keeps it."""
    if cls is RuntimeEffectEnvelope:
        return envelope_of(an_example(lash_hookspecs.SleepCommand))
    needed = [each for each in attrs.fields(attrs.resolve_types(cls)) if each.init and each.default is attrs.NOTHING]
    words = dict.fromkeys(_NAMED.get(cls, ()), "a")
    return cls(**{each.alias: _plainest(each.type) for each in needed} | words)


def _plainest(tp: Any) -> Any:
    if is_union(tp):
        return None if type(None) in get_args(tp) else _plainest(get_args(tp)[0])
    origin = get_origin(tp) or tp
    if isinstance(origin, type):
        if issubclass(origin, StrEnum):
            return next(iter(origin))
        if attrs.has(origin):
            return an_example(origin)
        if origin in (str, int, float, bool, tuple, frozenset):
            return origin()
        if issubclass(origin, Mapping):
            return {}
        if issubclass(origin, Sequence):
            return ()
    return None


def envelope_of(command: Any, effect_id: str = "1") -> RuntimeEffectEnvelope:
    """An envelope that is in order, around `command`."""
    scope = lash_hookspecs.RuntimeScope(session_id="s", turn_id="t", turn_index=0, protocol_iteration=0)
    subject = lash_hookspecs.EffectSubject(effect_id=effect_id, kind=command.kind)
    replay = lash_hookspecs.RuntimeReplay(lash_hookspecs.effect_key(scope, command.kind, effect_id))
    return RuntimeEffectEnvelope(lash_hookspecs.RuntimeInvocation(scope=scope, subject=subject, replay=replay), command)


# ---- unions ---------------------------------------------------------------------------------------------------------


def unions() -> dict[str, Any]:
    """Every union of two or more classes, by name: those that have one, and those that only a field has."""
    found: dict[str, Any] = {}

    def add(name: str, tp: Any) -> None:
        if is_union(tp):
            members = without_none(tp)
            if len(members) > 1 and any(attrs.has(each) for each in members) and not NEVER_STORED.keys() & set(members):
                bare = Union[members]  # made of a tuple
                if bare not in found.values():
                    found[name] = bare
        for each in get_args(tp):
            add(name, each)

    for module in MODULES.values():
        for name, value in vars(module).items():
            if is_union(value):
                add(name, value)
    for cls in STORED_CLASSES:
        for each in attrs.fields(attrs.resolve_types(cls)):
            add(f"{cls.__name__}.{each.name}", each.type)
    return found


UNIONS = unions()
TAGGED_UNIONS = {name: tp for name, tp in UNIONS.items() if all(hasattr(each, "tag") for each in get_args(tp))}
PLAIN_UNIONS = {name: tp for name, tp in UNIONS.items() if name not in TAGGED_UNIONS}


# ---- values ---------------------------------------------------------------------------------------------------------

_INTEGERS = st.integers(-(2**63), 2**64 - 1)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(max_size=4)

JSON = st.recursive(
    st.none() | st.booleans() | _INTEGERS | _FLOATS | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=4,
)
"""Plain JSON data, as it stands in the fields that may hold any."""

_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXTS,
    int: _INTEGERS,
    float: _FLOATS,
    bool: st.booleans(),
    # A value with bytes can't be stored; that it is refused is a test of its own.
    bytes: st.just(b""),
    type(None): st.none(),
    Any: JSON,
}


_POSITIVE = st.none() | st.integers(1, 2**63)
_FROM_ONE = {
    lash_hookspecs.GenerationOptions: ("output_token_cap",),
    lash_hookspecs.SessionPolicy: ("max_turns",),
    lash_hookspecs.CreateSession: ("max_turns",),
    lash_hookspecs.ModelCapability: ("context_window", "output_cap"),
}


_WORDS = st.text("abc", min_size=1, max_size=4)
_QUESTIONS: dict[Any, dict[str, st.SearchStrategy[Any]]] = {
    lash_hookspecs.PersonChoice: {"choice_id": _WORDS},
    lash_hookspecs.AskPerson: {
        "question": _WORDS,
        "choices": _WORDS.map(lambda word: (lash_hookspecs.PersonChoice(choice_id=word, text=word, allows=False),)),
        "timeout_s": st.none() | st.floats(0.5, 10**6),
    },
}
"""Of choices, one must say no."""

_DOLLARS = st.integers(0, 1_000_000)
_PRICE = st.integers(0, 10**9).map(lambda millionths: millionths / 10**6)
_MONEY: dict[Any, dict[str, st.SearchStrategy[Any]]] = {
    lash_hookspecs.Budget: {
        **dict.fromkeys(("max_cost", "session_max_cost"), _DOLLARS.map(float)),
        **dict.fromkeys(("max_tokens", "session_max_tokens"), st.integers(0, 2**64 - 1)),
    },
    lash_hookspecs.ModelPrices: {
        **dict.fromkeys(("input", "output", "cache_read", "cache_write"), _PRICE),
        "long_above": st.integers(1, 10**6),
    },
    lash_hookspecs.TokenUsage: {"service_tier": st.sampled_from(["fast", "flex"])},
}
"""What is bounded, or named; a price has six decimals."""


def _nothing_of(tp: Any) -> Any:
    return None if is_union(tp) else {} if issubclass(get_origin(tp), Mapping) else ()


def _some_of(tp: Any, leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    if is_union(tp):
        return st.none() | leaf
    if issubclass(get_origin(tp), Mapping):
        return st.dictionaries(_TEXTS, leaf, max_size=2)
    return st.lists(leaf, max_size=2).map(tuple)


@cache
def values(tp: Any) -> st.SearchStrategy[Any]:
    """Values of a type, whatever it is made of."""
    if tp in _SCALARS:
        return _SCALARS[tp]
    args = get_args(tp)
    if is_union(tp):
        return st.one_of([values(each) for each in args])
    origin = get_origin(tp) or tp
    if issubclass(origin, StrEnum):
        return st.sampled_from(list(origin))
    if origin is RuntimeEffectEnvelope:
        return st.builds(envelope_of, values(lash_hookspecs.RuntimeEffectCommand), _TEXTS.filter(str.strip))
    if attrs.has(origin):
        fields = [each for each in attrs.fields(attrs.resolve_types(origin)) if each.init]
        made = {each.alias: st.deferred(lambda each=each: values(each.type)) for each in fields}
        made |= dict.fromkeys(_FROM_ONE.get(origin, ()), _POSITIVE)
        if origin is lash_hookspecs.HandoffSession:  # whose task isn't that of the session
            made["create"] = values(lash_hookspecs.CreateSession).map(lambda each: attrs.evolve(each, task=None))
        made |= {name: st.none() | each for name, each in _MONEY.get(origin, {}).items()}
        made |= _QUESTIONS.get(origin, {})
        # A class that holds itself does so one level deep here, or values would never end.
        own = {each.alias: each.type for each in fields if origin in get_args(each.type)}
        leaf = st.builds(origin, **made | {name: st.just(_nothing_of(tp)) for name, tp in own.items()})
        made |= {name: _some_of(tp, leaf) for name, tp in own.items()}
        return st.builds(origin, **made)
    if origin is frozenset:
        return st.frozensets(values(args[0]), max_size=2)
    if origin is tuple and args[1:] != (...,):
        return st.tuples(*map(values, args))
    if issubclass(origin, Mapping):
        return st.just({}) if args[1] is bytes else st.dictionaries(values(args[0]), values(args[1]), max_size=2)
    if issubclass(origin, Sequence):
        return st.lists(values(args[0]), max_size=2).map(tuple)
    raise NotImplementedError(f"{tp}: teach the tests to make one")
