"""How much `lash run` loads before its first request; the clock is read in `bench/`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli_kit import Cli

WATCHED = """
import json, sys
from lash_framework.cli import main

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and not seen:
        seen.update(modules=list(sys.modules))

seen = {}
sys.addaudithook(watch)
main(sys.argv[1:])
print(json.dumps(seen))
"""


def at_the_first_connection(folder: Path) -> Any:
    lash = Cli(folder)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/v1"
        settings = (f"base_url={url}", "retry=off", "api_key=none")
        options = [f"--set=provider.openai-chat.{each}" for each in settings]
        options.append("--set=durability.effects=inline")  # an input that is accepted durably needs the codec
        command = [sys.executable, "-c", WATCHED, "run", "hi", "--model=openai-chat:m", *options]
        done = subprocess.run(command, cwd=folder, env=lash.env(), capture_output=True, text=True, check=False)
    assert "connection refused" in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_the_first_request_can_do_without_comes_later_or_never(tmp_path: Path) -> None:
    """aiohttp takes longer to load than a run of a few calls can save with it; the answer's encoding can wait."""
    seen = at_the_first_connection(tmp_path)
    assert "httpx" in seen["modules"]
    avoided = {
        "aiohttp",
        "httpx_aiohttp",
        "trio",
        "rich",
        "pygments",
        "prompt_toolkit",
        "email.headerregistry",
        "cattrs",
    }
    assert not avoided & set(seen["modules"])
