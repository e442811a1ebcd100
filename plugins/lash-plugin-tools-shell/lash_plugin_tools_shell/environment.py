"""What a command is given of lash's own environment: names that are allowed, and no others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from lash_hookspecs.leftovers import STARTED_FOR_A_MODEL
from lash_plugin_tools_shell.options import ShellOptions

__all__ = ["COOKIE", "environment"]

COOKIE = STARTED_FOR_A_MODEL
"""Says of which command a process is, too, to find it by if its supervisor was killed."""

_FIXED = {"TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}
"""Nobody sits before the terminal: no colours, no pages, no questions."""


def environment(options: ShellOptions, own: Mapping[str, str], cookie: str) -> dict[str, str]:
    """The variables of a command."""
    allowed = {name: value for name, value in own.items() if any(fnmatchcase(name, each) for each in options.env_allow)}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", **allowed, **_FIXED, **options.env, COOKIE: cookie}
