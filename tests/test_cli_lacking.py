"""Installations that lack something: real processes that see no more of this environment than is linked for them."""

from __future__ import annotations

import socket
import subprocess
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_kit import Cli

import lash_framework
import lash_hookspecs
from lash_hookspecs.errors import nearest

pytestmark = pytest.mark.costly

SITE = Path(pytest.__file__).parent.parent
OURS = [Path(each.__file__).parent for each in (lash_framework, lash_hookspecs)]
PLUGINS = OURS[0].parent / "plugins"


def lash_without(folder: Path, plugins: tuple[str, ...], without: tuple[str, ...] = ()) -> list[str]:
    """`lash` in an environment that has all of this one, but for these, and for plugins that aren't named."""
    venv.create(folder / "venv", symlinks=True)
    (made,) = (folder / "venv").glob("lib/*/site-packages")
    for each in SITE.iterdir():
        if each.suffix not in (".dist-info", ".pth") and each.name.partition(".")[0] not in without:
            (made / each.name).symlink_to(each)
    packages = [*OURS, PLUGINS / "lash-provider-kit" / "lash_provider_kit"]
    for plugin in plugins:
        name = f"lash_plugin_{plugin.replace('-', '_')}"
        packages.append(PLUGINS / f"lash-plugin-{plugin}" / name)
        metadata = Path(str(distribution(f"lash-plugin-{plugin}")._path))  # type: ignore[attr-defined]
        (made / metadata.name).symlink_to(metadata)
    for package in packages:
        (made / package.name).symlink_to(package)
    return [str(folder / "venv" / "bin" / "python"), "-m", "lash_framework"]


class Lacking(NamedTuple):
    """What is there, what is typed, and what is said."""

    plugins: tuple[str, ...]
    typed: str
    says: str
    without: tuple[str, ...] = ()
    code: int = 2


USUAL = ("mode-standard", "store-sql", "provider-openai")
ALL = 'no plugin here offers one; `pip install "lash-framework[standard]"` brings the usual ones'
SCRIPTED = (
    f"unknown provider `scripted`: {nearest('', ['openai', 'openai-chat'])}; it works offline, once "
    "`pip install lash-plugin-provider-scripted` has brought it"
)
HERE = "run hi --model openai-chat:m --set provider.openai-chat.retry=off --set provider.openai-chat.api_key=k --set"

LACKING = {
    "click": Lacking(
        USUAL,
        "run hi",
        'the command line is an extra that is not installed: `pip install "lash-framework[standard]"`',
        without=("click",),
    ),
    "every plugin": Lacking((), "run hi", f"unknown mode `standard`: {ALL}"),
    "every plugin, and a demo": Lacking((), "demo", f"unknown mode `standard`: {ALL}"),
    "every provider": Lacking(USUAL[:2], "chat", f"unknown provider `scripted`: {ALL}"),
    "every store": Lacking((*USUAL[:1], "provider-scripted"), "run hi", f"unknown store scheme `sqlite`: {ALL}"),
    "the model that nobody chose": Lacking(USUAL, "run hi", SCRIPTED),
    "the demo's model": Lacking(USUAL, "demo", SCRIPTED),
    "trio, aiohttp, rich, uvloop": Lacking(
        USUAL,
        f"{HERE} provider.openai-chat.base_url=http://127.0.0.1:PORT/v1",
        "openai-chat: nothing listens at http://127.0.0.1:PORT/v1/chat/completions (connection refused): is the "
        "service running, and is the base URL right?",
        without=("trio", "aiohttp", "httpx_aiohttp", "rich", "uvloop"),
        code=1,
    ),
}


@pytest.mark.parametrize("case", LACKING)
def test_what_is_not_installed_is_named_with_what_to_install(case: str, tmp_path: Path) -> None:
    plugins, typed, says, without, code = LACKING[case]
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # and nobody listens
        port = str(unheard.getsockname()[1])
        command = [*lash_without(tmp_path, plugins, without), *typed.replace("PORT", port).split()]
        done = subprocess.run(command, cwd=tmp_path, env=Cli(tmp_path).env(), capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[0]) == (code, f"lash: {says.replace('PORT', port)}")
    assert len(done.stderr.splitlines()) == code % 2 + 1, done.stderr


def test_what_is_stored_can_be_looked_at_where_the_offline_model_is_not_installed(tmp_path: Path) -> None:
    """Nobody had chosen a model, so every command asked for the one that answers then."""
    lash = Cli(tmp_path)
    assert lash.run("run", "hi", "--session", "s").code == 0
    command = lash_without(tmp_path, USUAL)
    done = subprocess.run(
        [*command, "sessions", "show", "s"], cwd=tmp_path, env=lash.env(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "assistant\nYou said" in done.stdout
    found = subprocess.run([*command, "doctor"], cwd=tmp_path, env=lash.env(), capture_output=True, text=True).stdout
    rows = {line.split()[0]: line.split()[1] for line in found.splitlines()}
    assert (rows["store"], rows["model"]) == ("ok", "broken")
