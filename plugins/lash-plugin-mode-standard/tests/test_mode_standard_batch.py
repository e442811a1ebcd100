"""The tool `batch`, with a scripted `call_tool` in place of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from lash_hookspecs.errors import UnknownName
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.tools import (
    CompletedToolCall,
    FinishControl,
    ModelToolReturn,
    ToolCallCancelled,
    ToolCallContext,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolEffect,
    ToolError,
    ToolFailureClass,
)
from lash_plugin_mode_standard.batch import MAX_CALLS, BatchTool

PICTURE = AttachmentRef(id="sha256:" + "0" * 64, media_type="image/png", size=3)


class Kernel:
    """Runs children as a kernel would: it knows which tools the model may call, and refuses all others."""

    def __init__(self, **tools: Any) -> None:
        self.tools = tools
        self.called: list[tuple[int, str]] = []

    async def call_tool(
        self, index: int, name: str, args: Mapping[str, Any], *, as_model: bool = False
    ) -> CompletedToolCall:
        self.called.append((index, name))
        if name not in self.tools:
            raise UnknownName("tool", name, self.tools)
        output = await self.tools[name](**args)
        return CompletedToolCall(
            call_id=f"c1:{index:02}",
            tool_name=name,
            args=args,
            output=output if isinstance(output, ToolCallOutput) else ToolCallOutput(ToolCallSuccess(output)),
            model_return=ModelToolReturn(f"c1:{index:02}", name),
            duration_ms=7,
        )

    async def batch(self, *calls: tuple[str, Mapping[str, Any]]) -> ToolCallOutput:
        args = {"calls": [{"tool": tool, "parameters": parameters} for tool, parameters in calls]}
        return await BatchTool().call(context(self.call_tool), args)


def context(call_tool: Any = None) -> ToolCallContext:
    return ToolCallContext(
        session_id="s",
        turn_id="t",
        call_id="c1",
        tool_name="batch",
        plugin_id="mode-standard",
        idempotency_key="k",
        call_tool=call_tool,
    )


def rows(output: ToolCallOutput) -> list[dict[str, Any]]:
    assert isinstance(output.outcome, ToolCallSuccess)
    return output.outcome.value["results"]


async def echo(value: Any = None) -> Any:
    return value


def meeting(size: int) -> Any:
    """A tool whose calls end only once `size` of them are running."""
    here: list[int] = []
    all_here = anyio.Event()

    async def meet(value: int) -> int:
        here.append(value)
        if len(here) == size:
            all_here.set()
        await all_here.wait()
        return value

    return meet


@pytest.mark.statement(50)
async def test_children_run_at_the_same_time():
    """All children of a batch run at once: each waits here until all the others have begun. Results keep the order."""
    with anyio.fail_after(30):
        output = await Kernel(meet=meeting(MAX_CALLS)).batch(*[("meet", {"value": n}) for n in range(MAX_CALLS)])
    assert [(each["index"], each["result"]) for each in rows(output)] == [(n, n) for n in range(MAX_CALLS)]


@pytest.mark.statement(50)
async def test_what_the_model_may_not_call_is_not_reached():
    """A name that the kernel refuses, unknown or internal, is that call's failure; the others run."""
    kernel = Kernel(echo=echo)
    output = await kernel.batch(("hidden", {}), ("echo", {"value": 1}))
    refused, ran = rows(output)
    assert (refused["success"], refused["error"]["code"]) == (False, "unknown_tool")
    assert "`hidden`" in refused["error"]["message"]
    assert (ran["success"], ran["result"]) == (True, 1)


@pytest.mark.statement(58, page="plugin-system")
async def test_a_batch_holds_no_batch():
    """A nested batch fails without being called."""
    kernel = Kernel(echo=echo, batch=echo)
    output = await kernel.batch(("batch", {"calls": []}), ("echo", {}))
    assert [each["success"] for each in rows(output)] == [False, True]
    assert rows(output)[0]["error"]["code"] == "nested_batch"
    assert kernel.called == [(1, "echo")]


@pytest.mark.statement(58, page="plugin-system")
async def test_what_is_too_much_fails_alone():
    """Call 26 and later fail, each by itself; the first 25 run."""
    kernel = Kernel(echo=echo)
    output = await kernel.batch(*[("echo", {"value": n}) for n in range(MAX_CALLS + 2)])
    assert [each["success"] for each in rows(output)] == [True] * MAX_CALLS + [False] * 2
    assert rows(output)[-1] == {
        "index": MAX_CALLS + 1,
        "tool": "echo",
        "success": False,
        "duration_ms": 0,
        "error": {"code": "too_many_calls", "message": "a batch holds at most 25 calls; make another one"},
    }
    assert len(kernel.called) == MAX_CALLS


async def test_rows_tell_how_each_child_ended():
    """Success, failure, cancellation and a raised tool error each have their row; none stops the others."""
    failure = ToolCallFailure(failure_class=ToolFailureClass.IO, code="disk", message="full")

    async def fail() -> ToolCallOutput:
        return ToolCallOutput(failure)

    async def stop() -> ToolCallOutput:
        return ToolCallOutput(ToolCallCancelled(message="stopped"))

    async def refuse() -> None:
        raise ToolError("not you", code="denied")

    kernel = Kernel(echo=echo, fail=fail, stop=stop, refuse=refuse)
    output = await kernel.batch(("echo", {"value": {"a": 1}}), ("fail", {}), ("stop", {}), ("refuse", {}))
    assert rows(output) == [
        {"index": 0, "tool": "echo", "success": True, "duration_ms": 7, "result": {"a": 1}},
        _failed(1, "fail", 7, "disk", "full"),
        _failed(2, "stop", 7, "cancelled", "stopped"),
        _failed(3, "refuse", 0, "denied", "not you"),
    ]


def _failed(index: int, tool: str, duration_ms: int, code: str, message: str) -> dict[str, Any]:
    error = {"code": code, "message": message}
    return {"index": index, "tool": tool, "success": False, "duration_ms": duration_ms, "error": error}


async def test_attachments_and_the_wish_to_finish_are_passed_on():
    """Attachments of all children are the batch's; the first child that ends the turn ends it for the batch."""

    async def picture() -> ToolCallOutput:
        return ToolCallOutput(ToolCallSuccess("see", (PICTURE,)))

    async def submit(value: int) -> ToolCallOutput:
        return ToolCallOutput(ToolCallSuccess("ok"), FinishControl(value))

    kernel = Kernel(picture=picture, submit=submit)
    output = await kernel.batch(("picture", {}), ("submit", {"value": 1}), ("picture", {}), ("submit", {"value": 2}))
    assert output.outcome.attachments == (PICTURE, PICTURE)
    assert output.control == FinishControl(1)
    assert (await kernel.batch(("picture", {}))).control is None


async def test_an_empty_batch_is_refused():
    """There must be something to do."""
    with pytest.raises(ToolError, match="`calls` is empty"):
        await Kernel().batch()


async def test_without_a_kernel_every_call_fails_by_itself():
    """A host that lets no tool call another says so for each call."""
    output = await BatchTool().call(context(), {"calls": [{"tool": "echo", "parameters": {}}]})
    assert rows(output)[0]["error"]["code"] == "unavailable"


def test_the_manifest():
    """A second run of a batch does nothing twice; more than 25 calls pass the schema, to fail one by one."""
    manifest = BatchTool().manifest
    assert manifest.effect is ToolEffect.IDEMPOTENT
    assert "maxItems" not in manifest.input_schema["properties"]["calls"]
    assert manifest.input_schema["properties"]["calls"]["minItems"] == 1
