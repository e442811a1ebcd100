"""The names of lash's own commands, where each is, and which of them ask. Tables: nothing is imported."""

from __future__ import annotations

__all__ = ["ASKED", "COMMANDS", "UNASKED"]

# name -> (module, object, one line of help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("lash_framework.cli.run", "run", "Run one turn and print the answer."),
    "chat": ("lash_framework.cli.chat", "chat", "Talk with a model, line by line."),
    "resume": ("lash_framework.cli.resume", "resume", "Go on with interrupted turns."),
    "cancel": ("lash_framework.cli.resume", "cancel", "Cancel a session's turn, whichever process runs it."),
    "pending": ("lash_framework.cli.pending", "pending", "Calls that wait for somebody: list, show, answer, resolve."),
    "sessions": ("lash_framework.cli.sessions", "sessions", "List, show, fork, export, compact, delete; what waits."),
    "plugins": (
        "lash_framework.cli.plugins",
        "plugins",
        "Which plugins are loaded, and why; write one, or suspect one.",
    ),
    "modes": ("lash_framework.cli.modes", "modes", "Modes, and who added each of their pieces."),
    "actions": ("lash_framework.cli.actions", "actions", "Operations that plugins offer: list, call."),
    "explain": ("lash_framework.cli.explain", "explain", "Which plugin put each part of a turn before the model."),
    "replay": ("lash_framework.cli.replay", "replay", "Replay a turn from its journal; nothing is executed."),
    "upgrade-check": (
        "lash_framework.cli.replay",
        "upgrade_check",
        "Whether unfinished turns would go on with this set.",
    ),
    "trust": ("lash_framework.cli.trust", "trust", "Let a lash.toml that was found do what it says."),
    "doctor": ("lash_framework.cli.doctor", "doctor", "What is wrong with this installation."),
    "demo": ("lash_framework.cli.demo", "demo", "A real turn, offline, killed halfway and gone on with."),
}

ASKED = frozenset(
    {
        "run",
        "chat",
        "resume",
        "cancel",
        "pending answer",
        "pending resolve",
        "sessions fork",
        "sessions compact",
        "sessions delete",
        "plugins why",
        "plugins bisect",
        "plugins trace",
        "plugins lock",
        "actions call",
        "replay",
        "upgrade-check",
    }
)
"""They may run a turn, call a model, run what a plugin does in one, start a command, or write.

At a terminal they ask about a `lash.toml` that was found and isn't trusted, before anything of it is used. So does one
that is in neither of these tables.
"""

UNASKED = frozenset(
    {
        "pending list",
        "pending show",
        "sessions list",
        "sessions show",
        "sessions queue",
        "sessions export",
        "plugins list",
        "plugins new",
        "modes list",
        "modes show",
        "actions list",
        "explain",
        "trust",
        "doctor",
        "demo",
    }
)
"""They only look, and are what one looks with before one trusts a file; or read none that was found, as `demo`."""
