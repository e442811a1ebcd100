"""`lash plugins why`: a plugin, a tool, what a plugin offers, or a line of the prompt: whose it is, and why (not)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from lash_framework.cli.exits import ExitCode, complain
from lash_framework.cli.hosts import hooks_of, offers, open_host, read_report, switched_off_by
from lash_framework.cli.lines import clean, shortened
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.tables import heading, print_table

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.host import PluginHost
    from lash_framework.plugins import LoadedPlugin, LoadReport

__all__ = ["why"]

_NAME = re.compile(r"[\w.:-]+")


@click.command()
@click.argument("name", metavar="NAME|TOOL|LINE")
@click.option("--turn", metavar="TURN", help="Look for LINE in the prompt of this stored turn (its id's beginning).")
@common
def why(invocation: Invocation, name: str, turn: str | None) -> int:
    """Whose it is, and why it is or isn't there.

    NAME is a plugin: its hooks and its place in the order, or its traceback and what to do; or what one offers: a mode,
    a model provider, a store's scheme, an effect host, a command, an action. TOOL is a tool of the mode (--mode). LINE
    is some text of the prompt, of more than one word: who said it, or why it was left out. For that a turn is begun in
    memory; no model is asked.

    Exit code 1: the plugin failed, or nothing has that text.
    """
    if turn is not None or not _NAME.fullmatch(name):
        return _tell_line(invocation, name, turn)
    report, conflict = read_report(invocation)
    if conflict is not None and name in conflict:
        complain(conflict)
    if (code := _tell_plugin(invocation, report, name)) is not None:
        return code
    return _tell_offered(invocation, report, name)


# ---- plugins --------------------------------------------------------------------------------------------------------


def _tell_plugin(invocation: Invocation, report: LoadReport, name: str) -> int | None:
    """None: no plugin has this id."""
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
    return None


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
        "declares": ", ".join(sorted(info.capabilities)) or "nothing that it reaches for",
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


# ---- what plugins offer ---------------------------------------------------------------------------------------------


def _tell_offered(invocation: Invocation, report: LoadReport, name: str) -> int:
    from lash_hookspecs.errors import LashError, UnknownName

    host = open_host(invocation)
    compositions = {}
    for mode_id in host.modes:
        try:
            compositions[mode_id] = host.composition(mode_id)
        except LashError as error:
            complain(f"warning: mode `{mode_id}` can't be put together: {error}")
    mine = compositions.get(invocation.settings.mode)
    having = {mode_id: each for mode_id, each in compositions.items() if name in each.tools}
    if mine is not None and name in mine.tools:
        _tell_tool(mine, name)
    elif having:
        _tell_tool_elsewhere(invocation.settings.mode, having, name)
    elif (found := _claimed(host, name)) is not None:
        click.echo(found)
    else:
        known = {*report.known, *(tool for each in compositions.values() for tool in each.tools)}
        unknown = UnknownName("plugin or tool", name, known, None if known else "no plugin is installed")
        if toolsets := sorted({str(each) for made in compositions.values() for each in made.catalog.toolsets}):
            unknown.add_note(
                f"the tools of {', '.join(toolsets)} are known as a turn starts: `lash explain TURN` has them"
            )
        raise unknown
    return ExitCode.FINISHED


def _tell_tool(composition: Composition, name: str) -> None:
    from lash_framework.session_tools import why_not
    from lash_framework.state import NO_TOOL_WORDS

    rows = [each for each in composition.provenance if each.name == name and each.kind in ("tool", "hide", "annotate")]
    mode_id, owner = composition.mode.mode_id, composition.tools[name].plugin_id
    hidden = [each.plugin_id for each in rows if each.kind == "hide"]
    if name in composition.callable_names:
        heading(f"tool {name} is there for the model, in mode {mode_id}")
    else:
        heading(f"tool {name} is not there for the model, in mode {mode_id}")
    manifest = composition.tools[name].tool.manifest
    facts = {
        "plugin": owner,
        "reason": why_not(composition.catalog, NO_TOOL_WORDS, name) or "",
        "hidden by": ", ".join(hidden),
        "activation": str(manifest.activation.value),
        "effect": str(manifest.effect),
        "says": shortened(manifest.description, 200),
    }
    for fact, value in facts.items():
        if value:
            click.echo(f"{fact + ':':14}{clean(value)}")
    for each in rows:
        if each.detail:
            click.echo(f"{each.kind + ':':14}by {each.plugin_id}: {clean(each.detail)}")


def _tell_tool_elsewhere(mode_id: str, having: dict[str, Composition], name: str) -> None:
    heading(f"tool {name} is not in mode {mode_id}")
    for other, composition in having.items():
        owner = composition.tools[name].plugin_id
        advice = f"take `--mode {other}`, or add `{owner}` to the plugins of mode {mode_id}"
        click.echo(f"it is in mode {other}, of plugin {owner}: {advice}")


def _claimed(host: PluginHost, name: str) -> str | None:
    for what, table in offers(host).items():
        if name in table:
            return f"{what} {name} is of plugin {table[name].plugin_id}"
    return None


# ---- lines of the prompt --------------------------------------------------------------------------------------------


def _tell_line(invocation: Invocation, line: str, turn: str | None) -> int:
    import anyio

    from lash_framework.cli.prompt_lines import Prompt, begun, find_lines

    async def look() -> Prompt:
        if turn is None:
            return await begun(invocation.settings)
        async with invocation.open(existing=True) as lash:
            return Prompt(explanation=await lash.explain(turn, invocation.session))

    if not line.strip():
        raise click.UsageError("which line? give some of its words", click.get_current_context())
    invocation.ask_for_trust()
    prompt = anyio.run(look)
    found = find_lines(prompt, line)
    where = f"the prompt of mode {prompt.explanation.mode_id}" if turn is None else f"turn {prompt.explanation.turn_id}"
    if not found:
        hint = " (what was left out is known by its title only)" if turn is not None else ""
        complain(f"nothing in {where} holds `{shortened(line, 80)}`{hint}; `lash explain TURN --text` shows all of one")
        return ExitCode.STOPPED
    for each in found:
        heading(shortened(clean(each.text), 200))
        click.echo(f"{'said by:':14}{', '.join(each.plugin_ids)}")
        click.echo(f"{'place:':14}{each.place}")
        click.echo(f"{'in it:':14}{'yes, ' + where if each.dropped is None else 'no: ' + each.dropped}")
    return ExitCode.FINISHED
