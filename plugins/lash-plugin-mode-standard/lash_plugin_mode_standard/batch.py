"""The tool `batch`: many calls in one, run at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.tools import (
    CompletedToolCall,
    ToolCallCancelled,
    ToolCallContext,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolControl,
    ToolEffect,
    ToolError,
    ToolFailureClass,
    ToolManifest,
)
from lash_hookspecs.values import frozen

__all__ = ["MAX_CALLS", "BatchTool"]

NAME = "batch"
MAX_CALLS = 25

_MANIFEST = ToolManifest(
    name=NAME,
    description=(
        f"Run up to {MAX_CALLS} independent tool calls at the same time. Results come back in the order of `calls`, "
        "each with `success` and either `result` or `error`; one failing call does not stop the others. A batch can't "
        "hold another batch."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "calls": {
                "type": "array",
                # No maximum here: one call too many is that call's failure, not the whole batch's.
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "tool": {"type": "string", "description": "Name of the tool."},
                        "parameters": {"type": "object", "description": "Its arguments."},
                    },
                    "required": ["tool", "parameters"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["calls"],
        "additionalProperties": False,
    },
    # A second run finds its children's results on record, under their own ids, and does nothing twice itself.
    effect=ToolEffect.IDEMPOTENT,
)


@frozen(kw_only=True)
class _Result:
    """One child's result as the model reads it, and what it brings for the whole call."""

    row: Mapping[str, Any]
    attachments: tuple[AttachmentRef, ...] = ()
    control: ToolControl | None = None


class BatchTool:
    """The `Tool`. It names no other tool: `ctx.call_tool` finds them, and refuses what the model may not call."""

    manifest = _MANIFEST

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> ToolCallOutput:
        """Run the calls and collect their results by index."""
        calls: Sequence[Mapping[str, Any]] = args["calls"]
        if not calls:
            raise ToolError("`calls` is empty", code="empty_batch", failure_class=ToolFailureClass.INVALID_REQUEST)
        results: list[_Result | None] = [None] * len(calls)

        async def run(index: int, tool: str, parameters: Mapping[str, Any]) -> None:
            results[index] = await _run_child(ctx, index, tool, parameters)

        async with anyio.create_task_group() as group:
            for index, each in enumerate(calls):
                refused = _refusal(index, each["tool"])
                if refused is None:
                    group.start_soon(run, index, each["tool"], each["parameters"])
                else:
                    results[index] = refused
        done = [result for result in results if result is not None]
        success = ToolCallSuccess(
            {"results": [dict(result.row) for result in done]},
            tuple(reference for result in done for reference in result.attachments),
        )
        # The first child that wants to end the turn, in the order of the calls, does so for the batch.
        return ToolCallOutput(success, next((result.control for result in done if result.control), None))


def _refusal(index: int, tool: str) -> _Result | None:
    if index >= MAX_CALLS:
        return _failed(index, tool, "too_many_calls", f"a batch holds at most {MAX_CALLS} calls; make another one")
    if tool == NAME:
        return _failed(index, tool, "nested_batch", "a batch can't hold another batch; list its calls here instead")
    return None


async def _run_child(ctx: ToolCallContext, index: int, tool: str, parameters: Mapping[str, Any]) -> _Result:
    if ctx.call_tool is None:
        return _failed(index, tool, "unavailable", "tools can't be called from here")
    try:
        completed = await ctx.call_tool(index, tool, parameters, as_model=True)
    except ToolError as error:
        return _failed(index, tool, error.code, str(error))
    except ConfigurationError as error:
        return _failed(index, tool, "unknown_tool", str(error))
    return _result(index, tool, completed)


def _result(index: int, tool: str, completed: CompletedToolCall) -> _Result:
    output, duration = completed.output, completed.duration_ms
    match output.outcome:
        case ToolCallSuccess(value=value, attachments=attachments):
            row = {"index": index, "tool": tool, "success": True, "duration_ms": duration, "result": value}
            return _Result(row=row, attachments=attachments, control=output.control)
        case ToolCallFailure(code=code, message=message):
            return _failed(index, tool, code, message, duration)
        case ToolCallCancelled(message=message):
            return _failed(index, tool, "cancelled", message, duration)


def _failed(index: int, tool: str, code: str, message: str, duration_ms: int = 0) -> _Result:
    error = {"code": code, "message": message}
    return _Result(row={"index": index, "tool": tool, "success": False, "duration_ms": duration_ms, "error": error})
