"""`lash explain TURN`: which plugin put what before the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.lines import clean, say
from lash_framework.cli.options import Invocation, common_with
from lash_framework.cli.output import print_json
from lash_framework.cli.tables import heading, print_table

if TYPE_CHECKING:
    from lash_framework.explain import ExplainedPrompt, Explanation, OwnedLine

__all__ = ["explain"]


@click.command()
@click.argument("turn")
@click.option("--text", "with_text", is_flag=True, help="Show the prompt, with the owner of each line.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@common_with("The session that the turn is of, where several have one of that id.")
def explain(invocation: Invocation, turn: str, with_text: bool, as_json: bool) -> None:
    """Which plugin put each prompt section, tool and setting there. TURN: its id, or the beginning of it."""
    if not turn.strip():
        raise click.UsageError("which turn? `lash sessions show SESSION` lists their ids", click.get_current_context())

    explanation = invocation.with_lash(lambda lash: lash.explain(turn, invocation.session))
    if as_json:
        from lash_hookspecs.codec import unstructure

        whole = [{"plugin_ids": each.plugin_ids, "text": each.text} for each in explanation.lines]
        print_json({**unstructure(explanation), "lines": whole})
        return
    heading(f"turn {explanation.turn_id}")
    say(f"session {explanation.session_id}, mode {explanation.mode_id}, model {explanation.model}")
    _show("Prompt", ("section", "slot", "plugin", "characters"), map(_prompt_row, explanation.prompt))
    if with_text:
        _show_text(explanation.lines)
    for title, columns, rows, is_always_shown in _sections(explanation):
        if rows or is_always_shown:
            _show(title, columns, rows)


_Row = tuple[Any, ...]


def _sections(turn: Explanation) -> Iterator[tuple[str, tuple[str, ...], list[_Row], bool]]:
    """Title, columns and rows of all that comes behind the prompt, and whether it is shown without rows, too."""
    changes: list[_Row] = [(each.part, each.name, each.change, ", ".join(each.plugin_ids)) for each in turn.changes]
    yield "Not as in the model call before", ("what", "name", "change", "plugin"), changes, False
    tools: list[_Row] = [(each.name, each.plugin_id, each.detail) for each in turn.tools]
    yield "Tools", ("tool", "plugin", "changed"), tools, True
    acts: list[_Row] = [(each.plugin_id, clean(each.what)) for each in turn.acts]
    yield "What plugins did to the turn", ("plugin", "what it did"), acts, False
    calls: list[_Row] = [(each.call_id, each.tool_name, each.plugin_id, each.what) for each in turn.calls]
    yield "Tool calls", ("call", "tool", "plugin", "what it did"), calls, False
    withheld: list[_Row] = [(each.name, each.plugin_id, each.reason) for each in turn.withheld]
    yield "Tools that the model was not told of", ("tool", "plugin", "why"), withheld, False
    settings: list[_Row] = [(each.key, each.value, each.source) for each in turn.settings]
    yield "Settings", ("setting", "value", "from"), settings, True
    plugins: list[_Row] = [(each.plugin_id, each.version, each.distribution or "-") for each in turn.plugins]
    yield "Plugins", ("plugin", "version", "distribution"), plugins, True


def _show(title: str, columns: tuple[str, ...], rows: Iterable[_Row]) -> None:
    click.echo()
    heading(title)
    print_table(columns, list(rows), empty="none")


def _show_text(lines: Sequence[OwnedLine]) -> None:
    width = max((len(", ".join(each.plugin_ids)) for each in lines), default=0)
    click.echo()
    for each in lines:
        click.secho(f"{', '.join(each.plugin_ids):<{width}}  ", bold=True, nl=False)
        click.echo(clean(each.text))


def _prompt_row(piece: ExplainedPrompt) -> _Row:
    what = piece.title or piece.section or "(no heading)"
    owners = ", ".join(piece.plugin_ids)
    return (what, piece.slot or "-", owners, _left_out(piece) if piece.dropped else len(piece.text or ""))


def _left_out(piece: ExplainedPrompt) -> str:
    because = f" ({piece.because})" if piece.because else ""
    return f"left out: {piece.dropped}{because}"
