"""What `[plugin.approval]` in `lash.toml` says, and what is remembered of a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Attribute, field

from lash_hookspecs.option_checks import above, at_least
from lash_hookspecs.values import frozen

__all__ = ["ApprovalOptions", "Decision", "Remembered", "Rule"]

Decision = Literal["allow", "ask", "deny"]


def _decision(instance: object, attribute: Attribute[Any], value: object) -> None:
    if value not in ("allow", "ask", "deny"):
        raise ValueError(f"`{attribute.name}` must be `allow`, `ask` or `deny`, and is {value!r}")


def _effect(instance: object, attribute: Attribute[Any], value: object) -> None:
    if value not in ("", "pure", "idempotent", "unsafe"):
        raise ValueError(f"`effect` must be `pure`, `idempotent` or `unsafe`, and is {value!r}")


def _pattern(instance: object, attribute: Attribute[Any], value: str) -> None:
    if not value.strip():
        raise ValueError(f"`{attribute.name}` must be a pattern, and is empty: leave it out, or say `*`")


RESERVED = frozenset({"allow", "deny", "same", "tool", "project"})


def _groups(instance: object, attribute: Attribute[Any], value: Mapping[str, tuple[str, ...]]) -> None:
    for name, tools in value.items():
        if name in RESERVED or not name.isidentifier():
            raise ValueError(f"`groups.{name}` must be a word, and none of {', '.join(sorted(RESERVED))}")
        wrong = [each for each in tools if not all(each.partition(":"))]
        if wrong or not tools:
            raise ValueError(f"`groups.{name}` must name tools as `plugin:tool`, and is {list(tools)}")


@frozen(kw_only=True)
class Rule:
    """All of it must fit the call: the tool's name, its plugin, its effect, its arguments, the paths in them, the cost.

    `args` are patterns by argument. `always`: whether who is asked may say so for good; `reason` is told with it.
    """

    decide: Decision = field(validator=_decision)
    name: str = ""
    tool: str = field(default="*", validator=_pattern)
    owner: str = field(default="*", validator=_pattern)
    effect: str = field(default="", validator=_effect)
    args: Mapping[str, str] = field(factory=dict)
    path: tuple[str, ...] = ()
    spent_above: float | None = field(default=None, validator=at_least(0))
    always: bool = True
    reason: str = ""


@frozen(kw_only=True)
class ApprovalOptions:
    """The rules, and what is decided where none fits: `default`, or `pure` of a tool that changes nothing.

    `project`: whether "in this project", the folder `root`, is offered. `groups` are further choices by their ids, each
    for several tools at once, which are written `plugin:tool`.
    """

    rules: tuple[Rule, ...] = field(default=(), metadata={"adds": True})  # a mode's, and a user's: all are held
    default: Decision = field(default="ask", validator=_decision)
    pure: Decision = field(default="allow", validator=_decision)
    root: str = "."
    project: bool = True
    groups: Mapping[str, tuple[str, ...]] = field(factory=dict, validator=_groups)
    path_arguments: tuple[str, ...] = (
        "path",
        "paths",
        "file",
        "files",
        "filename",
        "file_path",
        "source",
        "src",
        "from",
        "input",
        "destination",
        "dest",
        "dst",
        "target",
        "to",
        "output",
        "out",
        "directory",
        "dir",
        "folder",
        "cwd",
        "root",
        "location",
    )
    timeout_s: float | None = field(default=None, validator=above(0))


@frozen
class Remembered:
    """What a person allowed for the rest of a session: calls by their digests, tools by plugin, name and rule.

    The rule is the one that asked: what another one asks about is still asked.
    """

    calls: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
