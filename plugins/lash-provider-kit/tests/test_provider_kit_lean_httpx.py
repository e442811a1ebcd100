"""What an import of httpx leaves out is there as soon as somebody wants it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

CALLS = """
import json, socket, sys
import anyio
from lash_provider_kit.failures import AttemptFailed
from lash_provider_kit.transport import HttpTransport, Timeouts

async def call():
    transport = HttpTransport(provider="p", url=f"http://127.0.0.1:{port}/v1", headers={}, timeouts=Timeouts())
    try:
        await transport.post([b"{}"])
    except AttemptFailed as failed:
        said.append(str(failed))
    await transport.aclose()

said, loaded = [], []
with socket.socket() as unheard:
    unheard.bind(("127.0.0.1", 0))
    port = unheard.getsockname()[1]
    for backend in sys.argv[1:]:
        anyio.run(call, backend=backend)
        loaded.append([name for name in ("trio", "httpx._main", "click") if name in sys.modules])
import httpcore, trio
assert isinstance(httpcore.TrioBackend, type)
print(json.dumps({"said": said, "loaded": loaded, "one": httpcore._synchronization.trio.Lock is trio.Lock}))
"""


def in_a_new_process(program: str, *arguments: str) -> Any:
    command = [sys.executable, "-c", program, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.mark.parametrize("first", ["asyncio", "trio"])
def test_a_process_on_asyncio_imports_no_trio_and_may_go_on_on_trio(first: str) -> None:
    """httpcore imports trio wherever it is installed, which took a tenth of the time to a first request."""
    second = "trio" if first == "asyncio" else "asyncio"
    seen = in_a_new_process(CALLS, first, second)
    assert "connection refused" in seen["said"][0]
    assert seen["said"][0] == seen["said"][1]
    assert seen["loaded"] == [[] if first == "asyncio" else ["trio"], ["trio"]]
    assert seen["one"] is True


IMPORTS_MEANWHILE = """
import json, sys
from lash_provider_kit import lean_httpx
sys.modules["trio"] = later = lean_httpx._Later("trio")
import trio.socket
print(json.dumps([trio is not later, later.run is trio.run, sys.modules["trio"] is trio]))
"""


def test_who_imports_trio_while_it_is_put_off_gets_the_real_one() -> None:
    """Another thread may, in the moment in which httpcore is imported."""
    assert in_a_new_process(IMPORTS_MEANWHILE) == [True, True, True]
