"""Servers that misbehave, each a process of its own: no turn is stopped, no start of a host, and the reason is told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import field, frozen
from mcp_kit import started

from lash_framework.testing import call, open_host
from lash_hookspecs import AssembledTurn, ToolCallFailure, ToolCallSuccess

ROGUE = Path(__file__).with_name("mcp_rogue.py")
TOKEN = "tk-0123456789"
ADD = "mcp__r__add"


def toml(manner: str, **options: Any) -> str:
    return started("r", ROGUE, manner, **options)


def first_tool(request: Any) -> Any:
    """The model calls the first tool of the server, if it is told of one, and is done then."""
    if any(block.tag == "tool_result" for block in request.messages[-1].blocks):
        return "done"
    names = [each.name for each in request.tools if each.name.startswith("mcp__")]
    return call(ADD if ADD in names else names[0], a=1) if names else "no tools"


@frozen(kw_only=True)
class Row:
    """A manner, and what comes of it: `absent` and `said` are patterns, `code` that of the call's failure."""

    manner: str
    options: Mapping[str, Any] = field(factory=dict)
    tools: list[str] = field(factory=lambda: [ADD])
    absent: str = ""
    code: str = ""
    said: str = ""
    images: int = 0


def gone(manner: str, absent: str, **options: Any) -> Row:
    return Row(manner=manner, options=options, tools=[], absent=absent)


def fails(manner: str, code: str, said: str, **options: Any) -> Row:
    return Row(manner=manner, options=options, code=code, said=said)


def works(manner: str, said: str = "called add", tools: list[str] | None = None, **options: Any) -> Row:
    return Row(manner=manner, options=options, said=said, tools=tools or [ADD])


QUICK = {"idle_timeout_s": 0.3, "total_timeout_s": 0.6}

ROWS = [
    # before there is a connection
    gone("dies-at-start", r"^it exited with code 1; it said last: no license found$"),
    gone("silent-from-the-start", r"^it is still starting after 0.3 s$", wait_s=0.3),
    gone("silent-from-the-start", r"^it took longer than 0.2 s to start \(`start_timeout_s`\)$", start_timeout_s=0.2),
    gone("garbage-forever", r"^what it writes is not MCP \(\d+ lines in a row\)$"),
    gone("wrong-version", r"Unsupported protocol version from the server: 1999-01-01$"),
    gone("not-an-object", r"."),
    gone("refuses", r"not today, \*\*\*$", env={"TOKEN": TOKEN}),
    works("talks-before"),
    works("slow-start"),
    works("floods-stderr"),
    works("dies-when-probed"),
    # what it lists
    gone(
        "does-not-list",
        r"^it (took longer than 0.5 s to list its tools|is still starting after 0.5 s)",
        wait_s=0.5,
        protocol="legacy",
    ),
    gone("fails-to-list", r"^it doesn't list its tools: no list$"),
    gone("deeper-schema", r"^it doesn't list its tools: the answer is no JSON-RPC$"),
    works("lists-nonsense"),
    Row(manner="no-tools", tools=[]),
    works("endless-pages"),
    works("lists-a-tool-twice"),
    works("list-changed-storm"),
    works("recursive-schema", tools=["mcp__r__odd", ADD]),
    fails("references-for-ever", "invalid_arguments", "takes more than 1,000,000 looks"),
    works("output-pattern-for-ever"),
    works("output-references-for-ever"),
    works("foreign-ref", tools=["mcp__r__odd", ADD]),
    works("deep-schema"),
    works("huge-schema"),
    works("schema-of-a-string"),
    works("wrong-schema"),
    works("long-description"),
    works("hidden-description"),
    works("describes-secrets", env={"TOKEN": TOKEN}),
    works(
        "odd-names",
        r"called a\.b",
        ["mcp__r__a_b", "mcp__r__a_b", "mcp__r__a_b", "mcp__r_____", f"mcp__r__{'x' * 47}", "mcp__r__"],
    ),
    works("many-tools", "called t0", [f"mcp__r__t{number}" for number in range(128)]),
    # what it does with a call
    fails("no-answer", "mcp_timeout", r"`r` said nothing for 0.3 s \(`idle_timeout_s`\); whether it did", **QUICK),
    fails("progress-forever", "mcp_timeout", r"`r` took longer than 0.6 s \(`total_timeout_s`\)", **QUICK),
    works("progress-of-another", "done"),
    works("progress-backwards", "done"),
    fails("dies-in-the-call", "mcp_lost", r"went away in the middle of the call \(it exited with code 3\)"),
    fails("killed-in-the-call", "mcp_lost", r"\(it was killed by SIGKILL\)"),
    fails("wrong-id", "mcp_timeout", "said nothing", **QUICK),
    works("twice", "first"),
    works("garbage-in-the-call", "still here"),
    fails("result-of-50-mb", "result_too_large", r"more than 1,000,000 bytes", max_message_bytes=1_000_000),
    fails("result-of-50-mb-id-last", "result_too_large", r"more than 1,000,000 bytes", max_message_bytes=1_000_000),
    fails("result-of-6-mb", "result_too_large", r"the result has \d"),
    fails("a-line-without-end", "mcp_timeout", "said nothing", max_message_bytes=1_000_000, **QUICK),
    fails("is-error", "mcp_tool_error", r"^the disk is full$"),
    fails("rpc-error", "mcp_error", r"^server `r`: x{499}…$"),
    fails("error-without-message", "mcp_bad_result", r"the answer is no JSON-RPC$"),
    fails("result-of-nonsense", "mcp_bad_result", r"what is no result of MCP \(\d+ faults\)"),
    fails("unknown-content", "mcp_bad_result", r"what is no result of MCP"),
    fails("deep-result", "mcp_bad_result", r"the answer is no JSON-RPC$"),
    Row(
        manner="broken-image",
        images=2,
        said=r"^\[image of type image/png, 1 bytes, left out\]\n\[image of type image/png, 3 ",
    ),
    Row(manner="broken-image", options={"images": False}, said=r"^\[image of type image/png, 70 bytes, left out\]"),
    works("lone-surrogate", r"."),
    works("echoes-secrets", r"^my token is \*\*\*$", env={"TOKEN": TOKEN}),
    works("asks-without-leave", "asked"),
    works("request-storm", "stormed"),
]


