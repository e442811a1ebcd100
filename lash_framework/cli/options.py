"""The options that every command takes, and what they make: settings, an open `Lash`, logging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lash_framework.cli.exits import State, complain

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.session import Session
    from lash_framework.settings import Settings
    from lash_hookspecs.tools import Tool

__all__ = ["Invocation", "common"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--store", metavar="URL", help="Where sessions are kept, such as sqlite:///agent.db."),
    click.option("--model", metavar="PROVIDER:NAME", help="The model, such as openai-chat:gpt-5."),
    click.option("--mode", metavar="NAME", help="How turns run; see `lash modes list`."),
    click.option("--session", metavar="ID", help="The session; made if there is none."),
    click.option("--config", metavar="FILE", help="A settings file instead of the nearest lash.toml."),
    click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any setting, as in lash.toml; repeatable."),
    click.option("--no-plugins", is_flag=True, help="Load no plugin at all (to see whether one is in the way)."),
    click.option("-v", "--verbose", count=True, help="Log what happens (-vv: everything, with tracebacks)."),
)


class Invocation:
    """One call of a command: its common options, and what follows from them."""

    def __init__(self, state: State, given: dict[str, Any]) -> None:
        self.state = state
        self.session: str | None = given["session"]
        self._given = given

    @cached_property
    def settings(self) -> Settings:
        """The settings from all sources; warnings about them are told once."""
        from lash_framework.settings import load_settings

        named = {name: self._given[name] for name in ("store", "model", "mode")}
        if self._given["no_plugins"]:
            named["plugins.only"] = ()
        settings = load_settings(self._given["config"], options=named, sets=self._given["sets"])
        for warning in settings.warnings:
            complain(f"warning: {warning}")
        return settings

    def open(self, *, tools: Sequence[Tool] = ()) -> AbstractAsyncContextManager[Lash]:
        """An async context manager of a `Lash` with these settings."""
        from lash_framework.lash import Lash

        self._make_folder()
        return Lash.open(settings=self.settings, tools=tools)

    def override(self, source: str, **values: Any) -> None:
        """Change settings as `source` says; None changes nothing."""
        self.settings = self.settings.override(source, **values)

    def tell_model(self, session: Session) -> None:
        """Say so if nobody chose a model and the offline script answers."""
        if self.settings.model is None and session.policy.model == "scripted:demo":
            complain(
                "no model is chosen, so this is `scripted:demo`, which works offline; "
                "choose one with --model provider:name, LASH_MODEL or lash.toml"
            )

    def again(self, command: str) -> str:
        """What to type to use the same store with another command."""
        import shlex

        from lash_framework.settings import Rank

        if self.settings.origin_of("store").rank is not Rank.CALLER:
            return command
        return f"{command} --store {shlex.quote(self.settings.store)}"

    def _make_folder(self) -> None:
        """Only the default database's folder is made: a wrong path that was typed is an error, not a new folder."""
        from lash_framework.settings import Rank

        if self.settings.origin_of("store").rank is Rank.DEFAULT:
            Path(self.settings.store.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)


def common(function: F) -> Callable[..., Any]:
    """Give a command the common options; its function gets an `Invocation` first."""

    @click.pass_obj
    def call(state: State, /, **given: Any) -> Any:
        state.verbosity += given.pop("verbose")
        _start_logging(state.verbosity)
        names = ("store", "model", "mode", "session", "config", "sets", "no_plugins")
        return function(Invocation(state, {name: given.pop(name) for name in names}), **given)

    wrapped: Any = update_wrapper(call, function)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators are untyped here


def _start_logging(verbosity: int) -> None:
    import logging

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    if verbosity < 2:
        for noisy in ("httpx", "httpcore", "asyncio"):
            logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
