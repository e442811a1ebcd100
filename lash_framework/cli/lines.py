"""What a person reads of a turn, as plain text: one line per tool call, usage, outcome."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from lash_hookspecs.texts import without_controls as clean

if TYPE_CHECKING:
    from lash_hookspecs.activity import ToolCallCompleted
    from lash_hookspecs.llm import RetryStatus, TokenUsage
    from lash_hookspecs.sessions import AssembledTurn

__all__ = ["call_line", "clean", "footer", "problems", "retry_line", "say", "shortened", "usage_text", "waiting_line"]

_ARGUMENT, _RESULT = 60, 200  # characters; more makes a line that wraps on every terminal


def say(line: str, *, err: bool = False) -> None:
    """Tell a person, in a line of which nothing steers the terminal."""
    click.echo(clean(line), err=err)


def shortened(value: Any, limit: int) -> str:
    """A JSON value on one line, cut at `limit` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = clean(" ".join(text.split()) if isinstance(value, str) else text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _quoted(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False, default=str), _ARGUMENT)


def call_text(name: str, args: Mapping[str, Any]) -> str:
    """`add(a=1, b=2)`."""
    return f"{clean(name)}({', '.join(f'{clean(key)}={_quoted(value)}' for key, value in args.items())})"


def call_line(event: ToolCallCompleted) -> str:
    """`→ add(a=1, b=2) = 3  (12 ms)`, indented for a child call."""
    from lash_hookspecs.tools import ToolCallCancelled, ToolCallFailure, ToolCallSuccess

    outcome = event.output.outcome
    if isinstance(outcome, ToolCallSuccess):
        result = f"= {shortened(outcome.value, _RESULT)}"
    else:
        ended = "failed" if isinstance(outcome, ToolCallFailure) else "cancelled"
        result = f"{ended}: {shortened(outcome.message, _RESULT)}"
    indent = "  " if event.parent_call_id else ""
    known = event.duration_ms or not isinstance(outcome, ToolCallCancelled)  # nobody saw when one that was cut ends
    took = f"  ({event.duration_ms} ms)" if known else ""
    return f"{indent}→ {call_text(event.name, event.args)} {result}{took}"


def retry_line(event: RetryStatus) -> str:
    """Why and when the provider asks again."""
    return (
        f"{clean(event.reason)}; asking again in {event.wait_seconds:.1f} s "
        f"(attempt {event.attempt} of {event.max_attempts} failed)"
    )


def waiting_line(session_id: str) -> str:
    """What keeps a turn from its beginning."""
    return f"waiting for session {clean(session_id)}"


def usage_text(usage: TokenUsage) -> str:
    """`60 tokens in (12 cached), 24 out, $0.0012`; a model that costs nothing shows no cost."""
    cached = f" ({usage.cache_read_input} cached)" if usage.cache_read_input else ""
    cost = f", {usage.cost}" if usage.picodollars or usage.unpriced else ""
    return f"{'at least ' if usage.at_least else ''}{usage.input_total} tokens in{cached}, {usage.output} out{cost}"


def footer(turn: AssembledTurn, location: str | None = None) -> str:
    """Usage; with a location also names, and where it was committed."""
    if location is None:
        return usage_text(turn.usage)
    durable = "journalled" if turn.durable else "not journalled"
    return clean(
        f"{usage_text(turn.usage)} · session {turn.state.session_id} · turn {turn.turn_id} · {durable} · "
        f"committed to {location}"
    )


_HINTS = {
    "max_turns": "the limit of iterations is reached; raise it with `--set max_turns=N`",
    "budget": "the model was not asked again; raise the limit, or begin another turn or session",
    "cancelled": "cancelled; your message is stored, the unfinished answer is not",
    "incomplete": "the model stopped without an answer",
}


_CUT = (
    "the answer was cut at the output limit; raise generation.output_token_cap (or --set generation.output_token_cap=N)"
)
_KEPT = "partial_text_kept"
_INTERNAL = ("assistant_output_recovered_from_state", _KEPT)  # how the result was put together, nothing to act on


def problems(turn: AssembledTurn, said: Sequence[str] = (), *, follows: bool = False) -> Iterator[str]:
    """What went wrong, for stderr: the issues first, then the outcome unless an issue has said it.

    Notes that were `said` before, by the log, aren't repeated. `follows`: a handoff is gone on with at once.
    """
    from lash_hookspecs.turn_outcomes import Handoff, OverBudget, Stopped

    blocking = False
    for issue in turn.errors:
        blocking = blocking or issue.blocking
        if not issue.blocking and (issue.code in _INTERNAL or any(issue.message in each for each in said)):
            continue
        if issue.blocking and issue.terminal_reason == "output_limit":
            yield _CUT
            continue
        named = not issue.plugin_id or f"plugin `{issue.plugin_id}`" in issue.message
        owner = "" if named else f"plugin `{issue.plugin_id}`: "
        yield f"{'' if issue.blocking else 'note: '}{owner}{clean(issue.message)}"
    if isinstance(turn.outcome, Stopped):
        reason = str(turn.outcome.reason)
        if isinstance(turn.outcome.detail, OverBudget):
            from lash_framework.budget import told

            yield f"stopped at the budget: {told(turn.outcome.detail)}"
        if reason == "cancelled" and any(issue.code == _KEPT for issue in turn.errors):
            yield "cancelled; your message is stored, and the answer as far as it came"
        elif reason == "cancelled" or (reason in _HINTS and not blocking):
            yield _HINTS[reason]
        elif not blocking:
            yield f"the turn stopped: {reason.replace('_', ' ')}"
    elif isinstance(turn.outcome, Handoff):
        session_id = clean(turn.outcome.session_id)
        does = f": `lash resume {session_id}` runs what it was told" if turn.outcome.turn_id else ""
        yield f"the session `{session_id}` goes on with this{'' if follows else does}"
