"""Nothing that is stored, said by a model or logged steers the terminal of whoever looks at it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_kit import Cli, Terminal

from lash_framework import Lash
from lash_framework.settings import load_settings

pytestmark = pytest.mark.costly

SCRIPT = '[[reply]]\ntext = "Hello."\n[[reply]]\ntext = "It is \\u001b]0;a title\\u0007done."\n'
SESSION, TURN = "s\x1b[2J", "t\x1b]0;title\x07"
LOGS = '''
import logging
from lash_hookspecs import tool

@tool
async def tell() -> str:
    """Logs what a service said."""
    logging.getLogger("service").warning("it said \\x1b[2Jgone")
    return "ok"
'''


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


async def odd_session(cli: Cli) -> None:
    """A session whose names steer terminals, as an application may have them, with an input that waits."""
    cli.write("odd.toml", SCRIPT)
    async with Lash.open(
        cli.store, model=f"scripted:{cli.folder / 'odd.toml'}", settings=load_settings(env={})
    ) as lash:
        session = await lash.session(SESSION)
        await session.run("hello", turn_id=TURN)
        lash.background = None  # nobody here runs what is accepted now
        await session.enqueue("and then?")


@pytest.mark.parametrize(
    "command",
    [
        "sessions list",
        "sessions show s",
        "sessions queue s",
        "explain t",
        "replay t",
        "run --continue --model scripted:demo hello",
        "resume s",
        "cancel s",
    ],
)
async def test_a_name_of_a_session_or_turn_steers_no_terminal(lash: Cli, command: str) -> None:
    """The last line of `run`, the heading of `explain` and the message of `replay` had it as it was."""
    await odd_session(lash)
    ended = lash.run(*command.split())
    assert ended.out + ended.err != ""
    assert "\x1b" not in ended.out + ended.err


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_a_model_says_in_a_turn_that_is_resumed_steers_no_terminal(lash: Cli) -> None:
    """What is streamed was cleaned, and what `lash resume` prints of an answer was not."""
    await odd_session(lash)
    with Terminal(lash, "resume") as terminal:
        terminal.wait_for("It is ")
        assert terminal.wait_for("done.") == "]0;a titledone."
        assert terminal.ended()[0] == os.EX_OK


def test_what_is_logged_steers_no_terminal(lash: Cli) -> None:
    lash.write("tell.py", LOGS)
    lash.write("tell.toml", '[[reply]]\ntool_calls = [{ name = "tell" }]\n[[reply]]\ntext = "ok"\n')
    ended = lash.run("run", "hello", "--tools", "tell.py", "--model", "scripted:tell.toml")
    assert "lash: warning: it said [2Jgone" in ended.err
    assert "\x1b" not in ended.err
