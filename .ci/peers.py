"""Make the folders with independent programs that tests talk to: services' gateways, and MCP servers, of others.

They stand apart because those packages pin their own web frameworks. `python .ci/peers.py FOLDER` makes `gateway` and
`mcp-servers` in it, side by side, unless they are there: each is a virtual environment, with what is from npm in a
folder `node` of it. What needs Node is left out where npm isn't, or fails, and is tried again the next time; the tests
of what isn't there are skipped by name.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from uv import find_uv_bin

PEERS = {
    "gateway": (["llmock", "mock-ai-api", "llm-mock-api"], ["@copilotkit/aimock"]),
    "mcp-servers": (
        ["mcp-server-time", "mcp-server-git"],
        [f"@modelcontextprotocol/server-{name}" for name in ("everything", "filesystem", "memory")],
    ),
}
"""The packages of each folder, from PyPI and from npm."""

NPM_S = 60
UV = find_uv_bin()


def make(folder: Path, packages: Sequence[str], node_packages: Sequence[str]) -> None:
    """Make one. It, and its `node`, get their names when they are whole: several may make it at once."""
    if not folder.exists():
        with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
            new = Path(scratch, "new")
            subprocess.run([UV, "venv", "-q", "--relocatable", "--python", sys.executable, new], check=True)
            subprocess.run([UV, "pip", "install", "-q", "--python", new, *packages], check=True)
            settle(new, folder)
    npm = which("npm")
    if npm is not None and not (folder / "node").exists():
        with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
            new = Path(scratch, "new")
            command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", new, *node_packages]
            try:
                subprocess.run(command, check=True, timeout=NPM_S)
            except subprocess.SubprocessError as error:
                print(f"tests of {', '.join(node_packages)} are skipped: {error}", file=sys.stderr)
            else:
                settle(new, folder / "node")


def settle(new: Path, place: Path) -> None:
    """Give it its name, unless another one was quicker."""
    try:
        new.rename(place)
    except OSError:
        if not place.exists():
            raise


if __name__ == "__main__":
    home = Path(sys.argv[1])
    home.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        made = [pool.submit(make, home / name, *packages) for name, packages in PEERS.items()]
    for each in made:
        each.result()
