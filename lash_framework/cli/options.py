"""The options that every command takes, and what they make: settings, an open `Lash`, logging."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lash_framework.cli.commands import UNASKED
from lash_framework.cli.exits import State, complain
from lash_framework.cli.logs import LineHandler, start_logging

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.session import Session
    from lash_framework.settings import Settings
    from lash_hookspecs.tools import Tool

__all__ = ["ANOTHER_PLACE", "Invocation", "common", "common_with", "program", "tools_option"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

log = logging.getLogger("lash.cli")

_BEFORE = (
    click.option("--store", metavar="URL", help="Where sessions are kept, such as sqlite:///agent.db."),
    click.option("--model", metavar="PROVIDER:NAME", help="The model, such as openai-chat:gpt-5."),
    click.option("--mode", metavar="NAME", help="How turns run; see `lash modes list`."),
)
_AFTER = (
    click.option("--config", metavar="FILE", help="A settings file instead of the nearest lash.toml."),
    click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any setting, as in lash.toml; repeatable."),
    click.option("--lock", metavar="FILE", help="What plugins may be and do, instead of lash.lock; `off`: anything."),
    click.option("--no-plugins", is_flag=True, help="Load no plugin at all (to see whether one is in the way)."),
    click.option("-v", "--verbose", count=True, help="Log what happens (-vv: everything, with tracebacks)."),
)


class Invocation:
    """One call of a command: its common options, and what follows from them."""

    def __init__(self, state: State, given: dict[str, Any], logs: LineHandler, *, command: str, finds: bool) -> None:
        self.state = state
        self.logs = logs
        self.session: str | None = given["session"]
        self._given = given
        self._command = command
        self._finds = finds

    @cached_property
    def settings(self) -> Settings:
        """The settings from all sources; warnings about them are told once.

        Whoever is at a terminal is shown first what a file that was found would decide, and asked whether they trust
        it, unless the command is in `UNASKED`. Raises `UntrustedSettings` if they don't.
        """
        from lash_framework.cli.asking import at_terminal

        if self._command in UNASKED or not at_terminal():
            return self._load()
        from lash_framework.cli.trust import settled

        return settled(partial(self._load, doubted=True))

    def _load(self, *, doubted: bool = False) -> Settings:
        from lash_framework.settings import load_settings

        named = {name: self._given[name] for name in ("store", "model", "mode")}
        if self._given["no_plugins"]:
            named["plugins.only"] = ()
        named["plugins.lock"] = self._given["lock"]
        settings = load_settings(
            self._given["config"], options=named, sets=self._given["sets"], doubted=doubted, finds=self._finds
        )
        for warning in settings.warnings:
            complain(f"warning: {warning}")
        return settings

    def ask_for_trust(self) -> None:
        """Read the settings now: within a loop, which keeps signals to itself, Ctrl-C would end no question."""
        _ = self.settings

    def session_of(self, given: str | None) -> str | None:
        """The session that a command is about: as its argument, or as the option. Raises `UsageError` for two."""
        if given and self.session and given != self.session:
            text = f"which session: `{given}` or `{self.session}`? `--session` stands in place of SESSION"
            raise click.UsageError(text, click.get_current_context())
        return given or self.session

    @property
    def passed_on(self) -> list[str]:
        """The options from which another process gets the same settings, but for store, model, mode and session."""
        passed = [part for each in self._given["sets"] for part in ("--set", each)]
        if self._given["config"] is not None:
            passed += ["--config", self._given["config"]]
        if self._given["lock"] is not None:
            passed += ["--lock", self._given["lock"]]
        return [*passed, "--no-plugins"] if self._given["no_plugins"] else passed

    @asynccontextmanager
    async def open(self, *, tools: Sequence[Tool] = (), existing: bool = False) -> AsyncIterator[Lash]:
        """A `Lash` with these settings; with `existing`, no database is made where there is none.

        An unknown name is explained by where it is written, and by the plugins that are off if it may be of theirs.
        """
        from lash_framework.lash import Lash
        from lash_hookspecs.errors import ConfigurationError, StoreUnavailable

        if existing and (missing := self.missing_database()) is not None:
            raise ConfigurationError(f"there is no database at `{missing}`; `lash run` makes one there")
        opened = False
        try:
            self._make_folder()
            async with Lash.open(settings=self.settings, tools=tools) as lash:
                opened = True
                self._tell_log(lash)
                yield lash
        except ConfigurationError as error:
            from lash_framework.cli.hosts import explained

            raise explained(self, error) from error
        except StoreUnavailable as error:
            if opened or not self._has_default_store():
                raise
            raise StoreUnavailable(f"{error}; {ANOTHER_PLACE}") from error

    def with_lash(self, work: Callable[[Lash], Awaitable[T]]) -> T:
        """What the work makes of an open `Lash` whose database is there, in an event loop of its own."""
        import anyio

        async def run() -> T:
            async with self.open(existing=True) as lash:
                return await work(lash)

        self.ask_for_trust()
        return anyio.run(run)

    def resumes(self, lash: Lash, session_id: str | None, tools: Sequence[str]) -> str | None:
        """What to type to go on with an interrupted turn of the session; None where turns don't survive."""
        if session_id is None or lash.journalling is None or not lash.store.persistent:
            return None
        named = [shlex.quote(session_id)] if session_id else []  # without, all sessions
        parts = [*named, *(part for each in tools for part in ("--tools", shlex.quote(each)))]
        return self.again(f"resume {' '.join(parts)}")

    async def session_in(self, lash: Lash, session_id: str | None) -> Session:
        """The session, made if it is new; what was interrupted stays. A mode that is gone is told with the way out."""
        from lash_framework.cli.hosts import explained
        from lash_hookspecs.errors import ConfigurationError, UnknownName

        try:
            return await lash.session(session_id, recover=False)
        except UnknownName as error:
            if error.kind != "mode" or error.name == self.settings.mode:
                raise
            text = f"session `{session_id}`: {explained(self, error)}"
            mode = self.settings.mode
            raise ConfigurationError(f"{text}; it had that mode before, `--mode {mode}` runs it in `{mode}`") from error

    def missing_database(self) -> str | None:
        """The path of the SQLite database that isn't there yet; None if it is, or if the store is another one."""
        url = self.settings.store
        path = url.removeprefix("sqlite:///")
        if not url.startswith("sqlite:///") or path in ("", ":memory:") or self._file(path).exists():
            return None
        return path

    @staticmethod
    def _file(path: str) -> Path:
        return Path(path).expanduser() if path.startswith("~/") else Path(path)  # as the store reads it

    def _tell_log(self, lash: Lash) -> None:
        report = lash.host.report
        log.info("settings from %s", self.settings.file or "no lash.toml, which is neither here nor above")
        counts = (len(report.loaded), len(report.failed), len(report.blocked))
        log.info("plugins: %d loaded, %d failed, %d off", *counts)
        log.info("store opened: %s", lash.location)

    async def latest_session_id(self, lash: Lash) -> str:
        """The session whose last turn is the latest, finished or not. Raises `ConfigurationError` if none has any."""
        from lash_hookspecs.errors import ConfigurationError

        limit = 20
        unfinished = {each.session_id for each in await lash.unfinished()}
        while True:
            found = await lash.list_sessions(limit=limit)
            if (
                latest := next((each for each in found if each.turn_index or each.session_id in unfinished), None)
            ) is not None:
                return latest.session_id
            if len(found) < limit:
                raise ConfigurationError(f"--continue: there is no session yet in {lash.location}; leave it out")
            limit *= 10

    def override(self, source: str, **values: Any) -> None:
        """Change settings as `source` says; None changes nothing."""
        self.settings = self.settings.override(source, **values)

    def tell(self, lash: Lash, session: Session) -> None:
        """Before a command's first turn: what was left out or misspelt, and who answers if nobody chose a model."""
        from lash_framework.cli.slips import slips

        for failed in lash.host.report.failed:
            complain(
                f"warning: plugin `{failed.plugin_id}` is left out ({failed.stage}: {failed.message}); "
                f"`lash plugins why {failed.plugin_id}` tells more"
            )
        for slip in slips(self.settings, lash.host):
            complain(f"warning: {slip}")
        log.info("session %s opened: model %s, mode %s", session.id, session.policy.model, session.policy.mode_id)
        if self.settings.model is None and session.policy.model == "scripted:demo":
            complain(
                "no model is chosen, so this is `scripted:demo`, which works offline; "
                "choose one with --model provider:name, LASH_MODEL or lash.toml"
            )

    def again(self, command: str) -> str:
        """What to type after the program's name, with that and the same store."""
        from lash_framework.settings import Rank

        command = f"{program()} {command}"
        if self.settings.origin_of("store").rank is not Rank.CALLER:
            return command
        return f"{command} --store {shlex.quote(self.settings.store)}"

    def _has_default_store(self) -> bool:
        from lash_framework.settings import Rank

        return self.settings.origin_of("store").rank is Rank.DEFAULT

    def _make_folder(self) -> None:
        """Only the default database's folder is made: a wrong path that was typed is an error, not a new folder."""
        from lash_hookspecs.errors import StoreUnavailable

        if not self._has_default_store():
            return
        folder = Path(self.settings.store.removeprefix("sqlite:///")).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"`{folder}` can't be made: {error.strerror or error}") from error


