"""Values as plain data: what `codec` writes. `_structured` reads it again.

What a value becomes follows from its class alone, so a table of fields per class does it. A function that is compiled
for the class is twice as fast, and takes as long to make as some hundred values to write. So a class that is written
often gets one, and a process that runs one turn makes none. What isn't ours is left to cattrs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from lash_hookspecs.errors import CodecError

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["is_omitted", "refuse_bytes", "tag_field", "tag_of", "unstructured"]

# How each union names its members on disk: the field that holds the tag. The tag itself is the member's `tag`.
_TAG_FIELDS = {
    "PluginOrigin": "kind",
    "ProcessOrigin": "kind",
    "Intact": "state",
    "Cleared": "state",
    "Deleted": "state",
    "Summarized": "state",
    "ToolCallSuccess": "status",
    "ToolCallFailure": "status",
    "ToolCallCancelled": "status",
    "ToolCallDone": "status",
    "ToolCallPending": "status",
    "AppendedNodes": "status",
    "StaleBranch": "status",
    "ProcessStart": "op",
    "ProcessAwait": "op",
    "ProcessCancel": "op",
    "ProcessSignal": "op",
    "ProcessTransfer": "op",
    "ProcessStarted": "op",
    "ProcessAwaited": "op",
    "ProcessCancelRequested": "op",
    "ProcessSignalled": "op",
    "ProcessTransferred": "op",
    "ProcessRefused": "op",
    "ProcessCompleted": "status",
    "ProcessFailed": "status",
    "ProcessCancelled": "status",
    "ProcessAbandoned": "status",
    "ResolvedOk": "status",
    "ResolvedError": "status",
    "WaitTimedOut": "status",
    "WaitCancelled": "status",
}


def tag_field(cls: type) -> str:
    return _TAG_FIELDS.get(cls.__name__, "type")


def tag_of(cls: Any) -> str | None:
    """A class's tag; None for classes without one, and for those where `tag` is an ordinary field."""
    tag = getattr(cls, "tag", None)
    return tag if isinstance(tag, str) else None


def is_omitted(attribute: attrs.Attribute[Any]) -> bool:
    """Whether the field is left out when it has its default: for defaults that mean "nothing", and where it says so."""
    default = attribute.default
    if attribute.metadata.get("omit"):
        return True
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # Factory is a class at runtime
        return default.factory in (dict, list, tuple, frozenset)  # type: ignore[union-attr]  # narrowed just above
    default_type: Any = type(default)
    if attrs.has(default_type):
        return all(map(is_omitted, attrs.fields(default_type)))
    return default is None or default is False or (default_type in (tuple, frozenset, bytes) and not default)


def unstructured(value: Any) -> Any:
    """A value as plain data; what is neither a value nor plain comes back as it is."""
    cls = value.__class__
    return value if cls in _PLAIN else (_ways.get(cls) or _way_of(cls))(value)


# ---- by class -------------------------------------------------------------------------------------------------------

_Way = Callable[[Any], Any]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_OFTEN = 300
"""After so many writes of a class, a function for it pays: making it takes as long as these."""

_OURS = frozenset({"lash_hookspecs", "lash_framework"})
"""Whose fields say all by their values. What a plugin's hold goes by how they are declared."""

_ways: dict[type, _Way] = {}


def _way_of(cls: type) -> _Way:
    """How to write values of the class; classes last as long as the process, and so do their ways."""
    way = _ways[cls] = _made(cls)
    return way


def _made(cls: type) -> _Way:
    if attrs.has(cls):
        if cls.__module__.partition(".")[0] not in _OURS:
            return _by_cattrs
        return _with_event if cls.__name__ == "TurnActivity" else _until_often(cls, _object(cls))
    if issubclass(cls, Enum):
        return lambda member: unstructured(member._value_)
    if issubclass(cls, (bytes, bytearray)):
        return refuse_bytes
    if issubclass(cls, (str, int, float)):
        return lambda value: value
    if issubclass(cls, Mapping):
        return _mapping
    if issubclass(cls, AbstractSet):
        return lambda value: value  # it has no order: only where a field is declared as one is it written
    if issubclass(cls, Sequence):
        return lambda value: [*map(unstructured, value)]
    return _by_cattrs


