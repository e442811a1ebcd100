"""The plugin in a turn: what it registers, its options, what it shows, and what a crash leaves."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lash_framework.testing import call
from lash_hookspecs import (
    ConfigurationError,
    Message,
    MessageRole,
    Part,
    PartKind,
    PluginError,
    PluginInfo,
    PluginSurface,
    ToolCallContext,
    ToolCallSuccess,
    ToolEffect,
    TurnSuspended,
    hookimpl,
    tool,
)
from lash_hookspecs.testing.plugins import hooks_of
from lash_plugin_tools_shell import plugin
from lash_plugin_tools_shell.options import ShellOptions
from lash_plugin_tools_shell.output import Tail, readable
from lash_plugin_tools_shell.tools import shell_tools

beside_a_mode = pytest.mark.skipif(
    importlib.util.find_spec("lash_plugin_mode_standard") is None, reason="turns need a mode, which is another plugin"
)

MODE = '[modes.shell]\nextends = "standard"\nplugins = ["tools-shell"]\n'


def toml(root: Path, more: str = "") -> str:
    return f'{MODE}[plugin.tools-shell]\nroots = ["{root}"]\n{more}'


@pytest.mark.parametrize("lacks", ["fcntl", "termios", "resource"])
def test_where_there_are_no_process_groups_it_says_so(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the plugin failed with the name of a module that nobody can install there."""
    for name in [each for each in sys.modules if each.startswith("lash_plugin_tools_shell.")]:
        if name.rpartition(".")[2] in ("tools", "commands", "registry", "reports", "sandbox", "held"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, lacks, None)
    options = ShellOptions()
    with pytest.raises(ConfigurationError, match="needs process groups, which this system doesn't have"):
        plugin.lash_tools(SimpleNamespace(options=options))  # type: ignore[arg-type]  # it looks at nothing else
    examine = plugin.lash_plugin_info().examine
    assert examine is not None
    with pytest.raises(ConfigurationError, match="needs process groups"):
        examine(options)


def test_its_hooks_are_hooks() -> None:
    # None of a turn's: one that runs no command pays nothing for it.
    assert hooks_of(plugin) == {"lash_plugin_info", "lash_tools", "lash_lifespan"}
    info = plugin.lash_plugin_info()
    assert (info.id, info.enabled_by_default) == ("tools-shell", False)
    assert info.capabilities == {"filesystem", "network", "subprocess"}


def test_each_tool_says_what_a_second_call_would_do(tmp_path: Path) -> None:
    made = shell_tools(ShellOptions(roots=(str(tmp_path),)))
    unsafe = {"shell", "shell_start", "shell_write", "shell_signal"}
    assert {each.manifest.name: each.manifest.effect for each in made} == {
        **dict.fromkeys(unsafe, ToolEffect.UNSAFE),
        "shell_read": ToolEffect.PURE,
        "shell_list": ToolEffect.PURE,
        "shell_stop": ToolEffect.IDEMPOTENT,
    }
    one = shell_tools(ShellOptions(roots=(str(tmp_path),), background=False))
    assert [each.manifest.name for each in one] == ["shell"]


@beside_a_mode
async def test_a_mode_that_names_it_has_a_shell(lash_host: Any, tmp_path: Path) -> None:
    says = [call("shell", command="echo hello; exit 1"), call("shell_start", command="cat", wait_s=0), "Done."]
    async with lash_host("tools-shell", says=says, toml=toml(tmp_path), mode="shell") as host:
        turn = await host.run("Go")
    first, second = turn.tool_calls
    assert first.output.outcome == ToolCallSuccess("exit code 1\nhello")
    assert second.output.outcome.value.endswith(": running; output from byte 0 to 0; read on with after=0")
    assert PluginSurface(plugin_id="tools-shell", name="output", payload={"text": "hello\n"}) in host.events()


@beside_a_mode
async def test_no_mode_has_it_that_does_not_name_it(lash_host: Any) -> None:
    async with lash_host("tools-shell", says=["Done."]) as host:
        await host.run("Go")
        assert "shell" not in {each.name for each in host.model.requests[0].tools}


