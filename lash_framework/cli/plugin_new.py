"""`lash plugins new`: a package of a plugin that installs, passes its tests, and is there to be changed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from lash_framework.cli.exits import ExitCode
from lash_framework.cli.options import Invocation, common

__all__ = ["new"]

KINDS = ("hook", "tool", "provider", "store", "mode")


@click.command(short_help="Write a package of a plugin, with tests, to start from.")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What the plugin is to be.")
@click.option("--path", "parent", metavar="DIR", default=".", help="The folder that the package is put into (here).")
@common
def new(invocation: Invocation, name: str, kind: str, parent: str) -> int:
    """Write the package lash-plugin-NAME: pyproject.toml, README, plugin.py, and tests that pass.

    NAME is lower case, with hyphens; of a provider, store or mode the kind is a part of the plugin's id: `new acme
    --kind provider` is `provider-acme`, and its models are `acme:NAME`. Nothing that is there is overwritten.
    """
    from lash_framework.cli.templates import NewPlugin, name_fault
    from lash_framework.discovery import installed
    from lash_hookspecs.errors import ConfigurationError

    if (fault := name_fault(name)) is not None:
        raise click.UsageError(f"`{name}` can't be a plugin's name: {fault}", click.get_current_context())
    plugin = NewPlugin(name=name, kind=kind)
    taken = next((each for each in installed()[0] if each.plugin_id == plugin.id), None)
    if taken is not None:
        raise ConfigurationError(
            f"the plugin `{plugin.id}` is installed already, from `{taken.distribution}`; choose another name"
        )
    folder = Path(parent).expanduser() / plugin.distribution
    _write(folder, plugin.files())
    click.echo(f"{folder}: a {kind}, the plugin `{plugin.id}`")
    click.echo("next:")
    for line in (f"cd {folder}", 'pip install -e ".[test]"', "pytest", f"lash plugins why {plugin.id}"):
        click.echo(f"  {line}")
    return ExitCode.FINISHED


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """All of it or nothing: it is written beside its place, and moved there in one step."""
    from lash_hookspecs.errors import ConfigurationError

    if folder.exists() or folder.is_symlink():
        raise ConfigurationError(
            f"`{folder}` is there already, and nothing is overwritten; choose another name or --path"
        )
    if not folder.parent.is_dir():
        raise ConfigurationError(
            f"there is no folder `{folder.parent}` to put it into; create it, or choose another --path"
        )
    draft = None
    try:
        draft = Path(tempfile.mkdtemp(prefix=".lash-new-", dir=folder.parent))
        draft.chmod(0o755)
        for name, text in texts.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_text(text, encoding="utf-8")
        draft.rename(folder)
    except OSError as error:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
        raise ConfigurationError(f"`{folder}` can't be written: {error.strerror or error}") from error
