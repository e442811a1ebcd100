"""Whatever is typed wrongly: a message that names what to do, the right exit code, and a session that still works."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_kit import Cli, Terminal

pytestmark = pytest.mark.costly


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


class Bad(NamedTuple):
    """Arguments after `lash run`, and what the message must say."""

    args: tuple[str, ...]
    says: str
    code: int = 2
    stdin: bytes = b""


CHAT = ("hi", "--model", "openai-chat:gpt-5")

BAD = {
    "unknown provider": Bad(("hi", "--model", "scrpted:demo"), "unknown provider `scrpted`: did you mean `scripted`?"),
    "model without provider": Bad(
        ("hi", "--model", "gpt-5"), "`openai-chat:gpt-5`, `openai:gpt-5`, or `scripted:demo`"
    ),
    "model without name": Bad(("hi", "--model", "openai-chat:"), "has no name after the colon"),
    "empty model": Bad(("hi", "--model", ""), "`openai-chat:NAME`, `openai:NAME`, or `scripted:demo`"),
    "unknown script": Bad(("hi", "--model", "scripted:nope"), "neither `scripted:demo` nor the path"),
    "unknown mode": Bad(("hi", "--mode", "standrad"), "unknown mode `standrad`: did you mean `standard`?"),
    "a table in one word": Bad(
        ("hi", "--mode", "m", "--set", 'modes.m={extends="standard"}'), "`modes.m` is a table; name a key in it"
    ),
    "unknown plugin": Bad(
        ("hi", "--mode", "m", "--set", "modes.m.extends=standard", "--set", "modes.m.plugins=stor-sql"),
        "unknown plugin `stor-sql`: it is not installed, did you mean `store-sql`?",
    ),
    "no key": Bad(CHAT, "type `export OPENAI_API_KEY=…`"),
    "refused connection": Bad(
        (*CHAT, "--set", "provider.openai-chat.base_url=http://127.0.0.1:9", "--set", "provider.openai-chat.retry=off"),
        "nothing listens at http://127.0.0.1:9",
        1,
    ),
    "base url without scheme": Bad((*CHAT, "--set", "provider.openai-chat.base_url=localhost"), "base_url"),
    "unknown setting of a provider": Bad(
        (*CHAT, "--set", "provider.openai-chat.bse_url=x"),
        "--set provider.openai-chat.bse_url: unknown setting `provider.openai-chat.bse_url`: did you mean `base_url`?",
    ),
    "wrong type of a provider's setting": Bad(
        (*CHAT, "--set", "provider.openai-chat.max_attempts=many"),
        "`provider.openai-chat.max_attempts` must be a whole number, not text",
    ),
    "value out of range": Bad(
        (*CHAT, "--set", "provider.openai-chat.max_attempts=0"), "`provider.openai-chat.max_attempts` isn't valid"
    ),
    "unknown setting": Bad(("hi", "--set", "modell=x"), "unknown setting `modell`: did you mean `model`?"),
    "setting without value": Bad(("hi", "--set", "model"), "expected `--set key.of.setting=value`"),
    "no settings file": Bad(("hi", "--config", "nope.toml"), "nope.toml: can't be read: No such file"),
    "store without scheme": Bad(("hi", "--store", "agent.db"), "is no URL: type for instance `sqlite:///agent.db`"),
    "unknown store": Bad(("hi", "--store", "mongo://x"), "unknown store scheme `mongo`"),
    "store in a file": Bad(("hi", "--store", "sqlite:////dev/null/x.db"), "/dev/null"),
    "blank session": Bad(("hi", "--session", " "), "the session id is blank"),
    "empty prompt": Bad(("",), "the prompt is empty"),
    "nothing on standard input": Bad((), "the prompt is empty"),
    "no such prompt file": Bad(("@nope.txt",), "`@nope.txt` can't be read: No such file or directory"),
    "prompt file is a folder": Bad(("@.",), "`@.` can't be read: Is a directory"),
    "binary on standard input": Bad((), "no UTF-8 text: byte 0xff at offset 3", stdin=b"abc\xff\xfe"),
    "zero bytes on standard input": Bad((), "looks binary: byte 0x00 at offset 2", stdin=b"ab\x00cd"),
    "no such tools file": Bad(("hi", "--tools", "nope.py"), "--tools nope.py: no such file"),
    "unknown option": Bad(("hi", "--sesion", "x"), "--session"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_the_session_stays_usable(
    lash: Cli, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LASH_ALLOW_LIVE_CALLS", "1")  # none is made: that is what these cases are about
    bad = BAD[case]
    session = () if "--session" in bad.args else ("--session", "s")
    done = lash.here(monkeypatch, capsys, "run", *bad.args, *session, stdin=bad.stdin)
    assert bad.says in done.err
    assert done.code == bad.code
    assert "Traceback" not in done.err
    assert done.err.startswith("lash: ")
    again = lash.here(monkeypatch, capsys, "run", "hi", "--session", "s", "--model", "scripted:demo")
    assert (again.code, again.out[:9]) == (0, "You said:")


TOOL_FILES = {
    "syntax": ("def broken(:\n", "tools.py:1: "),
    "import": ("import os\n\nimport nothing_of_this_name\n", "tools.py:3: ModuleNotFoundError"),
    "no tools": ("x = 1\n", "no tools in it: mark functions with `@tool`"),
    "no tool": ("TOOLS = [3]\n", "`TOOLS` holds 3, which is no tool"),
    "parameter": (
        "from lash_hookspecs import tool\n\n@tool\ndef f(x: complex) -> str:\n    return ''\n",
        "tools.py:3: ConfigurationError: tool `f`, parameter `x`",
    ),
}


@pytest.mark.parametrize("case", TOOL_FILES)
def test_a_bad_tools_file_is_named_with_its_line(lash: Cli, case: str) -> None:
    source, says = TOOL_FILES[case]
    done = lash.run("run", "hi", "--tools", lash.write("tools.py", source))
    assert done.code == 2
    assert says in done.err


def test_one_tool_name_in_two_files_is_refused(lash: Cli) -> None:
    source = "from lash_hookspecs import tool\n\n@tool\ndef f() -> str:\n    return ''\n"
    lash.write("a.py", source)
    lash.write("b.py", source)
    done = lash.run("run", "hi", "--tools", "a.py", "--tools", "b.py")
    assert (done.code, done.err) == (2, "lash: --tools b.py: the tool `f` is in `a.py` already\n")


def test_a_tool_that_nobody_has_is_told_to_the_model(lash: Cli) -> None:
    lash.write("script.toml", '[[reply]]\ntool_calls = [{ name = "nope" }]\n[[reply]]\ntext = "I see."\n')
    done = lash.run("run", "hi", "--model", "scripted:script.toml", "--json")
    assert (done.code, done.object["text"]) == (0, "I see.")
    assert done.object["tool_calls"][0]["output"]["outcome"]["status"] == "failure"


def test_a_mistake_in_lash_toml_is_named_with_file_and_line(lash: Cli) -> None:
    lash.write("lash.toml", 'model = "scripted:demo"\n\n[generation]\ntemprature = 1\n')
    done = lash.run("run", "hi")
    assert done.code == 2
    assert done.err == (
        "lash: lash.toml:4: unknown setting `generation.temprature`: did you mean `generation.temperature`?\n"
    )
    lash.write("lash.toml", "\nmodel = \n")
    assert lash.run("run", "hi").err.startswith("lash: lash.toml: Invalid value (at line 2")


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('model = "zzzz:x"', "lash.toml:1: unknown provider `zzzz`: known: "),
        ('\nmodel = "gpt-5"', "lash.toml:2: model `gpt-5` names no provider: type "),
        ('\n\nmode = "a"', "lash.toml:3: unknown mode `a`: known: `coder`, `research`, `standard`"),
    ],
)
def test_a_model_or_mode_in_lash_toml_that_is_not_there_is_named_with_its_line(
    lash: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], toml: str, says: str
) -> None:
    lash.write("lash.toml", toml)
    done = lash.here(monkeypatch, capsys, "run", "hi")
    assert (done.code, done.err.startswith(f"lash: {says}")) == (2, True), done.err
    assert says in lash.here(monkeypatch, capsys, "doctor").out
    typed = lash.here(monkeypatch, capsys, "run", "hi", "--model", "no:x", "--mode", "standard")
    assert typed.err.startswith("lash: unknown provider `no`"), "what was typed needs no place"


def test_a_mode_that_is_gone_is_named_with_its_session_and_the_way_out(lash: Cli) -> None:
    lash.write("lash.toml", '[modes.review]\nextends = "standard"\n')
    assert lash.run("run", "hi", "--session", "s", "--mode", "review").code == 0
    lash.write("lash.toml", "")
    for command in (("run", "hi"), ("chat",)):
        done = lash.run(*command, "--session", "s")
        assert (done.code, done.err) == (
            2,
            "lash: session `s`: unknown mode `review`: known: `coder`, `research`, `standard`; "
            "it had that mode before, `--mode standard` runs it in `standard`\n",
        )
    assert lash.run("run", "hi", "--session", "s", "--mode", "standard").code == 0


def test_a_secret_in_a_wrong_setting_is_not_repeated(lash: Cli) -> None:
    lash.write("lash.toml", "[provider.openai-chat]\napi_key = ['sk-very-secret']\n")
    done = lash.run("run", "hi", "--model", "openai-chat:x", "-vv")
    assert done.code == 2
    assert "lash.toml:2: `provider.openai-chat.api_key` must be text, not an array" in done.err
    assert "sk-very-secret" not in done.out + done.err


def test_a_busy_session_is_named_and_can_be_used_afterwards(lash: Cli) -> None:
    process = lash.start("run", "hi", "--jsonl", "--session", "s", *lash.slow())
    assert process.stdout is not None
    assert any(b"tool_call_started" in line for line in process.stdout)
    done = lash.run("run", "hi", "--session", "s")
    assert done.code == 1
    assert "session `s` is running a turn elsewhere; pass --wait" in done.err
    process.terminate()
    process.communicate()
    # Without its tool the turn can't go on; what is recorded of it can be kept.
    stuck = lash.run("run", "hi", "--session", "s")
    assert stuck.code == 1
    assert "can't go on" in stuck.err
    turn_id = stuck.err.partition("--abandon ")[2].split("`")[0]
    assert lash.run("resume", "s", "--abandon", turn_id).code == 0
    assert lash.run("run", "hi", "--session", "s").code == 0


# ---- a service that refuses once ------------------------------------------------------------------------------------


class Service(BaseHTTPRequestHandler):
    """Chat Completions that has too much to do at first."""

    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        busy = type(self).asked == 1
        self.send_response(429 if busy else 200)
        self.send_header("content-type", "application/json" if busy else "text/event-stream")
        if busy:
            self.send_header("retry-after", "0")
        self.send_header("connection", "close")
        self.end_headers()
        if busy:
            self.wfile.write(b'{"error": {"message": "too many requests"}}')
            return
        for delta in ({"role": "assistant", "content": "Here "}, {"content": "I am."}):
            self._event({"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta}]})
        self._event({"id": "1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        self._event({"id": "1", "model": "m", "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, data: object) -> None:
        self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def service() -> Iterator[dict[str, str]]:
    handler = type("Once", (Service,), {"asked": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1", "OPENAI_API_KEY": "k"}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_retry_shows_in_a_pipe_and_on_a_terminal(lash: Cli) -> None:
    with service() as env:
        done = lash.run("run", "hi", "--model", "openai-chat:m", env=env)
    assert (done.code, done.out) == (0, "Here I am.\n")
    assert "asking again in" in done.err
    assert "8" not in done.out
    assert "5 tokens in, 3 out" in done.err
    with service() as env, Terminal(lash, "run", "hi", "--model", "openai-chat:m", env=env) as terminal:
        terminal.wait_for("asking again in")
        terminal.wait_for("Here I am.")
        assert terminal.ended()[0] == 0


def test_a_run_that_could_not_begin_leaves_no_session(lash: Cli) -> None:
    """Each of these used to add an empty row to `sessions list`."""
    assert lash.run("run", "hi", "--model", "openai-chat:m").code == 2  # no key
    assert lash.run("run", "hi", "--model", "scripted:absent.toml").code == 2
    assert lash.run("run", "hi", "--session", "s", "--model", "scripted:absent.toml").code == 2
    assert lash.run("sessions", "list", "--json").object == []
