"""`lash modes list|show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.groups import NearestGroup
from lash_framework.cli.hosts import composed, open_host
from lash_framework.cli.lines import shortened
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.output import print_json
from lash_framework.cli.tables import heading, print_table

if TYPE_CHECKING:
    from lash_framework.composition import Composition

__all__ = ["modes"]


@click.group(cls=NearestGroup)
def modes() -> None:
    """Modes, and who added each of their pieces."""


@modes.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common
def list_(invocation: Invocation, as_json: bool) -> None:
    """The modes that plugins and lash.toml offer."""
    host = open_host(invocation)
    rows = [
        {
            "mode": name,
            "extends": owned.value.extends,
            "from": _source(invocation, name, owned.plugin_id),
            "default": name == invocation.settings.mode,
            "summary": owned.value.summary,
        }
        for name, owned in sorted(host.modes.items())
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("mode", "extends", "from", "summary"),
        [
            (
                f"{each['mode']}{' (default)' if each['default'] else ''}",
                each["extends"] or "-",
                each["from"],
                each["summary"],
            )
            for each in rows
        ],
        empty="no modes: install one, such as `pip install lash-plugin-mode-standard`",
    )


def _source(invocation: Invocation, mode_id: str, plugin_id: str) -> str:
    path = f"modes.{mode_id}"
    return invocation.settings.source_of(path) if mode_id in invocation.settings.modes else plugin_id


@modes.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@common
def show(invocation: Invocation, name: str | None, as_json: bool) -> None:
    """A mode as it is resolved, with the owner of each piece. NAME: default is the mode in the settings."""
    host = open_host(invocation)
    composition = composed(invocation, host, name or invocation.settings.mode)
    mode = composition.mode
    extends = host.modes[mode.mode_id].value.extends
    if as_json:
        print_json(_object(composition, extends))
        return
    heading(f"mode {mode.mode_id}" + (f" (extends {extends})" if extends else ""))
    if mode.summary:
        click.echo(mode.summary)
    sections: dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]] = {
        "Plugins": (
            ("plugin", "version", "distribution"),
            [(each.plugin_id, each.version or "-", each.distribution or "-") for each in composition.plugins],
        ),
        "Tools": (
            ("tool", "plugin", "effect", "description"),
            [
                (each.name, composition.tools[each.name].plugin_id, each.effect, shortened(each.description, 60))
                for each in composition.manifests
            ],
        ),
        "Options": (("option", "value"), [(key, shortened(value, 80)) for key, value in mode.options.items()]),
        "Options of plugins": (("option", "value"), _plugin_options(composition)),
        "Checkpoints of its own": (
            ("checkpoint", "when"),
            list(mode.driver.checkpoints.items()) if mode.driver else [],
        ),
        "Who added what": (("kind", "name", "plugin", "detail"), _provenance(composition)),
    }
    for title in ("Options of plugins", "Checkpoints of its own"):
        if not sections[title][1]:
            del sections[title]
    for title, (columns, rows) in sections.items():
        click.echo()
        heading(title)
        print_table(columns, rows, empty="none")


def _plugin_options(composition: Composition) -> list[tuple[str, str]]:
    """What modes say of options, as it came out; nothing that is secret."""
    from lash_framework.settings import secret_fields
    from lash_hookspecs.codec import unstructure

    rows = []
    secrets = {each.plugin_id: secret_fields(each.info.options) for each in composition.plugins}
    for plugin_id, said in composition.mode.plugin_options.items():
        options = composition.options.get(plugin_id)
        for key in said if options is not None else ():
            value = options[key] if isinstance(options, Mapping) else getattr(options, key)
            is_secret = key in secrets[plugin_id] or isinstance(options, Mapping)
            rows.append((f"{plugin_id}.{key}", "***" if is_secret else shortened(unstructure(value), 80)))
    return rows


def _provenance(composition: Composition) -> list[tuple[Any, ...]]:
    return [
        (each.kind, each.name, each.plugin_id, shortened(getattr(each, "detail", "") or "", 80))
        for each in composition.provenance
    ]


def _object(composition: Composition, extends: str | None) -> dict[str, Any]:
    mode = composition.mode
    return {
        "mode": mode.mode_id,
        "extends": extends,
        "max_turns": mode.max_turns,
        "options": dict(mode.options),
        "plugin_options": dict(_plugin_options(composition)),
        "checkpoints": dict(mode.driver.checkpoints) if mode.driver else {},
        "plugins": [each.plugin_id for each in composition.plugins],
        "tools": {each.name: composition.tools[each.name].plugin_id for each in composition.manifests},
        "provenance": [
            {"kind": kind, "name": name, "plugin": plugin_id, "detail": detail}
            for kind, name, plugin_id, detail in _provenance(composition)
        ],
    }
