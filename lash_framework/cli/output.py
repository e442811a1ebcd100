"""Turns and activities as JSON, for programs. The field names are documented in `docs/reference/cli.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lash_framework.cli.turns import Evidence
    from lash_hookspecs.activity import ToolCallCompleted, ToolCallStarted
    from lash_hookspecs.costs import Cost
    from lash_hookspecs.llm import TokenUsage
    from lash_hookspecs.sessions import AssembledTurn

__all__ = ["failure_object", "print_json", "turn_object", "usage_object"]


def usage_object(usage: TokenUsage) -> dict[str, Any]:
    """Tokens by kind; `at_least` says that the true figures may be higher."""
    return {
        "input": usage.input,
        "output": usage.output,
        "cache_read_input": usage.cache_read_input,
        "cache_write_input": usage.cache_write_input,
        "reasoning_output": usage.reasoning_output,
        "total": usage.total,
        "at_least": usage.at_least,
        "cost": cost_object(usage.cost),
    }


def cost_object(cost: Cost) -> dict[str, Any]:
    """US dollars, exactly, as text; `at_least` says that a price or some usage is unknown."""
    return {"usd": f"{cost.usd:f}", "at_least": cost.at_least}


def turn_object(turn: AssembledTurn) -> dict[str, Any]:
    """A committed turn."""
    from lash_hookspecs.codec import unstructure

    return {
        "session_id": turn.state.session_id,
        "turn_id": turn.turn_id,
        "outcome": unstructure(turn.outcome),
        "text": turn.text,
        "usage": usage_object(turn.usage),
        "calls": [usage_object(each) for each in turn.call_usage],
        "durable": turn.durable,
        "tool_calls": [unstructure(each) for each in turn.tool_calls],
        "errors": [unstructure(each) for each in turn.errors],
    }


def failure_object(
    session_id: str | None,
    turn_id: str | None,
    kind: str,
    message: str,
    evidence: Evidence | None = None,
    *,
    durable: bool = False,
) -> dict[str, Any]:
    """The same shape for a turn that was not committed: `outcome.type` is `none`, the rest what was heard so far."""
    from lash_hookspecs.llm import TokenUsage

    return {
        "session_id": session_id,
        "turn_id": turn_id,
        "outcome": {"type": "none"},
        "text": "" if evidence is None else evidence.text,
        "usage": usage_object(TokenUsage() if evidence is None else evidence.usage),
        "calls": [],
        "durable": durable,
        "tool_calls": [] if evidence is None else [_call_object(each) for each in evidence.calls],
        "errors": [{"kind": kind, "message": message, "blocking": True}],
    }


def _call_object(call: ToolCallStarted | ToolCallCompleted) -> dict[str, Any]:
    """A call as a committed turn has it; `output` is null while it is under way."""
    from lash_hookspecs.codec import unstructure

    output, duration_ms = getattr(call, "output", None), getattr(call, "duration_ms", 0)
    parent = {} if call.parent_call_id is None else {"parent_call_id": call.parent_call_id}
    return {
        "call_id": call.call_id,
        "tool_name": call.name,
        "args": unstructure(call.args),
        "output": None if output is None else unstructure(output),
        "duration_ms": duration_ms,
        **parent,
    }


def print_json(value: Mapping[str, Any] | list[Any], *, file: IO[str] | None = None) -> None:
    """One JSON value and a line's end, on stdout unless told otherwise."""
    out = file or sys.stdout
    utf8 = (getattr(out, "encoding", None) or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(value, ensure_ascii=not utf8, default=str), file=out)
