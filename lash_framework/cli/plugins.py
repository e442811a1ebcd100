"""`lash plugins`: the group, and its commands `list` and `why`; each other one is a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.exits import complain
from lash_framework.cli.hosts import hooks_of, read_report
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.output import print_json
from lash_framework.cli.plugin_lock import lock
from lash_framework.cli.plugin_why import why
from lash_framework.cli.tables import print_table

if TYPE_CHECKING:
    from lash_framework.plugins import LoadReport

__all__ = ["plugins"]


@click.group()
def plugins() -> None:
    """Which plugins are loaded, and why one is not."""


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


for command in (why, lock):
    plugins.add_command(command)
