"""A store that outlives the hosts of a simulation, and what was written to it, in order, as one hash."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache, partial
from operator import attrgetter
from typing import Any

import attrs
import orjson
from attrs import define, field

from lash_framework.testing.crash_seams import READS, TIMERS

__all__ = ["SharedStore", "Writes", "canonical"]

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


def canonical(value: object) -> bytes:
    """The value as JSON: equal values of equal types are equal bytes, in every process."""
    return orjson.dumps(value, default=_plain, option=_OPTIONS)


def _plain(value: Any) -> object:
    cls = type(value)
    if cls is bytes:
        return value.decode("latin-1")
    if attrs.has(cls):
        return [cls.__name__, *_fields(cls)(value)]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(canonical, value))
    raise TypeError(f"a {cls.__name__} can't be made canonical")


@cache
def _fields(cls: type) -> Callable[[object], tuple[object, ...]]:
    names = [each.name for each in attrs.fields(cls)]
    get = attrgetter(*names) if names else lambda _: ()
    return get if len(names) != 1 else lambda value: (get(value),)


@define(eq=False)
class Writes:
    """All that was written, call by call. What the store answered to that comes up again in what follows from it."""

    calls: list[bytes] = field(factory=list)
    order: list[str] = field(factory=list)
    _hash: Any = field(factory=hashlib.sha256, init=False)

    def note(self, name: str, *what: object) -> None:
        """One call, or that it failed."""
        line = canonical([name, what])
        self.calls.append(line)
        self._hash.update(line)

    @property
    def hash(self) -> str:
        """Of everything so far: rows of journals, items of the inbox, leases, commits."""
        digest: str = self._hash.hexdigest()
        return digest

    def difference(self, other: Writes) -> str | None:
        """The first call that isn't the same in both; None if all are."""
        for number, (mine, theirs) in enumerate(zip(self.calls, other.calls, strict=False), 1):
            if mine != theirs:
                at = next((at for at, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), 0)
                shown = [each[max(at - 60, 0) : at + 60].decode(errors="replace") for each in (mine, theirs)]
                return f"write {number}, `{orjson.loads(mine)[0]}`: …{shown[0]}… and …{shown[1]}…"
        if len(self.calls) != len(other.calls):
            return f"{len(self.calls):,} and {len(other.calls):,} writes"
        return None


class SharedStore:
    """What one host has of a store that several share: it stays when the host closes, or crashes."""

    persistent = True

    def __init__(self, store: Any, writes: Writes) -> None:
        self._store = store
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        if name == "on_statement":
            raise AttributeError(f"{name}: the statements are those of several hosts")
        found = getattr(self._store, name)
        if inspect.iscoroutinefunction(found) and name not in TIMERS - {"renew_lease"} and not READS.match(name):
            found = partial(self._noted, name, found)
        setattr(self, name, found)  # the next time it is found without us
        return found

    async def _noted(self, name: str, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        about = args[0] if args else None
        self._writes.order.append(f"{name} {getattr(about, 'session_id', about if isinstance(about, str) else '')}")
        self._writes.note(name, args, options)
        try:
            return await method(*args, **options)
        except Exception as error:
            self._writes.note(f"{name} raised", type(error).__name__)
            raise

    async def aclose(self) -> None:
        """The store stays for the others, and for who comes after them."""