@beside_a_mode
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("timeout_s = 0", "timeout_s` is 0"),
        ('sandbox = "docker"', "sandbox` is 'docker'; it is one of 'none', 'bwrap', 'auto'"),
        ("roots = []", "name at least one folder"),
        ("time_s = 1", "did you mean `timeout_s`"),
    ],
)
async def test_a_wrong_option_is_named(lash_host: Any, tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match="tools-shell") as caught:
        async with lash_host("tools-shell", toml=f"{MODE}[plugin.tools-shell]\n{text}\n", mode="shell"):
            raise AssertionError("unreachable")
    assert says in str(caught.value)


@beside_a_mode
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('shell = "no-such-shell"', "there is no program `no-such-shell`"),
        ('roots = ["/no/where"]', "there is no folder"),
    ],
)
async def test_what_is_not_there_is_named(lash_host: Any, text: str, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        async with lash_host("tools-shell", toml=f"{MODE}[plugin.tools-shell]\n{text}\n", mode="shell"):
            raise AssertionError("unreachable")


@beside_a_mode
async def test_no_crash_runs_a_command_twice(lash_crashes: Any, tmp_path: Path) -> None:
    """Of one that nobody knows of, the model is told."""
    path = tmp_path / "runs"

    def says(request: Any) -> Any:
        said = sum(each.role.value == "assistant" for each in request.messages)
        if said == 0:
            path.write_text("")
        return [call("shell", command=f"echo once >> {path}"), "Done."][said]

    def once(crash: Any) -> None:
        assert path.read_text() in ("", "once\n")

    await lash_crashes(
        "tools-shell",
        says=says,
        toml=toml(tmp_path),
        mode="shell",
        points=lambda point: point.kind == "effect" and "tool_call" in str(point),
        checks=[once],
    )


class Waiting:
    """A tool that waits for somebody, who may answer to another process."""

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="waiting")

    @hookimpl
    def lash_tools(self) -> list[Any]:
        @tool(may_defer=True)
        async def ask(ctx: ToolCallContext) -> str:
            "Ask somebody."
            assert ctx.defer is not None
            ctx.defer()
            return "asked"

        return [ask]


@beside_a_mode
async def test_who_goes_on_elsewhere_is_told_which_commands_died_and_what_they_said_last(
    lash_host: Any, tmp_path: Path
) -> None:
    """A command can't outlive its process. The model went on as if its server ran, and read of an unknown id."""
    ids: list[str] = []

    def says(request: Any) -> Any:
        said = [block.content for each in request.messages for block in each.blocks if block.tag == "tool_result"]
        ids[:] = re.findall(r"sh-[0-9a-f]{8}(?=: running)", "\n".join(said)) or ids
        steps = [
            # For up to a minute, on a machine that is busy; the first output ends the wait.
            call("shell_start", command="echo up at 8080; exec sleep 1000", wait_s=60),
            call("batch", calls=[{"tool": "shell_start", "parameters": {"command": "exec sleep 2000", "wait_s": 0}}]),
            call("shell_start", command="echo gone; exit 3"),
            call("ask"),
            call("shell", command="echo on"),
            call("shell", command="echo again"),
            call("shell_read", id=ids[0] if ids else "-"),
            call("shell_list"),
            "Done.",
        ]
        return steps[len(said)]

    more: dict[str, Any] = {"store": f"sqlite:///{tmp_path}/lash.db", "says": says, "mode": "shell"}
    async with lash_host("tools-shell", Waiting(), toml=toml(tmp_path), **more) as host:
        with pytest.raises(TurnSuspended) as suspended:
            await host.run("Go", session="s")
    async with lash_host("tools-shell", Waiting(), toml=toml(tmp_path), **more) as host:
        await host.lash.resolve(suspended.value.keys[0], result="go on")
        (recovered,) = await (await host.lash.session("s", recover=False)).recover()
    outcomes = [each.output.outcome for each in recovered.turn.tool_calls if each.parent_call_id is None]
    first, second, read, listed = outcomes[-4:]
    assert first.value.startswith("exit code 0\non\n\n[Note: these commands of this session ended")
    assert (
        f"- {ids[0]} (`echo up at 8080; exec sleep 1000`), whose last output that was read is:\nup at 8080"
        in first.value
    )
    assert "(`exec sleep 2000`), of which no output was read" in first.value
    assert "exit 3" not in first.value, "of this one the model knows that it has ended"
    assert second.value == "exit code 0\nagain", "once is enough"
    assert (read.code, "up at 8080" in read.message) == ("command_lost", True)
    assert listed.value.startswith("(no commands)\n\n[Note: ")