ANOTHER_PLACE = "choose another place with `--store sqlite:///FILE.db` or LASH_STORE"


def program() -> str:
    """How this program was called, so that a line can be copied: `lash` if the shell would find it by that name."""
    import shutil

    typed = sys.argv[0] or "lash"
    if Path(typed).name == "__main__.py":
        python = "python" if shutil.which("python") == sys.executable else shlex.quote(sys.executable)
        return f"{python} -m lash_framework"
    name = Path(typed).name
    return name if shutil.which(name) == typed else shlex.quote(typed)


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _session_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and (found := _CONTROLS.search(value)):
        raise click.BadParameter(f"the session id has the control character {found[0]!r}; choose another")
    return value


def common_with(session: str, *, finds: bool = True) -> Callable[[F], Callable[..., Any]]:
    """Give a command the common options; its function gets an `Invocation` first. `session` is that option's help.

    `finds`: whether the nearest lash.toml is read where no file is named.
    """

    def decorate(function: F) -> Callable[..., Any]:
        @click.pass_obj
        def call(state: State, /, **given: Any) -> Any:
            state.verbosity += given.pop("verbose")
            logs = start_logging(state.verbosity)
            names = ("store", "model", "mode", "session", "config", "sets", "lock", "no_plugins")
            command = click.get_current_context().command_path.partition(" ")[2]
            common = {name: given.pop(name) for name in names}
            return function(Invocation(state, common, logs, command=command, finds=finds), **given)

        wrapped: Any = update_wrapper(call, function)
        named = click.option("--session", metavar="ID", help=session, callback=_session_id)
        for option in reversed((*_BEFORE, named, *_AFTER)):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]  # click's decorators are untyped here

    return decorate


common = common_with("Has no meaning here; every command takes it.")
tools_option = click.option(
    "--tools", metavar="FILE.py", multiple=True, help="Python file with functions marked @tool; repeatable."
)
