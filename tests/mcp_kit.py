"""Settings for tests of MCP servers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["server", "started"]


def server(name: str, **options: Any) -> str:
    """The table of a server in `lash.toml`."""
    head = f"plugin.tools-mcp.servers.{name}"
    plain = {key: value for key, value in options.items() if not isinstance(value, dict)}
    tables = {f"{head}.{key}": value for key, value in options.items() if isinstance(value, dict)}
    return "".join(_table(each, rows) for each, rows in {head: plain, **tables}.items())


def started(name: str, script: Path, *args: str, **options: Any) -> str:
    """The same for a script that needs nothing but the standard library, and so starts quickly."""
    return server(name, command=sys.executable, args=["-S", "-E", str(script), *args], **options)


def _table(head: str, rows: dict[str, Any]) -> str:
    return f"[{head}]\n" + "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in rows.items())
