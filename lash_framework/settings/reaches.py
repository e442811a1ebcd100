"""What a `lash.toml` can do besides choosing words: run programs, lift questions, send keys elsewhere. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lash_framework.settings.keys import GROUPS, TABLES_BY_NAME
from lash_framework.settings.sources import lookup_line
from lash_hookspecs.values import frozen

__all__ = ["HARMLESS", "REACHES", "Reach", "reaches_of"]

_LEFT_OUT = "which plugins are left out, those that guard among them"
_TOOLS = "which tools a model has, and what guards them"

REACHES: dict[tuple[str, ...], str] = {
    ("store",): "which sessions there are, and which unfinished turns go on",
    ("store_options", "*"): "how the store is opened",
    ("plugins", "disabled"): _LEFT_OUT,
    ("plugins", "only"): _LEFT_OUT,
    ("plugins", "lock"): "what plugins may be and do",
    ("provider", "*", "*"): "where requests and keys are sent",
    ("plugin", "*", "*"): "what a plugin does: programs that it starts, questions that it doesn't ask",
    ("modes", "*", "plugins"): _TOOLS,
    ("modes", "*", "without"): _TOOLS,
    ("modes", "*", "options"): "what the mode does",
    ("modes", "*", "plugin_options"): "what a plugin does in the mode",
    ("models", "*", "prices"): "what calls are said to cost, which budgets go by",
}
"""What settings of these paths decide; `*` is any name."""

HARMLESS = frozenset(
    {
        ("model",),
        ("mode",),
        ("instructions",),
        ("max_turns",),
        ("generation", "*"),
        ("budget", "*"),
        ("durability", "*"),
        ("context", "*"),
        ("observers", "*"),
        ("plugins", "lock_versions"),
        ("models", "*", "*"),
        ("modes", "*", "extends"),
        ("modes", "*", "prompt"),
        ("modes", "*", "generation"),
        ("modes", "*", "max_turns"),
        ("modes", "*", "summary"),
    }
)
"""Settings that do no more than what a model, which is doubted anyway, could talk somebody into."""


@frozen
class Reach:
    """A setting that does more. `value` is as it is written, `decides` what hangs on it."""

    path: tuple[str, ...]
    value: Any
    line: int | None
    decides: str

    @property
    def key(self) -> str:
        """Its dotted name."""
        return ".".join(self.path)

    @property
    def digest(self) -> str:
        """The same for the same value of the same setting, and for no other."""
        text = json.dumps([self.path, self.value], sort_keys=True, default=lambda each: {"": repr(each)})
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def members(self) -> Iterator[tuple[str, str]]:
        """Name and value, whole, of each of its members (a server, a rule), or its own where it has none.

        For people: what is a key by its name is masked.
        """
        masked = _masked(self.value, self.path[-1])
        name = ".".join(map(_named, self.path))
        if isinstance(masked, Mapping) and masked:
            yield from ((f"{name}.{_named(key)}", _text(each)) for key, each in masked.items())
        elif isinstance(masked, list) and any(isinstance(each, Mapping | list) for each in masked):
            yield from ((f"{name}.{at}", _text(each)) for at, each in enumerate(masked))
        else:
            yield name, _text(masked)


_NAME = re.compile(r"[\w-]+")


def _named(part: str) -> str:
    return part if _NAME.fullmatch(part) else json.dumps(part, ensure_ascii=False)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def reaches_of(document: Mapping[str, Any], lines: Mapping[tuple[str, ...], int]) -> tuple[Reach, ...]:
    """All of them in a file, by their lines. What isn't known is left to whoever types the settings."""
    found = [
        Reach(path, value, _line(lines, path), decides)
        for path, value in _settings(document)
        if (decides := _decides(path)) is not None
    ]
    return tuple(sorted(found, key=lambda each: (each.line or 0, each.path)))


def _line(lines: Mapping[tuple[str, ...], int], path: tuple[str, ...]) -> int | None:
    """Where it stands, or where the first of what is in it does."""
    within = (number for key, number in lines.items() if key[: len(path)] == path)
    return min(within, default=None) or lookup_line(lines, path)


def _settings(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for head, value in document.items():
        depth = TABLES_BY_NAME[head].depth if head in TABLES_BY_NAME else int(head in GROUPS)
        yield from _below((head,), value, depth)


def _below(path: tuple[str, ...], value: Any, depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    if depth and isinstance(value, Mapping):
        for name, each in value.items():
            yield from _below((*path, name), each, depth - 1)
    else:
        yield path, value


def _decides(path: tuple[str, ...]) -> str | None:
    for pattern, decides in REACHES.items():
        if _fits(pattern, path):
            return decides
    if any(_fits(pattern, path) for pattern in HARMLESS) or path[0] not in {*(each[0] for each in REACHES)}:
        return None
    return "what nobody has called harmless"


def _fits(pattern: Sequence[str], path: Sequence[str]) -> bool:
    return len(pattern) == len(path) and all(name in ("*", part) for name, part in zip(pattern, path, strict=True))


_SECRET = ("key", "token", "secret", "password")


def _masked(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _masked(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, name) for each in value]
    return "***" if isinstance(value, str) and name.lower().endswith(_SECRET) else value
