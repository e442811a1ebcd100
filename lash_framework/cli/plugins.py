"""`lash plugins`: the group, and its commands `list` and `why`; each other one is a module of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.exits import complain
from lash_framework.cli.groups import NearestGroup
from lash_framework.cli.hosts import hooks_of, offered, read_report
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.output import print_json
from lash_framework.cli.plugin_bisect import bisect
from lash_framework.cli.plugin_lock import lock
from lash_framework.cli.plugin_new import new
from lash_framework.cli.plugin_trace import trace
from lash_framework.cli.plugin_why import why
from lash_framework.cli.tables import print_table

if TYPE_CHECKING:
    from lash_framework.plugins import LoadReport

__all__ = ["plugins"]


@click.group(cls=NearestGroup)
def plugins() -> None:
    """Which plugins are loaded, why one is not, and tools for who writes or suspects one."""


def _rows(report: LoadReport, offers: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    def row(each: Any, state: str, reason: str = "", **more: Any) -> dict[str, Any]:
        return {
            "id": each.plugin_id,
            "version": None,
            "distribution": each.distribution,
            "state": state,
            "hooks": [],
            "offers": offers.get(each.plugin_id, []) if state == "loaded" else [],
            "requires": [],
            "capabilities": [],
            "reason": reason,
            **more,
        }

    loaded = [
        row(
            each,
            "loaded",
            version=each.version,
            hooks=hooks_of(each.plugin),
            requires=list(each.info.requires),
            capabilities=sorted(each.info.capabilities),
        )
        for each in report.loaded
    ]
    failed = [row(each, "failed", f"{each.stage}: {each.message}") for each in report.failed]
    blocked = [row(each, "off", each.reason) for each in report.blocked]
    return [*loaded, *failed, *blocked]


@plugins.command("list", short_help="Every plugin that was found, and its state.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common
def list_(invocation: Invocation, as_json: bool) -> None:
    """Every plugin that was found: loaded (in the order of their hooks), failed, switched off."""
    report, conflict = read_report(invocation)
    rows = _rows(report, offered(invocation) if as_json else {})
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("plugin", "version", "distribution", "state", "declares", "hooks"),
            [
                (
                    each["id"],
                    each["version"] or "-",
                    each["distribution"] or "-",
                    each["state"],
                    ", ".join(each["capabilities"]) or "-",
                    _names(each["hooks"]),
                )
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


for command in (why, new, trace, bisect, lock):
    plugins.add_command(command)
