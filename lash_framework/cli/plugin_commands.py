"""Commands that plugins add (`lash_commands`): found when they may be asked for, imported when they are run.

`lash --help` lists them, and should cost next to nothing: plugins are loaded for it only if the source of one of them
has the hook's name in it. To run a command of lash's own, nothing here is called.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lash_framework.hooks import Owned
    from lash_framework.host import PluginHost
    from lash_framework.settings import Settings
    from lash_hookspecs.commands import CommandSpec

__all__ = ["PluginCommand", "command_lines", "find_command", "plugin_commands"]

_HOOK = b"lash_commands"


def command_lines() -> tuple[list[tuple[str, str]], str | None]:
    """Name and help of each plugin's command, and why they aren't known, where they aren't."""
    if not _may_have_commands():
        return [], None
    try:
        found = plugin_commands()
    except Exception as error:  # help is what one asks for when something is wrong
        return [], str(error) or type(error).__name__
    return [(name, f"{owned.value.help} ({owned.plugin_id})") for name, owned in found.items()], None


def plugin_commands() -> dict[str, Owned[CommandSpec]]:
    """The commands of all plugins that these settings load. Raises what loading them raises."""
    from lash_framework.settings import load_settings

    return dict(_host(load_settings()).commands)


def _host(settings: Settings) -> PluginHost:
    from lash_framework.host import PluginHost
    from lash_framework.lock import lock_of
    from lash_framework.settings import plugin_settings

    return PluginHost(
        disabled=settings.plugins.disabled,
        only=settings.plugins.only,
        options=settings.plugin,
        read_options=partial(plugin_settings, settings=settings),
        lock=lock_of(settings),
    )


# ---- whether it is worth while --------------------------------------------------------------------------------------


def _may_have_commands() -> bool:
    """Whether some installed plugin has the hook, as far as its source tells; nothing of it is imported."""
    from importlib.metadata import entry_points

    try:
        return any(_may_name_the_hook(each.module, each.attr) for each in entry_points(group="lash"))
    except Exception:  # a broken distribution: whoever loads plugins tells of it
        return True


def _may_name_the_hook(module: str, attribute: str) -> bool:
    if attribute:
        return True  # an object, which may be made of anything
    source = _source_of(module)
    return source is None or _HOOK in source or b"import *" in source


def _source_of(module: str) -> bytes | None:
    """A module's source; None where there is none to be read."""
    path: Any = None
    spec: Any = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        spec = next(filter(None, _specs(name, path)), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    if not spec.has_location or not str(spec.origin).endswith(".py"):
        return None
    with open(spec.origin, "rb") as file:  # noqa: PTH123  # pathlib isn't imported by then
        return file.read()


def _specs(name: str, path: Any) -> Iterator[Any]:
    """Where the finders see a module. (`find_spec` of importlib would import its package, and with it anything.)"""
    for finder in sys.meta_path:
        if hasattr(finder, "find_spec"):
            yield finder.find_spec(name, path)


# ---- running one ----------------------------------------------------------------------------------------------------


class PluginCommand(click.Command):
    """Stands for a plugin's command until it is invoked: it takes all arguments, and hands them on."""

    def __init__(self, name: str, owned: Owned[CommandSpec], options: Any, settings: Settings) -> None:
        super().__init__(
            name,
            context_settings={
                "ignore_unknown_options": True,
                "allow_extra_args": True,
                "allow_interspersed_args": False,
            },
            add_help_option=False,
        )
        self._plugin_id, self._spec = owned.plugin_id, owned.value
        self._options = options
        self._settings = settings

    def invoke(self, ctx: click.Context) -> Any:
        """Import the command, and run it. Raises `PluginError` for one that can't be, or that fails."""
        from lash_hookspecs.commands import CommandContext
        from lash_hookspecs.errors import LashError, PluginError

        where = f"command `lash {self.name}`"
        try:
            command = self._loaded()
            found = CommandContext(
                plugin_id=self._plugin_id, options=self._options, open=partial(_open, self._settings)
            )
            with command.make_context(self.name, list(ctx.args), parent=ctx, obj=found) as inner:
                return command.invoke(inner)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except LashError as error:
            error.add_note(f"in {where} of plugin `{self._plugin_id}`")
            raise
        except (Exception, SystemExit) as error:
            text = f"{where} failed: {type(error).__name__}: {error}".removesuffix(": ")
            raise PluginError(self._plugin_id, "lash_commands", text) from error

    def _loaded(self) -> click.Command:
        from importlib import import_module

        module, _, name = self._spec.target.partition(":")
        found: Any = import_module(module)
        for each in name.split("."):
            found = getattr(found, each)
        if not isinstance(found, click.Command):
            raise TypeError(f"`{self._spec.target}` is a `{type(found).__name__}`, and no click command")
        return found


def find_command(name: str) -> tuple[PluginCommand | None, list[str]]:
    """The plugin's command of this name, and the names of all of them.

    What is found may do anything, so whoever is at a terminal is asked about a `lash.toml` that isn't trusted.
    """
    from lash_framework.cli.asking import at_terminal
    from lash_framework.settings import load_settings

    settings = load_settings()
    host = _host(settings)
    if name in host.commands and at_terminal():
        from lash_framework.cli.trust import settled

        settings = settled(partial(load_settings, doubted=True))
        host = _host(settings)
    owned = host.commands.get(name)
    if owned is None:
        return None, list(host.commands)
    return PluginCommand(name, owned, host.options_of(owned.plugin_id), settings), list(host.commands)


@asynccontextmanager
async def _open(settings: Settings, store: str | None = None, **options: Any) -> AsyncIterator[Any]:
    from lash_framework.lash import Lash

    if "config" not in options:
        options.setdefault("settings", settings)
    async with Lash.open(store, **options) as lash:
        yield lash
