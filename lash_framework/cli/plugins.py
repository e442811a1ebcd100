"""`lash plugins list|why`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.exits import ExitCode, complain
from lash_framework.cli.hosts import read_report, switched_off_by
from lash_framework.cli.lines import clean, shortened
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.output import print_json
from lash_framework.cli.tables import heading, print_table

if TYPE_CHECKING:
    from lash_framework.plugins import LoadedPlugin, LoadReport

__all__ = ["plugins"]


@click.group()
def plugins() -> None:
    """Which plugins are loaded, and why one is not."""


def hooks_of(plugin: object) -> list[str]:
    """The names of the hooks that a plugin implements, in the order of the specification."""
    from lash_hookspecs.markers import PROJECT
    from lash_hookspecs.specs import HOOKS

    marked = {
        (getattr(getattr(plugin, name, None), f"{PROJECT}_impl", None) or {}).get("specname") or name
        for name in dir(plugin)
        if getattr(getattr(plugin, name, None), f"{PROJECT}_impl", None) is not None
    }
    return [name for name in HOOKS if name in marked]


def _rows(report: LoadReport) -> list[dict[str, Any]]:
    def row(each: Any, state: str, version: str | None = None, hooks: Sequence[str] = (), reason: str = "") -> Any:
        return {
            "id": each.plugin_id,
            "version": version,
            "distribution": each.distribution,
            "state": state,
            "hooks": list(hooks),
            "reason": reason,
        }

    loaded = [row(each, "loaded", each.version, hooks_of(each.plugin)) for each in report.loaded]
    failed = [row(each, "failed", reason=f"{each.stage}: {each.message}") for each in report.failed]
    blocked = [row(each, "off", reason=each.reason) for each in report.blocked]
    return [*loaded, *failed, *blocked]


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common
def list_(invocation: Invocation, as_json: bool) -> None:
    """Every plugin that was found: loaded (in the order of their hooks), failed, switched off."""
    report, conflict = read_report(invocation)
    rows = _rows(report)
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("plugin", "version", "distribution", "state", "hooks"),
            [
                (each["id"], each["version"] or "-", each["distribution"] or "-", each["state"], _names(each["hooks"]))
                for each in rows
            ],
            empty="no plugins: install one, such as `pip install lash-framework[standard]`",
        )
        for each in rows:
            if each["state"] == "failed":
                complain(f"plugin `{each['id']}` failed, {each['reason']}; `lash plugins why {each['id']}` tells more")
    if conflict is not None:
        complain(conflict)


def _names(hooks: list[str]) -> str:
    return ", ".join(each.removeprefix("lash_") for each in hooks) or "-"


@plugins.command()
@click.argument("name")
@common
def why(invocation: Invocation, name: str) -> int:
    """Why a plugin is loaded or not: its hooks and its place in the order, or its traceback and what to do.

    NAME may be a tool of the mode in the settings, too: whose it is, and why the model may call it or not.
    """
    from lash_hookspecs.errors import UnknownName

    report, conflict = read_report(invocation)
    if conflict is not None and name in conflict:
        complain(conflict)
    for place, loaded in enumerate(report.loaded, 1):
        if loaded.plugin_id == name:
            _tell_loaded(loaded, place, len(report.loaded))
            return ExitCode.FINISHED
    for failed in report.failed:
        if failed.plugin_id == name:
            heading(f"{name} failed at stage `{failed.stage}`")
            click.echo(f"distribution: {failed.distribution or '-'}")
            click.echo(f"reason:       {clean(failed.message)}")
            click.echo(f"what to do:   {failed.remedy}")
            if failed.traceback:
                click.echo(f"\n{clean(failed.traceback)}", nl=False)
            return ExitCode.STOPPED
    for blocked in report.blocked:
        if blocked.plugin_id == name:
            heading(f"{name} is switched off")
            click.echo(f"distribution: {blocked.distribution or '-'}")
            click.echo(f"reason:       {blocked.reason}")
            key = switched_off_by(invocation.settings, name)
            click.echo(f"set by:       `{key}` in {invocation.settings.source_of(key)}")
            return ExitCode.FINISHED
    if conflict is None and _tell_tool(invocation, name):
        return ExitCode.FINISHED
    known = [row["id"] for row in _rows(report)]
    hint = None if known else "no plugin is installed"
    raise UnknownName("plugin", name, known, hint)


def _tell_tool(invocation: Invocation, name: str) -> bool:
    """Tell of a tool of the settings' mode, if there is one of this name."""
    from lash_framework.cli.hosts import composed, open_host
    from lash_framework.session_tools import why_not
    from lash_framework.state import NO_TOOL_WORDS
    from lash_hookspecs.errors import ConfigurationError

    try:
        composition = composed(invocation, open_host(invocation), invocation.settings.mode)
    except ConfigurationError:
        return False  # what is wrong with the mode is for `lash doctor` to say
    if name not in composition.tools:
        return False
    reason = why_not(composition.catalog, NO_TOOL_WORDS, name)
    heading(f"tool {name} of plugin {composition.tools[name].plugin_id}, in mode {composition.mode.mode_id}")
    click.echo(f"the model:    {'may call it' if reason is None else f'may not call it, {reason}'}")
    rows = [row for row in composition.provenance if row.name == name and row.kind in ("tool", "hide", "annotate")]
    click.echo()
    print_table(("what", "plugin", "detail"), [(row.kind, row.plugin_id, clean(row.detail)) for row in rows], empty="-")
    return True


def _tell_loaded(plugin: LoadedPlugin, place: int, count: int) -> None:
    info = plugin.info
    heading(f"{plugin.plugin_id} is loaded")
    facts = {
        "summary": info.summary,
        "version": plugin.version,
        "distribution": plugin.distribution or "(given in code)",
        "order": f"{place} of {count}" + (f", after {', '.join(info.after)}" if info.after else ""),
        "requires": ", ".join(info.requires),
        "conflicts": ", ".join(info.conflicts),
        "replaces": ", ".join(info.replaces),
        "in modes": "every mode" if info.enabled_by_default else "only modes that name it",
        "module": shortened(repr(plugin.plugin), 200),
    }
    for name, value in facts.items():
        if value:
            click.echo(f"{name + ':':14}{value}")
    click.echo()
    print_table(("hook", "runs as", "if it raises"), _hook_rows(plugin.plugin), empty="it implements no hook")


def _hook_rows(plugin: object) -> list[tuple[str, str, str]]:
    from lash_hookspecs.specs import HOOKS

    return [(name, str(HOOKS[name].runner.value), HOOKS[name].on_error) for name in hooks_of(plugin)]