@beside_a_mode
async def test_of_a_lost_command_the_model_is_told_once_however_many_processes_follow(
    lash_host: Any, tmp_path: Path
) -> None:
    """Each further process told of all of them anew. Who asks for a list has all of them."""
    steps: list[Any] = []

    def says(request: Any) -> Any:
        return steps.pop(0)

    more: dict[str, Any] = {"store": f"sqlite:///{tmp_path}/lash.db", "says": says, "mode": "shell"}

    async def process(*given: Any) -> list[Any]:
        steps[:] = [*given, "Done."]
        async with lash_host("tools-shell", toml=toml(tmp_path), **more) as host:
            turn = await host.run("Go", session="s")
        return [each.output.outcome.value for each in turn.tool_calls]

    many = [call("shell_start", command=f"exec sleep {1000 + number}", wait_s=0) for number in range(10)]
    await process(*many)
    told, quiet = await process(call("shell", command="echo on"), call("shell_start", command="sleep 3000", wait_s=0))
    assert told.count("\n- sh-") == 8
    assert told.endswith("\n- … and 2 more]")
    assert "[Note" not in quiet
    (next_one,) = await process(call("shell", command="echo on"))
    assert next_one.count("\n- sh-") == 1, "of the one that the second process had started"
    assert "sleep 3000" in next_one
    last, listed = await process(call("shell", command="echo on"), call("shell_list"))
    assert last == "exit code 0\non"
    assert listed.endswith("\n- … and 3 more]")


def test_a_note_is_no_output_of_the_command_that_it_is_told_with() -> None:
    from lash_plugin_tools_shell.lost import Lost, commands_told_of, notice

    gone = Lost(id="sh-00000001", command="serve", how="running", last="up")
    part = Part(
        id="m.p0",
        kind=PartKind.TOOL_RESULT,
        content=f"sh-00000002: running; output from byte 0 to 5\nhello{notice([gone])}",
        tool_call_id="c",
        tool_name="shell_start",
    )
    found = commands_told_of([Message(id="m", role=MessageRole.USER, parts=(part,))])
    assert {id: each.last for id, each in found.items()} == {"sh-00000002": "hello"}


# ---- output ---------------------------------------------------------------------------------------------------------

READABLE = [
    ("plain", b"a\tb\nc\n", "a\tb\nc\n"),
    ("Windows' lines", b"a\r\nb\r\n", "a\nb\n"),
    ("colours", b"\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mrgb", "red rgb"),
    ("a title", b"\x1b]0;title\x07a\x1b]2;title\x1b\\b", "ab"),
    ("a link", b"\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", "text"),
    ("the cursor", b"a\x1b[2J\x1b[H\x1b[?25lb\x1b7\x1b8\x1b(Bc", "abc"),
    ("an escape that ends nowhere", b"a\x1b]0;title", "a"),
    ("written over", b"10%\r 50%\r100%\ndone\r", "100%\ndone"),
    ("struck over", b"a\x08bc\x08d", "bd"),
    ("backspaces at a line's beginning", b"a\n\x08\x08b", "a\nb"),
    # Taken away pair by pair, this held up the whole host for minutes.
    ("a flood of backspaces", b"a" * 32_768 + b"\x08" * 32_767, "a"),
    ("half a character", "a€"[:2].encode()[:-1], "a\ufffd"),
]


@pytest.mark.parametrize(("data", "text"), [row[1:] for row in READABLE], ids=[row[0] for row in READABLE])
def test_output_is_text(data: bytes, text: str) -> None:
    assert readable(data) == text


def test_of_a_long_output_the_end_is_kept() -> None:
    tail = Tail(10)
    for number in range(100):
        tail.take(f"{number:02}".encode())
        assert len(tail._pieces) <= 20 + 2
    assert tail.total == 200
    assert tail.after(0) == (b"9596979899", 190)
    assert tail.after(196) == (b"9899", 196)
    assert tail.after(500) == (b"", 200)