def _until_often(cls: type, way: _Way) -> _Way:
    left = _OFTEN

    def write(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            _ways[cls] = _compiled(cls)
        return way(value)

    return write


_Field = tuple[str, bool, Any, bool]
"""Its name, whether it is left out if it says nothing, the value with which it does, and whether it may be a set."""


def _shape(cls: type) -> tuple[dict[str, Any], list[_Field]]:
    """What is always the same, and the fields: those that are always there come first, as cattrs has it."""
    fields = [(each.name, *_nothing(each), "set[" in str(each.type).lower()) for each in attrs.fields(cls) if each.init]
    fields.sort(key=lambda field: field[1])
    tag = tag_of(cls)
    return {} if tag is None else {tag_field(cls): tag}, fields


def _object(cls: type) -> _Way:
    """The tag, the fields that are always there, and those of the others that say something."""
    start, fields = _shape(cls)

    def write(value: Any) -> dict[str, Any]:
        made = start.copy()
        for name, omits, nothing, may_be_set in fields:
            inner = getattr(value, name)
            kind = inner.__class__
            if kind in _PLAIN:
                if not (omits and inner == nothing):
                    made[name] = inner
            elif omits and inner == nothing:
                continue
            elif may_be_set and isinstance(inner, AbstractSet):
                made[name] = sorted(map(unstructured, inner))
            else:
                made[name] = (_ways.get(kind) or _way_of(kind))(inner)
        return made

    return write


def _compiled(cls: type) -> _Way:
    """The same as code, in which the fields are no table."""
    start, fields = _shape(cls)
    space: dict[str, Any] = {"plain": _PLAIN, "way": _ways.get, "way_of": _way_of, "written": _set_or_other}
    lines = ["def write(value):", f" made = {start!r}"]
    for at, (name, omits, nothing, may_be_set) in enumerate(fields):
        space[f"nothing{at}"] = nothing
        says = "1" if not omits else "inner is not None" if nothing is None else f"inner != nothing{at}"
        other = "written(inner)" if may_be_set else "(way(kind) or way_of(kind))(inner)"
        lines.append(f" inner = value.{name}")
        lines.append(f" if {says}: made[{name!r}] = inner if (kind := inner.__class__) in plain else {other}")
    exec("\n".join([*lines, " return made"]), space)
    write: _Way = space["write"]
    return write


def _set_or_other(value: Any) -> Any:
    return sorted(map(unstructured, value)) if isinstance(value, AbstractSet) else unstructured(value)


def _nothing(attribute: attrs.Attribute[Any]) -> tuple[bool, Any]:
    """Whether the field may be left out, and the value with which it is."""
    if not is_omitted(attribute):
        return False, None
    default: Any = attribute.default
    return True, default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]  # a class at runtime


def _mapping(value: Mapping[Any, Any]) -> dict[Any, Any]:
    return {unstructured(key): unstructured(inner) for key, inner in value.items()}


def refuse_bytes(*_: object) -> NoReturn:
    raise CodecError("raw bytes can't be stored in a value: store a blob and refer to it")


def _with_event(activity: Any) -> dict[str, Any]:
    """An activity lies beside its event's own fields."""
    return {"id": activity.id, "correlation_id": activity.correlation_id, **unstructured(activity.event)}


def _by_cattrs(value: Any) -> Any:
    """What is nobody's value: a plugin's dataclass, for example."""
    return _converter().unstructure(value)


def _converter() -> Converter:
    from lash_hookspecs import codec  # which writes by way of this module

    return codec._converter()
