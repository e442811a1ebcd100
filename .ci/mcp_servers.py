"""Make the folder with the MCP servers of others that the tests of `tools-mcp` talk to, as processes of their own.

`python .ci/mcp_servers.py FOLDER` makes it once, for all environments of tox. Those for Node are left out where there
is no npm; the tests of what isn't there are skipped by name.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from gateway import made

PACKAGES = ("mcp-server-time", "mcp-server-git")
NODE_PACKAGES = tuple(f"@modelcontextprotocol/server-{name}" for name in ("everything", "filesystem", "memory"))


def for_node(folder: Path) -> None:
    """Install the servers that run on Node, into the same folder."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        print("no npm here: the MCP servers for Node are left out", file=sys.stderr)
        return
    options = ("--silent", "--no-audit", "--no-fund", "--prefix", str(folder))
    subprocess.run([npm, "install", *options, *NODE_PACKAGES], check=True)


if __name__ == "__main__":
    made(Path(sys.argv[1]), PACKAGES, for_node)
