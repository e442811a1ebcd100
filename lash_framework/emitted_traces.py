"""What plugins say with `EmitTrace`: into the log, and to the trace sinks if there are any. It is in no record."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lash_framework.tool_fold import Ruling
from lash_hookspecs.codec import encode
from lash_hookspecs.directives import EmitTrace
from lash_hookspecs.errors import CodecError, PluginError
from lash_hookspecs.tools import PendingToolCall

if TYPE_CHECKING:
    from lash_framework.tracing import TurnTrace

__all__ = ["check_traces", "tell_overruled", "tell_traces"]

_log = logging.getLogger("lash.trace")


def check_traces(said: Iterable[tuple[str, Any]], hook: str) -> None:
    """Raise `PluginError` for a payload that is no plain data: whoever emits it is told, not whoever writes it."""
    for plugin_id, directive in said:
        if isinstance(directive, EmitTrace):
            try:
                encode(directive.payload)
            except CodecError as error:
                text = f"the payload of trace `{directive.name}` {error}"
                raise PluginError(plugin_id, hook, text) from error


def tell_traces(said: Iterable[tuple[str, Any]], trace: TurnTrace | None) -> None:
    """Tell what plugins want told; called where hooks ran, so that a replay tells none of it."""
    for plugin_id, directive in said:
        if isinstance(directive, EmitTrace):
            _log.debug("plugin.%s.%s %s", plugin_id, directive.name, directive.payload)
            if trace is not None:
                from lash_hookspecs.trace import TracePlugin

                trace.tell(TracePlugin(plugin_id=plugin_id, name=directive.name, payload=directive.payload))


def tell_overruled(ruling: Ruling, call: PendingToolCall, trace: TurnTrace | None) -> None:
    """Tell whose decision about a tool call didn't count."""
    for each in ruling.overruled:
        text = "call `%s` of tool `%s`: plugin `%s` decides it, and overrules `%s` (%s)"
        _log.debug(text, call.call_id, call.tool_name, each.winner, each.loser, each.wanted.tag)
        if trace is not None:
            from lash_hookspecs.trace import TraceOverruled

            event = TraceOverruled(
                call_id=call.call_id,
                tool_name=call.tool_name,
                winner=each.winner,
                loser=each.loser,
                wanted=each.wanted.tag,
            )
            trace.tell(event)