async def one_turn(row: Row, folder: Path) -> tuple[AssembledTurn, list[str], dict[str, str], float]:
    text = toml(row.manner, **row.options)
    async with open_host("tools-mcp", says=first_tool, toml=text, folder=folder) as host:
        turn = await host.run("go")
        state = await (await host.lash.session("test")).tools()
        assert TOKEN not in str(state)
        began = anyio.current_time()
    tools = [name for name in state.tools if name != "batch"]
    return turn, tools, dict(state.absent), anyio.current_time() - began


def test_there_are_enough_rows() -> None:
    """Of an attack list with 20 was asked; HTTP has a list of its own."""
    assert len({(row.manner, *row.options) for row in ROWS}) >= 20


@pytest.mark.costly
@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join([row.manner, *map(str, row.options.values())][:2]))
async def test_a_turn_goes_on_whatever_a_server_does(row: Row, tmp_path: Path) -> None:
    turn, tools, absent, closing = await one_turn(row, tmp_path)
    assert turn.is_success
    assert closing < 9
    assert [re.sub(r"_[0-9a-f]{8}$", "", name) for name in tools] == row.tools or tools == row.tools, tools
    assert bool(absent) == bool(row.absent), absent
    assert re.search(row.absent, absent.get("toolset r", "")), absent
    assert TOKEN not in f"{turn}{absent}"
    if not row.tools:
        return
    (done,) = turn.tool_calls
    outcome = done.output.outcome
    if row.code:
        assert isinstance(outcome, ToolCallFailure), outcome
        assert outcome.code == row.code, outcome
        assert re.search(row.said, outcome.message), outcome.message[:300]
    else:
        assert isinstance(outcome, ToolCallSuccess), outcome
        assert re.search(row.said, str(outcome.value)), outcome.value
        assert len(outcome.attachments) == row.images


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_server_that_ignores_sigterm_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    """Those that left its group stayed behind."""
    pids = tmp_path / "pids"
    row = Row(manner="ignores-sigterm", options={"env": {"PIDS": str(pids)}})
    turn, _, _, closing = await one_turn(row, tmp_path)
    assert turn.is_success
    assert closing < 9
    with anyio.fail_after(10):  # to be killed takes a moment
        while any(is_there(int(pid)) for pid in pids.read_text().split()):  # noqa: ASYNC110  # no event tells of it
            await anyio.sleep(0.01)
