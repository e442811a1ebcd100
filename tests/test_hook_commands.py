"""`lash_commands`: what plugins add to the command line, in processes that find them as pip leaves them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cli_kit import Cli, Terminal
from hook_kit import Plugin, opened_with_installed
from test_discovery import make_wheel, unpack

from lash_framework.cli.commands import COMMANDS
from lash_hookspecs import CommandSpec, hookimpl

PLUGIN = """
from lash_hookspecs import CommandSpec, hookimpl

@hookimpl
def lash_commands():
    return [
        CommandSpec(name="greet", target="greeting_cli:greet", help="Greet somebody."),
        CommandSpec(name="greetings", target="greeting_cli:greetings", help="More of that."),
        CommandSpec(name="lost", target="greeting_cli:lost", help="Is nowhere."),
        CommandSpec(name="odd", target="greeting_cli:ODD", help="Is no command."),
    ]
"""
COMMAND = """
import anyio
import click

ODD = 1

@click.command()
@click.argument("name")
@click.option("--loud", is_flag=True)
@click.pass_obj
def greet(ctx, name, loud):
    "Greet NAME."
    if name == "nobody":
        raise ValueError("there is nobody")
    click.echo(f"{ctx.options.get('word', 'hello')} {name}{'!' if loud else ''} from {ctx.plugin_id}")

@click.group()
def greetings():
    "More of that."

@greetings.command()
@click.pass_obj
def ask(ctx):
    "Ask a model."
    async def work():
        async with ctx.open("sqlite://", model="scripted:demo") as lash:
            turn = await (await lash.session("s")).run("Hello")
            click.echo(turn.outcome.tag)
    anyio.run(work)
"""
pytestmark = pytest.mark.costly  # each is a process or more, and the same on every Python

HEAVY = ("anyio", "asyncio", "cattrs", "httpx", "rich", "greeting_cli", "lash_framework.lash")


class Site(NamedTuple):
    """A folder with plugins that are installed, and what a command line does there."""

    folder: Path

    def lash(self, *args: str, code: str = "sys.exit(main(sys.argv[1:]))") -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.folder), *filter(None, sys.path)])
        env = Cli(self.folder).env({"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"})
        command = [sys.executable, "-P", "-c", f"import sys\nfrom lash_framework.cli import main\n{code}", *args]
        return subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, check=False)


class Elsewhere(Cli):
    """The same command line in another folder."""

    def __init__(self, folder: Path, site: Site) -> None:
        super().__init__(folder)
        self._path = os.pathsep.join([str(site.folder), *filter(None, sys.path)])

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return super().env({"PYTHONPATH": self._path, "PYTHONDONTWRITEBYTECODE": "1", **(more or {})})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    modules = {"greeting_plugin": PLUGIN, "greeting_cli": COMMAND}
    unpack(make_wheel(folder, "lash-plugin-greeting", {"greeting": "greeting_plugin"}, modules), folder)
    return Site(folder)


def test_hook_lash_commands_are_in_the_help_with_their_plugin_and_cost_it_no_heavy_import(site: Site) -> None:
    """The line is the plugin's; what it leads to isn't imported, nor is anything that only a turn needs."""
    done = site.lash(
        code=f"main(['--help'])\nheavy = [each for each in {HEAVY} if each in sys.modules]\nassert not heavy, heavy"
    )
    assert done.returncode == 0, done.stderr
    own, _, of_plugins = done.stdout.partition("Commands of plugins:")
    assert "Greet somebody. (greeting)" in of_plugins
    assert all(name in own for name in COMMANDS)


def test_hook_lash_commands_run_with_their_arguments_options_and_help(site: Site) -> None:
    assert site.lash("greet", "Ada", "--loud").stdout == "hello Ada! from greeting\n"
    (site.folder / "lash.toml").write_text('[plugin.greeting]\nword = "good morning"\n')
    try:
        assert site.lash("greet", "Ada").stdout == "good morning Ada from greeting\n"
    finally:
        (site.folder / "lash.toml").unlink()
    shown = site.lash("greet", "--help")
    assert "Greet NAME." in shown.stdout
    assert "lash greet" in shown.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
@pytest.mark.parametrize("answer", ["y", "n"])
def test_hook_lash_commands_ask_about_a_file_that_was_found_before_they_run(
    answer: str, site: Site, tmp_path: Path
) -> None:
    """What a plugin's command does isn't known, and its options are the file's."""
    here = Elsewhere(tmp_path, site)
    here.write("lash.toml", '[plugin.greeting]\nword = "good morning"\n')
    with Terminal(here, "greet", "Ada", env={"LASH_TRUSTED": ""}) as terminal:
        shown = terminal.wait_for("Do you trust it with that? [y/N] ")
        assert 'plugin.greeting.word = "good morning"' in shown
        terminal.send(f"{answer}\n")
        code, rest = terminal.ended()
    assert (code, "good morning Ada" in rest) == ((0, True) if answer == "y" else (2, False))


