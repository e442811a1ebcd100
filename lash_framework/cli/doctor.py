"""`lash doctor`: one check after the other; none of them stops the next."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import click

from lash_framework.cli.exits import ExitCode
from lash_framework.cli.hosts import composed, explained, open_host, read_report
from lash_framework.cli.options import ANOTHER_PLACE, Invocation, common
from lash_framework.cli.output import print_json
from lash_framework.cli.slips import mode_faults, plugin_faults, provider_faults, slips
from lash_framework.cli.tables import print_table

if TYPE_CHECKING:
    from lash_hookspecs.llm import ProviderSpec

__all__ = ["doctor"]

OK, NOTE, BROKEN = "ok", "note", "broken"
PROBE_BYTES = 64 * 1024
"""What is written to see whether a store can be: about as much as a turn takes."""
LITTLE_BYTES = 200 * 10**6
PACKAGES = ("lash-framework", "lash-hookspecs", "pluggy", "anyio", "attrs", "cattrs", "click", "rich", "httpx")


class Finding(NamedTuple):
    """What a check found, and what to do about it."""

    check: str
    state: str
    found: str
    remedy: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common
def doctor(invocation: Invocation, as_json: bool) -> int:
    """What is wrong with this installation. Calls no model. Exit code 1 if something is broken."""
    findings: list[Finding] = []
    faults: dict[str, str] = {}
    for name, check in CHECKS.items():
        findings += _guarded(name, check, invocation, faults)
    if as_json:
        print_json([each._asdict() for each in findings])
    else:
        print_table(("check", "state", "found"), [each[:3] for each in findings])
        for each in findings:
            if each.remedy:
                click.echo(f"{each.check}: {each.remedy}")
    return ExitCode.STOPPED if any(each.state == BROKEN for each in findings) else ExitCode.FINISHED


def _guarded(
    name: str, check: Callable[[Invocation], Iterator[Finding]], invocation: Invocation, faults: dict[str, str]
) -> Iterator[Finding]:
    """What a check finds. `faults` maps what kept a check from its end to the first that met it, which tells it."""
    try:
        yield from check(invocation)
    except Exception as error:
        fault = str(error) or type(error).__name__
        if fault in faults:
            yield Finding(name, NOTE, f"not checked: see {faults[fault]}")
        else:
            faults[fault] = name
            yield Finding(name, BROKEN, fault)


# ---- checks ---------------------------------------------------------------------------------------------------------


def _python(_: Invocation) -> Iterator[Finding]:
    yield Finding("python", OK, f"{platform.python_version()} ({sys.executable}), {platform.platform()}")


def _packages(_: Invocation) -> Iterator[Finding]:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding("packages", OK, ", ".join(found))
    if missing:
        yield Finding("packages", NOTE, f"not installed: {', '.join(missing)}")


def _settings(invocation: Invocation) -> Iterator[Finding]:
    settings = invocation.settings
    yield Finding("settings", OK, f"from {settings.file}" if settings.file else "no lash.toml here or above")
    for key, value, source in settings.rows():
        if source != "default":
            yield Finding("setting", OK, f"{key} = {value}  ({source})")
    for warning in settings.warnings:
        yield Finding("settings", NOTE, warning)


def _plugins(invocation: Invocation) -> Iterator[Finding]:
    report, conflict = read_report(invocation)
    yield Finding("plugins", OK, ", ".join(each.plugin_id for each in report.loaded) or "none")
    for failed in report.failed:
        yield Finding(f"plugin {failed.plugin_id}", BROKEN, f"{failed.stage}: {failed.message}", failed.remedy)
    if report.blocked:
        yield Finding("plugins", NOTE, "switched off: " + ", ".join(each.plugin_id for each in report.blocked))
    if conflict is not None:
        yield Finding("plugins", BROKEN, conflict)


def _lock(invocation: Invocation) -> Iterator[Finding]:
    from lash_framework.lock import lock_of

    lock = lock_of(invocation.settings)
    if lock is not None:
        open_host(invocation, lock).composition(invocation.settings.mode)
        yield Finding("lock", OK, f"{lock.place}: {len(lock.plugins)} plugins, nothing grew")


def _names(invocation: Invocation) -> Iterator[Finding]:
    """Tables and names in the settings that fit nothing here, used or not."""
    settings, host = invocation.settings, open_host(invocation)
    for slip in slips(settings, host):
        yield Finding("settings", BROKEN, slip)
    chosen = (settings.model or "").partition(":")[0]  # the check of the model looks at that one
    for fault in provider_faults(settings, host, without=chosen):
        yield Finding("provider", BROKEN, fault)
    for fault in plugin_faults(settings, host):
        yield Finding("plugin", BROKEN, fault)
    for mode_id, fault in mode_faults(settings, host):
        if mode_id != settings.mode:
            yield Finding(f"mode {mode_id}", BROKEN, fault)


def _mode(invocation: Invocation) -> Iterator[Finding]:
    composition = composed(invocation, open_host(invocation), invocation.settings.mode)
    tools = len(composition.manifests)
    yield Finding("mode", OK, f"{composition.mode.mode_id}: {len(composition.plugins)} plugins, {tools} tools")
    for each in composition.plugins:
        for found in each.info.examine(composition.options[each.plugin_id]) if each.info.examine is not None else ():
            yield Finding(f"plugin {each.plugin_id}", NOTE if found.remedy else OK, found.text, found.remedy)


def _store(invocation: Invocation) -> Iterator[Finding]:
    import anyio

    if (missing := invocation.missing_database()) is not None:
        folder = Path(missing).expanduser().absolute().parent
        known = folder.exists() or folder.parent.exists() or invocation.settings.source_of("store") == "default"
        if not known:
            yield Finding("store", BROKEN, f"there is no directory `{folder}` for {missing}", "create it")
        elif (fault := _why_unwritable(folder)) is not None:
            yield Finding("store", BROKEN, f"none can be made at {missing}: {fault}", ANOTHER_PLACE)
        else:
            yield Finding("store", OK, f"none yet at {missing}: the first turn makes it")
        return

    async def work() -> Finding:
        async with invocation.open() as lash:
            count = len(await lash.list_sessions(limit=1000))
            sessions = f"{'1000 or more' if count == 1000 else count} session{'s' * (count != 1)}"
            # Bytes that no session adopts are dropped: the one thing to write that changes nothing.
            data = os.urandom(PROBE_BYTES)
            ref = await lash.store.put_blob(data, "application/octet-stream")
            if await lash.store.get_blob(ref.id) != data:
                return Finding("store", BROKEN, f"{lash.location}: it returns something else than was written")
            free = _free_bytes(lash.location)
            room = "" if free is None else f", {free / 10**9:.1f} GB free"
            found = f"{lash.location}: {sessions}, can be written{room}"
            if free is not None and free < LITTLE_BYTES:
                return Finding("store", NOTE, found, f"make room, or {ANOTHER_PLACE}: sessions grow")
            return Finding("store", OK, found)

    yield anyio.run(work)


def _free_bytes(location: str) -> int | None:
    """What is left where a store is a file; None if it is none."""
    file = Path(location)
    return shutil.disk_usage(file.absolute().parent).free if file.is_file() else None


def _why_unwritable(folder: Path) -> str | None:
    """Why nothing can be made in a folder, or in the nearest above it that is there; None if something can."""
    from tempfile import TemporaryFile

    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with TemporaryFile(dir=there):  # asking for permissions tells nothing of read-only disks, or to root
            return None
    except OSError as error:
        return f"`{there}`: {error.strerror or error}"


def _model(invocation: Invocation) -> Iterator[Finding]:
    from lash_framework.lash import DEFAULT_MODEL
    from lash_framework.providers import split_model
    from lash_hookspecs.errors import ConfigurationError

    settings = invocation.settings
    chosen = settings.model or DEFAULT_MODEL
    host = open_host(invocation)
    try:
        provider_id, _ = split_model(chosen, host.providers)
    except ConfigurationError as error:
        raise explained(invocation, error) from error
    owned = host.providers[provider_id]
    source = settings.source_of("model")
    yield Finding("model", OK, f"{chosen} from plugin `{owned.plugin_id}` (set by: {source})")
    yield from _provider(invocation, owned.value)


def _provider(invocation: Invocation, spec: ProviderSpec) -> Iterator[Finding]:
    from lash_framework.settings import provider_settings, secret_fields

    values = provider_settings(spec, invocation.settings)
    names = [name for name in secret_fields(spec.settings_class()) if "key" in name or "token" in name]
    if names and not any(getattr(values, name) for name in names):
        host = urlsplit(str(getattr(values, "base_url", ""))).hostname or ""
        local = host in ("localhost", "::1") or host.startswith("127.")
        remedy = "" if local else f"set {_variables(spec, names)}, or `--set provider.{spec.provider_id}.{names[0]}=…`"
        yield Finding("key", NOTE if local else BROKEN, f"no key for `{spec.provider_id}`", remedy)
    elif names:
        yield Finding("key", OK, f"a key for `{spec.provider_id}` is there (not shown, not tried)")
    if spec.live:
        yield Finding("transport", OK, _transport())


def _variables(spec: ProviderSpec, names: list[str]) -> str:
    import attrs

    fields = {each.name: each for each in attrs.fields(spec.settings_class())}
    listed: list[str] = []
    for name in names:
        variables = fields[name].metadata.get("env", ())
        listed += [variables] if isinstance(variables, str) else variables
    return " or ".join(listed) or "it in lash.toml"


def _transport() -> str:
    """What model calls travel on, as `lash-provider-kit` chooses it."""
    from urllib.request import getproxies

    proxies = [name for name in ("https", "http", "all") if name in getproxies()]
    if proxies:
        return f"httpx, through the environment's {proxies[0]} proxy"
    if find_spec("aiohttp") is not None:
        return "httpx, and aiohttp (asyncio) once calls overlap or are more than a few"
    return "httpx; `pip install lash-provider-kit[fast]` is faster with many calls at once"


def _terminal(_: Invocation) -> Iterator[Finding]:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    where = "a terminal" if sys.stdout.isatty() else "no terminal: plain output"
    if encoding == "utf8":
        yield Finding("output", OK, f"{where}, UTF-8")
    else:
        yield Finding("output", NOTE, f"{where}, {sys.stdout.encoding}", "set PYTHONUTF8=1 to see every character")


CHECKS: dict[str, Callable[[Invocation], Iterator[Finding]]] = {
    "python": _python,
    "packages": _packages,
    "settings": _settings,
    "plugins": _plugins,
    "lock": _lock,
    "names": _names,
    "mode": _mode,
    "store": _store,
    "model": _model,
    "output": _terminal,
}
