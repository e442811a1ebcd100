"""Servers of the services' protocols that others wrote, each a process of its own on this machine.

They come from PyPI and npm and pin their web frameworks, so they are installed beside the project rather than into it
(`python .ci/peers.py FOLDER`). `LASH_GATEWAY_PYTHON` names the Pythons that may have them, as a PATH (by default this
one), `LASH_TEST_AIMOCK` the folder of those from npm. What isn't there is skipped by name.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from lash_hookspecs.llm import LlmRequest, LlmResponse, LlmStreamEvent, StreamDelta

__all__ = ["ask", "direct", "serve", "serve_node"]

PYTHONS = os.environ.get("LASH_GATEWAY_PYTHON", sys.executable).split(os.pathsep)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Opens a URL without any proxy."""


def ask(provider: Any, request: LlmRequest) -> tuple[LlmResponse, str]:
    """The provider's answer, and the text as it was streamed; closes the provider."""
    streamed: list[str] = []

    async def send(events: Sequence[LlmStreamEvent]) -> None:
        streamed.extend(event.text for event in events if isinstance(event, StreamDelta))

    async def call() -> LlmResponse:
        try:
            response: LlmResponse = await provider.complete(request, send)
            return response
        finally:
            await provider.aclose()

    return asyncio.run(call()), "".join(streamed)


def serve(package: str, command: Sequence[str], path: str, log: Path, **environment: str) -> Iterator[str]:
    """Run a server of `package`, from PyPI; its origin, once `path` answers. `{port}` in the command is a free port."""
    probe = f"import importlib.metadata as m; m.version({package!r})"
    having = (
        each
        for each in PYTHONS
        if which(each) and subprocess.run([each, "-c", probe], capture_output=True).returncode == 0
    )
    python = next(having, None)
    if python is None:
        pytest.skip(f"{package} isn't installed for {', '.join(PYTHONS)}; LASH_GATEWAY_PYTHON may name another Python")
    yield from _running(package, [python, *command], path, log, environment)


def serve_node(package: str, script: str, options: Sequence[str], log: Path) -> Iterator[str]:
    """The same for one from npm."""
    folder, node = os.environ.get("LASH_TEST_AIMOCK", ""), which("node")
    program = Path(folder, "node_modules", package, script)
    if not folder or node is None or not program.is_file():
        pytest.skip(f"{package} isn't installed: LASH_TEST_AIMOCK names the folder that it is in, and it needs Node")
    yield from _running(package, [node, str(program), *options], "/", log, {})


def _running(package: str, command: Sequence[str], path: str, log: Path, environment: dict[str, str]) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    kept.pop("PYTHONPATH", None)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=kept | environment,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 90
            while not _answers(f"http://127.0.0.1:{port}{path}"):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{package} didn't start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.1)  # another program's start can only be polled
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        with direct(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
