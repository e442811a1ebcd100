"""`lash run` and `lash pending` with a call whose end is put off: three processes, and one answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import Cli

TOOL = '''
from lash_hookspecs import ToolCallContext, tool

@tool(may_defer=True)
async def approve(ctx: ToolCallContext, amount: int) -> str:
    """Ask somebody."""
    ctx.defer()
    return "Mira was asked"
'''
SCRIPT = """
[[reply]]
tool_calls = [{ name = "approve", arguments = { amount = 3 } }]
[[reply]]
text = "Approved."
"""

pytestmark = pytest.mark.costly


def test_a_call_is_completed_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lash = Cli(tmp_path)
    model = ("--model", f"scripted:{lash.write('approve.toml', SCRIPT)}", "--tools", lash.write("approve.py", TOOL))

    def here(*args: str) -> object:
        return lash.here(monkeypatch, capsys, *args)

    ran = here("run", "Pay.", "--session", "s", "--turn-id", "t", *model)
    assert ran.code == 3
    assert "answer with `lash pending resolve KEY`" in ran.err
    (call,) = here("pending", "list", "--json").object
    assert (call["waits_for"], call["said"], call["until_ms"]) == ("completion", "Mira was asked", None)
    assert call["args"] == {"amount": 3}
    assert "completion" in here("pending", "list").out
    refused = here("pending", "resolve", call["key"], "--not-done")
    assert refused.code == 2
    assert "`approve` has happened, and waits to be completed" in refused.err
    assert here("pending", "resolve", call["key"][:8], "--result", "yes", "--wait").code == 0
    assert here("pending", "resolve", call["key"][:8], "--result", "no").code == 2
    assert here("resume", "s", *model).code == 0
    (turn,) = here("sessions", "show", "s", "--json").object["turns"]
    assert turn["tool_calls"][0]["output"]["outcome"]["value"] == "yes"