def test_hook_lash_commands_may_be_groups_and_open_a_host(site: Site) -> None:
    done = site.lash("greetings", "ask")
    assert (done.stdout, done.returncode) == ("finished\n", 0), done.stderr


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["greet", "nobody"], 1, "plugin `greeting`, hook `lash_commands`: command `lash greet` failed: ValueError"),
        (["lost"], 1, "plugin `greeting`, hook `lash_commands`: command `lash lost` failed: AttributeError"),
        (["odd"], 1, "`greeting_cli:ODD` is a `int`, and no click command"),
        (["greet"], 2, "Missing argument 'NAME'"),
        (["gret", "Ada"], 2, "unknown command `gret`: did you mean `greet`"),
    ],
    ids=["raises", "nowhere", "no command", "usage", "misspelt"],
)
def test_hook_lash_commands_that_fail_are_told_with_their_plugin(
    site: Site, args: list[str], code: int, says: str
) -> None:
    done = site.lash(*args)
    assert says in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_plugin_that_is_switched_off_has_no_commands_and_is_not_imported(site: Site) -> None:
    (site.folder / "lash.toml").write_text('[plugins]\ndisabled = ["greeting"]\n')
    try:
        done = site.lash(code="main(['--help'])\nassert 'greeting_plugin' not in sys.modules")
        assert done.returncode == 0, done.stderr
        assert "Greet" not in done.stdout
        assert "unknown command `greet`" in site.lash("greet", "Ada").stderr
    finally:
        (site.folder / "lash.toml").unlink()


def test_help_is_shown_where_plugins_can_not_be_loaded(site: Site) -> None:
    (site.folder / "lash.toml").write_text("store = 1\n")
    try:
        done = site.lash("--help")
    finally:
        (site.folder / "lash.toml").unlink()
    assert done.returncode == 0
    assert "Commands of plugins aren't shown: " in done.stdout
    assert "lash run" in done.stdout


def test_no_plugin_is_loaded_for_a_command_of_lashs_own(site: Site) -> None:
    done = site.lash(code="main(['run', '--help'])\nassert 'greeting_plugin' not in sys.modules")
    assert done.returncode == 0, done.stderr


# ---- who has a name -------------------------------------------------------------------------------------------------


class Adds(Plugin):
    """A plugin that adds a command of this name."""

    def __init__(self, id: str, name: str) -> None:
        super().__init__(id)
        self.name = name

    @hookimpl
    def lash_commands(self) -> list[CommandSpec]:
        return [CommandSpec(name=self.name, target="nowhere:at_all", help="Do it.")]


class Broken(Plugin):
    """A plugin whose hook raises."""

    @hookimpl
    def lash_commands(self) -> Any:
        raise OSError("no disk")


async def test_hook_lash_commands_of_one_name_or_of_lashs_own_are_rows_and_so_is_one_that_raises() -> None:
    plugins = [Adds("one", "same"), Adds("two", "same"), Adds("three", "run"), Broken("four")]
    async with opened_with_installed(*plugins) as lash:
        rows = {each.plugin_id: each.message for each in lash.host.report.failed}
        assert {name: each.plugin_id for name, each in lash.host.commands.items()} == {"same": "one"}
    assert "command `same`: plugin `one` of `installed-one` and plugin `two`" in rows["two"]
    assert "offers command `run`, which is lash's own" in rows["three"]
    assert "no disk" in rows["four"]


@pytest.mark.parametrize(("name", "target"), [("Say It", "a:b"), ("say", "a.b"), ("say", "a:"), ("", "a:b")])
def test_a_command_that_can_not_be_is_refused_where_it_is_declared(name: str, target: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        CommandSpec(name=name, target=target, help="Say it.")
