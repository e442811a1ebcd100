"""Make the folder with the MCP servers of others that the tests of `tools-mcp` talk to, as processes of their own.

`python .ci/mcp_servers.py FOLDER` makes it once, for all environments of tox. Those for Node are left out where there
is no npm; the tests of what isn't there are skipped by name.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway import made

PACKAGES = ("mcp-server-time", "mcp-server-git")
NODE_PACKAGES = tuple(f"@modelcontextprotocol/server-{name}" for name in ("everything", "filesystem", "memory"))


if __name__ == "__main__":
    made(Path(sys.argv[1]), PACKAGES, NODE_PACKAGES)
