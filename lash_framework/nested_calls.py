"""The calls that a tool makes of other tools, as its children: each an effect of its own, recorded like any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import orjson

from lash_framework.direct_calls import DirectPlace
from lash_framework.journal_errors import EffectsSuspended
from lash_framework.open_calls import Ends, OpenCall
from lash_framework.tool_calls import call_ended, too_deep_call, waiting_call
from lash_framework.tool_hooks import CallPlace
from lash_hookspecs.codec import MAX_NESTING, encode
from lash_hookspecs.effects import child_key
from lash_hookspecs.errors import CodecError, EffectControllerError
from lash_hookspecs.tools import CompletedToolCall, PendingToolCall, ToolError, ToolFailureClass

__all__ = ["NestedCalls"]

MAX_DEPTH = 8
"""How deep tools may call tools: deep enough for any that ends, an end for one that calls itself."""


class NestedCalls:
    """Those of one attempt of a call. `run` runs one to its end; `ends` is told why one has none.

    All that they need of the call is this attempt's: code of an earlier one may still run.
    """

    def __init__(
        self,
        call: OpenCall,
        owner: str,
        ends: Ends,
        directs: DirectPlace,
        run: Callable[[OpenCall], Awaitable[CompletedToolCall]],
    ) -> None:
        self._asked, self._scope, self._key, self._prefix = call.asked, call.place.scope, call.key, call.prefix
        self._children, self._slot = call.children, call.slot
        self._callers = (*call.callers, call.asked.tool_name)
        self._owner = owner
        self._ends = ends
        self._directs = directs
        self._run = run

    async def call_tool(
        self, index: int, name: str, args: Mapping[str, Any], *, as_model: bool = False
    ) -> CompletedToolCall:
        """Run a tool as the child with this index. Raises `ToolError` for a call that can't be made."""
        directs, slot = self._directs, self._slot
        if directs.is_over:
            raise call_ended(self._asked)
        child = self._child(index, name, args, as_model)
        self._children[index] = child
        if len(self._callers) >= MAX_DEPTH:
            child.result = too_deep_call(child.asked, self._callers)
            return child.result
        if slot is not None:
            slot.give()
        directs.calls.add(bound := anyio.CancelScope())
        try:
            with bound:
                return await self._run(child)
            raise call_ended(self._asked)
        except EffectControllerError as error:
            self._ends.add(error)
            raise
        except EffectsSuspended as error:
            # The tool goes on to its end, so that its other children do, and then its own result is dropped.
            self._ends.add(error)
            child.result = waiting_call(child.asked)
            return child.result
        finally:
            directs.calls.discard(bound)
            if slot is not None:
                await slot.take_back()

    def _child(self, index: int, name: str, args: Mapping[str, Any], as_model: bool) -> OpenCall:
        if index in self._children:
            text = f"`call_tool` was called twice with index {index}; each child of a call needs an index of its own"
            raise ToolError(text, code="duplicate_child_index", failure_class=ToolFailureClass.INTERNAL)
        try:
            # Through JSON and back, like a result: they are stored, and the caller keeps its own.
            args = orjson.loads(encode(args, levels=MAX_NESTING))
        except CodecError as error:
            text = f"the arguments of the call of `{name}` have no JSON form: {error}"
            raise ToolError(text, code="unencodable_arguments", failure_class=ToolFailureClass.INTERNAL) from error
        return OpenCall(
            PendingToolCall(call_id=f"{self._prefix}:{index:02d}", tool_name=name, args=args),
            CallPlace(self._scope, child_key(self._key, self._owner, index), self._asked.call_id),
            self._callers,
            may_be_internal=not as_model,
        )
