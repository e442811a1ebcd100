"""`lash plugins bisect -- COMMAND`: which plugin makes a command fail, found by running it with fewer and fewer."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

from lash_framework.cli.bisection import search
from lash_framework.cli.exits import ExitCode, complain
from lash_framework.cli.options import Invocation, common

__all__ = ["bisect"]

SWITCH = "LASH_PLUGINS_DISABLED"
GRACE_S = 5.0
"""How long a command may take to end when it is told to."""
LOOK_S = 60.0
"""How long importing all plugins may take."""


@click.command(
    short_help="Which plugin makes a command fail, in log2 n runs.",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--keep", metavar="ID", multiple=True, help="A plugin that the command can't do without; repeatable.")
@click.option("--timeout", metavar="S", type=click.FloatRange(min=0, min_open=True), help="Slower runs have failed.")
@common
def bisect(invocation: Invocation, command: tuple[str, ...], keep: tuple[str, ...], timeout: float | None) -> int:
    """Find the plugin that makes COMMAND fail: `lash plugins bisect -- pytest -x tests`.

    COMMAND runs once with all plugins, once with only those that it needs (the mode's, the model's, the store's, and
    --keep), then with halves of the rest, which LASH_PLUGINS_DISABLED switches off. It fails as it did at first: with
    the same exit code. It must leave nothing behind that changes the next run, and not set that variable itself. Its
    output isn't shown; -v shows it.

    Exit codes: 0 found, 1 there is nothing to find, 2 it can't be run.
    """
    if shutil.which(command[0]) is None:
        raise click.UsageError(f"no program `{command[0]}` is found", click.get_current_context())
    suspects, kept = _suspects(invocation, keep)
    base = set(invocation.settings.plugins.disabled)
    trials = _Trials(command, suspects | kept, base, timeout, shown=invocation.state.verbosity > 0)
    try:
        return _hunt(trials, sorted(suspects), kept)
    except KeyboardInterrupt:
        click.echo()
        complain(f"left after {trials.count} runs; " + (trials.narrowed or "nothing is known yet"))
        return ExitCode.CANCELLED


def _hunt(trials: _Trials, suspects: Sequence[str], kept: frozenset[str]) -> int:
    click.echo(f"suspects: {_listed(suspects)}")
    if kept:
        click.echo(f"always on: {_listed(kept)}")
    first = trials.run(trials.all)
    if first == 0:
        click.echo(f"it doesn't fail: with all plugins on, `{trials.shown_command}` ended with 0")
        return ExitCode.STOPPED
    trials.failure = first
    if not suspects:
        click.echo("there is no plugin to switch off: those that are on are needed (see --keep)")
        return ExitCode.STOPPED
    if trials.fails(kept):
        among = f"one of {_listed(kept)}, or no plugin, is the cause" if kept else "no plugin is the cause"
        click.echo(f"it fails as well without {'any plugin' if not kept else 'any of the suspects'}: {among}")
        return ExitCode.STOPPED
    trials.narrowed = f"it fails with all suspects, and not without them: {_listed(suspects)}"
    looking = search(suspects, kept)
    try:
        wanted = next(looking)
        while True:
            wanted = looking.send(trials.fails(wanted))
    except StopIteration as done:
        _report(trials, done.value, kept)
    return ExitCode.FINISHED


def _report(trials: _Trials, found: frozenset[str], kept: frozenset[str]) -> None:
    """What was found. Of several that fail together only, some may be what the command can't do without."""
    needed = {}
    if len(found) > 1:
        for each in sorted(found):
            code = trials.run(kept | found - {each})
            if code not in (0, trials.failure):
                needed[each] = code
    blamed = found - needed.keys() or found
    if len(blamed) == 1:
        (culprit,) = blamed
        click.echo(f"found in {trials.count} runs: `{culprit}` makes it {_ended(trials.failure)}")
        click.echo(f"`lash plugins why {culprit}` tells more; {SWITCH}={culprit} switches it off")
    else:
        click.echo(
            f"found in {trials.count} runs: {_listed(blamed)} make it {_ended(trials.failure)}, but only together"
        )
        click.echo(f"{SWITCH}=… with one of them is enough")
    for plugin_id, code in needed.items():
        if plugin_id not in blamed:
            click.echo(
                f"without `{plugin_id}` the command {_ended(code, 's')} instead: it needs that one (--keep {plugin_id})"
            )


