"""`lash plugins lock`: write down what the installed plugins are and do, or compare it with what was written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lash_framework.cli.exits import ExitCode, complain
from lash_framework.cli.hosts import open_host
from lash_framework.cli.lines import clean
from lash_framework.cli.options import Invocation, common

if TYPE_CHECKING:
    from lash_framework.lock import PluginLock
    from lash_framework.settings import Settings

__all__ = ["lock", "locked_now"]


@click.command(short_help="Write down what plugins are and do; a start refuses more.")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if the file is not what is installed.")
@common
def lock(invocation: Invocation, check: bool) -> int:
    """Write lash.lock: which plugins there are, all that they register, and what they say that they reach for.

    A start that finds the file beside lash.toml (or is given it: --lock FILE, or the setting plugins.lock) refuses a
    plugin, hook, tool, mode, capability and the like that isn't in it. To accept what has grown, run this again: it
    says what is otherwise. It is no sandbox: what a plugin says of itself is not enforced, only a change of it is seen.
    """
    from lash_framework.lock import PluginLock, read_lock
    from lash_hookspecs.errors import ConfigurationError

    settings = invocation.settings
    path = _place(settings)
    now = locked_now(invocation)
    try:
        before = read_lock(path) if path.exists() else None
    except ConfigurationError as error:
        if check:
            raise
        complain(f"{error.args[0].partition('; ')[0]}; it is written anew")
        before = None
    rows = (before or PluginLock()).changes(now)
    for row in rows:
        click.echo(clean(row))
    if check:
        if before is None:
            raise ConfigurationError(f"there is no `{path}`; `lash plugins lock` writes it")
        click.echo(f"{path}: {'not what is installed' if rows else 'as it is installed'}")
        return ExitCode.STOPPED if rows else ExitCode.FINISHED
    if rows or before is None:
        _write(path, now.encode())
    click.echo(f"{path}: {len(now.plugins)} plugins locked{'' if rows or before is None else ', as before'}")
    if settings.file is None and settings.plugins.lock is None:
        complain(f"there is no lash.toml beside it: it counts only for who passes `--lock {path}`")
    return ExitCode.FINISHED


def _place(settings: Settings) -> Path:
    from lash_framework.lock import LOCK_NAME
    from lash_hookspecs.errors import ConfigurationError

    chosen = settings.plugins.lock
    if chosen == "off":
        where = settings.source_of("plugins.lock")
        raise ConfigurationError(f"{where}: `plugins.lock` is `off`; name the file to write with `--lock FILE`")
    if chosen is not None:
        return Path(chosen).expanduser()
    return Path(LOCK_NAME) if settings.file is None else settings.file.parent / LOCK_NAME


def locked_now(invocation: Invocation) -> PluginLock:
    """What is installed now. A plugin that fails isn't locked; of a mode that can't be put together no tools are."""
    from lash_framework.lock import LockedPlugin, PluginLock, actions_of, tools_of
    from lash_hookspecs.errors import LashError

    host = open_host(invocation)
    tools: dict[str, set[str]] = {}
    for mode_id in host.modes:
        try:
            composition = host.composition(mode_id)
        except LashError as error:
            complain(f"warning: the tools of mode `{mode_id}` aren't locked, it can't be put together: {error}")
            continue
        for name, plugin_id in tools_of(composition):
            tools.setdefault(plugin_id, set()).add(name)
    for failed in host.report.failed:
        complain(f"warning: plugin `{failed.plugin_id}` isn't locked, it failed ({failed.stage}: {failed.message})")
    actions: dict[str, set[str]] = {}
    try:
        for name, plugin_id in actions_of(host.actions()):
            actions.setdefault(plugin_id, set()).add(name)
    except LashError as error:
        complain(f"warning: no actions are locked: {error}")
    hooks, registered = host.implemented, host.registered()
    plugins = {
        each.plugin_id: LockedPlugin.of(
            each,
            hooks.get(each.plugin_id, ()),
            tools.get(each.plugin_id, ()),
            {*registered.get(each.plugin_id, ()), *actions.get(each.plugin_id, ())},
        )
        for each in host.report.loaded
    }
    return PluginLock(plugins=plugins)


def _write(path: Path, text: str) -> None:
    """All of it or nothing: a start that reads it meanwhile sees the old one."""
    from lash_hookspecs.errors import ConfigurationError

    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigurationError(f"`{path}` can't be written: {error.strerror or error}") from error
