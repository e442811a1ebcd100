"""What a scripted model says: replies, and the TOML files that hold them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, fields

from lash_hookspecs.errors import ConfigurationError, nearest
from lash_hookspecs.llm import LlmCallError, LlmRequest, LlmTerminalReason, TokenUsage
from lash_hookspecs.values import frozen

__all__ = ["Call", "Reply", "ReplyFunction", "Script", "load_script"]


def _json_text(arguments: Mapping[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


@frozen
class Call:
    """A tool call in a reply. `arguments` is a mapping, or text that is sent as it stands, valid JSON or not.

    An empty `call_id` gets one that is unique in its conversation.
    """

    tool_name: str
    arguments: str = field(default="{}", converter=_json_text)
    call_id: str = ""


@frozen(kw_only=True)
class Reply:
    """One answer of a scripted model, or, with `error`, its failure after `text` was streamed.

    `terminal_reason` None means: tool use if there are calls, else stop. `deltas` are the pieces in which `text` is
    streamed; None cuts it after its spaces.
    """

    text: str = ""
    tool_calls: Sequence[Call] = ()
    reasoning: str = ""
    usage: TokenUsage = TokenUsage(input=10, output=5)
    terminal_reason: LlmTerminalReason | None = None
    error: LlmCallError | None = None
    deltas: Sequence[str] | None = None


ReplyFunction = Callable[[LlmRequest], Reply | str | Awaitable[Reply | str]]
"""Decides on a reply from the request alone. An async one may wait, as a slow model does."""

Script = Sequence[Reply | str] | ReplyFunction


def load_script(path: str | Path) -> tuple[Reply, ...]:
    """The replies in a TOML file. Raises ConfigurationError that names the file and what is wrong in it.

    ::

        [[reply]]
        text = "Let me look."
        tool_calls = [{ name = "now", arguments = { tz = "Asia/Tokyo" } }]

        [[reply]]
        text = "It is late."
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"the script `{path}` can't be read: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"the script `{path}` is no valid TOML: {exc}") from exc
    tables = _table(document, {"reply"}, f"`{path}`").get("reply")
    if not isinstance(tables, list) or not tables:
        raise ConfigurationError(f"the script `{path}` has no `[[reply]]`")
    return tuple(_reply(table, f"`{path}`, reply {number}") for number, table in enumerate(tables, 1))


def _reply(table: Any, where: str) -> Reply:
    values = dict(_table(table, {"text", "tool_calls", "reasoning", "usage", "terminal_reason", "error"}, where))
    for name in ("text", "reasoning", "error"):
        if not isinstance(values.get(name, ""), str):
            raise ConfigurationError(f"{where}: `{name}` must be text")
    calls = values.get("tool_calls", [])
    if not isinstance(calls, list):
        raise ConfigurationError(f"{where}: `tool_calls` must be an array")
    values["tool_calls"] = tuple(_call(each, f"{where}, tool call {number}") for number, each in enumerate(calls, 1))
    try:
        if "usage" in values:
            names = {each.name for each in fields(TokenUsage)}
            values["usage"] = TokenUsage(**_table(values["usage"], names, f"{where}, usage"))
        if "terminal_reason" in values:
            values["terminal_reason"] = LlmTerminalReason(values["terminal_reason"])
    except ValueError as exc:
        raise ConfigurationError(f"{where}: {exc}") from exc
    if "error" in values:
        values["error"] = LlmCallError(message=values["error"], code="scripted")
    return Reply(**values)


def _call(table: Any, where: str) -> Call:
    values = _table(table, {"name", "arguments", "id"}, where)
    if not isinstance(values.get("name"), str):
        raise ConfigurationError(f"{where}: `name` is missing")
    arguments = values.get("arguments", {})
    if not isinstance(arguments, dict | str):
        raise ConfigurationError(f"{where}: `arguments` must be a table, or text")
    try:
        return Call(values["name"], arguments, str(values.get("id", "")))
    except TypeError as exc:  # TOML has dates, JSON hasn't
        raise ConfigurationError(f"{where}: `arguments`: {exc}") from exc


def _table(value: Any, known: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} must be a table")
    for name in value:
        if name not in known:
            raise ConfigurationError(f"{where}: unknown key `{name}`: {nearest(name, known)}")
    return value