class _Trials:
    """Runs of the command with some plugins on and all others off. The same set is run once."""

    def __init__(
        self,
        command: Sequence[str],
        plugins: Collection[str],
        off: Collection[str],
        timeout: float | None,
        *,
        shown: bool,
    ) -> None:
        self.all = frozenset(plugins)
        self.shown_command = shlex.join(command)
        self.failure: int | str = 1
        self.narrowed = ""
        self.count = 0
        self._command = command
        self._off = frozenset(off)
        self._timeout = timeout
        self._output = None if shown else subprocess.DEVNULL
        self._known: dict[frozenset[str], int | str] = {}

    def fails(self, on: frozenset[str]) -> bool:
        """Whether it fails, as it did at first, with only these on."""
        return self.run(on) == self.failure

    def run(self, on: frozenset[str]) -> int | str:
        """Its exit code with only these on, or that it took too long."""
        if on not in self._known:
            self.count += 1
            click.echo(f"run {self.count}: {len(on)} of {len(self.all)} on … ", nl=False)
            self._known[on] = code = self._started(sorted(self._off | self.all - on))
            click.echo(f"it {_ended(code, 's')}")
            if self.count > 2 and code == self.failure:
                self.narrowed = f"it fails with only {_listed(on)} on"
        return self._known[on]

    def _started(self, off: Sequence[str]) -> int | str:
        # An empty variable is one that isn't set, and would leave the settings file's plugins off.
        environment = {**os.environ, SWITCH: ",".join(off) or "[]"}
        process = subprocess.Popen(
            self._command, env=environment, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )
        try:
            return process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing running: asked first, killed then."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ended(code: int | str, s: str = "") -> str:
    """`end with 1`; with an `s`, `ends with 1`."""
    if isinstance(code, str):
        return f"take{s} too long"
    return f"die{s} of signal {-code}" if code < 0 else f"end{s} with {code}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"`{each}`" for each in sorted(names)) or "none"


# ---- what there is to switch off ------------------------------------------------------------------------------------


def _suspects(invocation: Invocation, keep: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The plugins that are on, without those that the command needs; and these."""
    rows = _looked_at(invocation)
    on = {each["id"]: each for each in rows if each["state"] != "off" and each["distribution"] is not None}
    for plugin_id in keep:
        if plugin_id not in on:
            from lash_hookspecs.errors import UnknownName

            raise UnknownName("plugin", plugin_id, on)
    settings = invocation.settings
    wanted = {
        f"mode {settings.mode}",
        f"provider {(settings.model or 'scripted:demo').partition(':')[0]}",
        f"store scheme {settings.store.partition(':')[0]}",
    }
    kept = {*keep, *(plugin_id for plugin_id, each in on.items() if wanted & {*each["offers"]})}
    while more := {other for each in kept if each in on for other in on[each]["requires"]} - kept:
        kept |= more
    kept &= on.keys()
    return frozenset(on.keys() - kept), frozenset(kept)


def _looked_at(invocation: Invocation) -> list[dict[str, Any]]:
    """`lash plugins list --json`, in a process of its own: a plugin may break whoever imports it."""
    command = [sys.executable, "-P", "-m", "lash_framework", "plugins", "list", "--json", *invocation.passed_on]
    code: int | str = "timeout"
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LOOK_S)
        if done.returncode == 0:
            return [dict(each) for each in json.loads(done.stdout)]
        if done.returncode == ExitCode.USAGE:
            _refuse(done.stderr)
        code = done.returncode
    from lash_framework.discovery import installed

    complain(f"warning: looking for plugins {_ended(code, 's')}, so what they need of each other isn't known")
    off = invocation.settings.plugins
    return [
        {"id": each.plugin_id, "state": "unknown", "distribution": each.distribution, "offers": [], "requires": []}
        for each in installed()[0]
        if each.plugin_id not in off.disabled and (off.only is None or each.plugin_id in off.only)
    ]


def _refuse(text: str) -> NoReturn:
    from lash_hookspecs.errors import ConfigurationError

    raise ConfigurationError(text.removeprefix("lash: ").strip())
