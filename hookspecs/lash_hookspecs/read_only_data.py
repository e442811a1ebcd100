"""Plain data that is only read: whoever changes it in place is told so, in whichever depth of dicts and lists.

The dicts and lists in values of the contract are such. Without that a hook could change what it is only shown: it would
count with nobody's name on it, in no record, and for all who hold the same data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["ReadOnlyDict", "ReadOnlyList", "own_copy", "read_only"]


def _refuse(self: object, *_: Any, **__: Any) -> NoReturn:
    """Refuse to change it in place, with a `TypeError`."""
    way = "{**it}" if isinstance(self, dict) else "[*it]"
    told = f"change a copy, `{way}`, or `lash_hookspecs.own_copy(it)` of all within it, and return that"
    raise TypeError(f"this is only shown, and can't be changed in place: {told}")


class ReadOnlyDict(dict[Any, Any]):
    """A dict for all who read it. A copy of it is a plain dict, of what it holds."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class ReadOnlyList(list[Any]):
    """The same for a list."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


_FLAT = frozenset({str, int, float, bool, bytes, type(None), ReadOnlyDict, ReadOnlyList})
"""Classes of what needs no look inside."""


def read_only(value: Any) -> Any:
    """Plain data as such; what is it already, and all that is no dict or list, is taken as it is.

    So is data that holds itself, or is deeper than Python follows: where it is written down, it is refused.
    """
    if value.__class__ in _FLAT or not isinstance(value, (dict, list)):
        return value
    try:
        return _shown(value)
    except RecursionError:
        return value


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        if _FLAT.issuperset(map(type, value.values())):  # as most are
            return ReadOnlyDict(value)
        return ReadOnlyDict({key: each if each.__class__ in _FLAT else _shown(each) for key, each in value.items()})
    if isinstance(value, list):
        return ReadOnlyList([each if each.__class__ in _FLAT else _shown(each) for each in value])
    return value


if TYPE_CHECKING:

    def read_only_table(value: Mapping[Any, Any]) -> Mapping[Any, Any]: ...
    def read_only_table_or_none(value: Mapping[Any, Any] | None) -> Mapping[Any, Any] | None: ...

else:  # the same, as fields of values take it: a call between would double what it costs
    read_only_table = read_only_table_or_none = read_only


def own_copy(value: Any) -> Any:
    """Plain data that whoever gets it may change."""
    if isinstance(value, dict):
        return {key: own_copy(each) for key, each in value.items()}
    return [own_copy(each) for each in value] if isinstance(value, list) else value
