"""What a command is given of lash's own environment: names that are allowed, and no others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from lash_plugin_tools_shell.options import ShellOptions

__all__ = ["COOKIE", "environment"]

COOKIE = "LASH_COMMAND"
"""Says of which command a process is, to find it by if its supervisor was killed, and that a model is behind it: `lash`
takes no answer to a question from such a process, or from one below it."""

_FIXED = {"TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}
"""Nobody sits before the terminal: no colours, no pages, no questions."""


def environment(options: ShellOptions, own: Mapping[str, str], cookie: str) -> dict[str, str]:
    """The variables of a command."""
    allowed = {name: value for name, value in own.items() if any(fnmatchcase(name, each) for each in options.env_allow)}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", **allowed, **_FIXED, **options.env, COOKIE: cookie}
