"""No key leaves a host, whatever a service says of it: not by traces, logs, errors, what people read, or the store."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from attrs import evolve
from cli_kit import Cli

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import HostContext, PluginInfo, TraceRecord, encode, hookimpl
from lash_hookspecs.errors import LashError
from lash_hookspecs.llm import LlmRequest
from lash_hookspecs.llm_messages import LlmRole, llm_text
from lash_hookspecs.testing.provider import unheard
from lash_hookspecs.testing.provider.server import Answer, WireServer, document, garbage, raw, reset, status

KEY = "sk-Zq7-secret-0123456789abcdefghijklmnopqrstuvwxyz"
GATEWAY_KEY = "gw-Xr4-secret-9876543210zyxwvutsrqponmlkji"
QUERY_KEY = "qk-Lm2-secret-5555544444333332222211111000"
KEYS = (KEY, GATEWAY_KEY, QUERY_KEY)
ECHO = f"Incorrect key {KEY}. Authorization: Bearer {KEY}, x-gateway={GATEWAY_KEY}"
PRINTS = f"echo {KEY}"
WIRES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "anthropic": ("anthropic", "claude-opus-5-5", {"api_key": KEY}),
    "anthropic, a token": ("anthropic", "claude-opus-5-5", {"auth_token": KEY}),
    "google": ("google", "gemini-3.8-flash", {"api_key": KEY}),
    "vertex": ("google", "gemini-3.8-flash", {"vertex": True, "project": "p", "access_token": KEY}),
    "vertex, a command": ("google", "gemini-3.8-flash", {"vertex": True, "project": "p", "token_command": PRINTS}),
    "openai": ("openai", "gpt-5", {"api_key": KEY}),
    "openai-chat": ("openai-chat", "gpt-5", {"api_key": KEY}),
}
"""The provider, a model of its, and how the key is given."""


def answers(wire: str) -> Iterator[tuple[str, Answer]]:
    """Each way in which a service may repeat what it was sent, by name."""
    echo = ECHO if WIRES[wire][0] == "google" else f"{ECHO}, ?key={QUERY_KEY}"
    said = {"type": "error", "error": {"message": echo, "type": "invalid_request_error", "code": echo}}
    for code in (400, 401, 500):
        yield f"{code}", status(code, said)
    yield "throttle", status(429, said, headers={"retry-after": "0", "x-request-id": echo})
    yield "page", document(f"<pre>{echo}</pre>".encode(), content_type="text/html")
    yield "kind", document(b"{}", content_type=f"text/{KEY}")
    yield "JSON", document({"unheard": echo})
    yield "event", raw(b"data: {" + echo.encode() + b"\n\n")
    yield "error event", raw(b'data: {"type": "error", "error": {"message": "%b", "code": "x"}}\n\n' % echo.encode())
    yield "garbage", garbage()
    yield "reset", reset()


class Everything:
    """A plugin that keeps all that is traced."""

    def __init__(self) -> None:
        self.records: list[TraceRecord] = []

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="everything")

    @hookimpl
    def lash_trace_sinks(self, host: HostContext) -> list[Any]:
        return [self]

    def append(self, record: TraceRecord) -> None:
        self.records.append(record)


def clean(texts: str, where: str) -> None:
    for key in KEYS:
        for form in (key, quote(key, safe=""), key[:24], key[-24:]):
            at = texts.find(form)
            assert at < 0, f"a key is in {where}: …{texts[max(0, at - 100) : at]}"


def told_of(error: BaseException) -> str:
    """All that can be seen of an exception, its chain included."""
    lines = "".join(traceback.TracebackException.from_exception(error).format(chain=True))
    each: BaseException | None = error
    while each is not None:
        lines += f" {each!r} {each.args!r} {vars(each)!r}"
        each = each.__cause__ or each.__context__
    return lines


@pytest.mark.parametrize("wire", WIRES)
def test_no_key_is_in_what_a_host_tells_or_keeps(
    wire: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A service repeats the keys in each way that there is; then everything that a host leaves is searched."""
    caplog.set_level(logging.DEBUG, "lash")
    caplog.set_level(logging.INFO)
    everything = Everything()
    lash = Cli(tmp_path)
    turns: list[str] = []
    told: list[str] = []
    provider_id, named, given = WIRES[wire]
    query = "" if provider_id == "google" else f"?key={QUERY_KEY}"  # it takes no base URL with one

    async def run(server: WireServer) -> None:
        path = "/v1" if wire.startswith("openai") else ""
        provider = {
            "base_url": f"{server.origin}{path}{query}",
            **given,
            "headers": {"x-gateway": GATEWAY_KEY},
            "capture_requests": True,
            "max_attempts": 1,
        }
        settings = evolve(load_settings(env={}), provider={provider_id: provider})
        model = f"{provider_id}:{named}"
        async with Lash.open(lash.store, model=model, settings=settings, plugins=[everything]) as host:
            session = await host.session("s")
            for name, answer in answers(wire):
                server.answer(answer, answer)
                async with session.turn("hello", turn_id=f"t {name}") as running:
                    told.extend([repr(each) async for each in running])
                    turn = await running.result()
                assert turn.errors, name
                turns.append(f"t {name}")
                told.append(f"{turn!r} {turn.errors!r} {encode(turn)!r}")
            told.append(f"{host!r} {session!r} {settings!r} {await session.messages()!r}")
            asked = LlmRequest(model=named, messages=(llm_text(LlmRole.USER, "hello"),))
            for _, answer in answers(wire):
                server.answer(answer, answer)
                with pytest.raises(LashError) as caught:  # what a plugin that asks on its own gets raised
                    await host.providers.get(provider_id).complete(asked, unheard)
                told.append(told_of(caught.value))

    with WireServer() as server:
        anyio.run(run, server)
        assert len(server.requests) >= len(turns)
        for request in server.requests:  # all were sent, after all
            assert KEY in str(request.headers)
            assert request.headers["x-gateway"] == GATEWAY_KEY
            assert request.target.endswith(query)
    clean(" ".join(told), "what a turn tells")
    assert everything.records
    clean(" ".join(f"{each!r} {encode(each)!r}" for each in everything.records), "the trace")
    clean(caplog.text + " ".join(map(repr, caplog.records)), "the log")
    for file in tmp_path.iterdir():
        if file.is_file():
            clean(file.read_bytes().decode("latin-1"), f"the store ({file.name})")
    for command in (["explain", turns[0]], ["explain", turns[-1], "--json"], ["sessions", "show", "s"]):
        done = lash.here(monkeypatch, capsys, *command)
        assert done.code == 0, (command, done)
        clean(done.out + done.err, f"`lash {' '.join(command)}`")
    for field, value in given.items():
        monkeypatch.setenv(f"LASH_PROVIDER__{provider_id.upper().replace('-', '_')}__{field.upper()}", str(value))
    (tmp_path / "lash.toml").write_text(
        f'model = "{provider_id}:m"\n[provider.{provider_id}]\nheaders = {{ x = "{GATEWAY_KEY}" }}\n'
        + "".join(f"{field} = {json.dumps(value)}\n" for field, value in given.items())
        + (f'base_url = "https://127.0.0.1:9/{query}"\n' if query else "")
    )
    done = lash.here(monkeypatch, capsys, "doctor")
    assert done.code == 0, done
    clean(done.out + done.err, "`lash doctor`")
