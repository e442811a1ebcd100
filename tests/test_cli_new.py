"""`lash plugins new`: what it refuses, what it writes, and that all of it works, installed as a user would."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_kit import Cli, Ended

from lash_framework.cli import plugin_new
from lash_framework.cli.templates import KINDS, NewPlugin

Here = Callable[..., Ended]

NAMES = {"hook": "t-hook", "tool": "t-tool", "provider": "t", "store": "t", "mode": "mode-t"}
IDS = {"hook": "t-hook", "tool": "t-tool", "provider": "provider-t", "store": "store-t", "mode": "mode-t"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    lash = Cli(tmp_path)
    return lambda *args: lash.here(monkeypatch, capsys, "plugins", "new", *args)


# ---- what is written ------------------------------------------------------------------------------------------------


def test_the_command_knows_the_kinds_that_there_are() -> None:
    assert set(plugin_new.KINDS) == KINDS.keys() == NAMES.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_has_the_shape_of_ours(here: Here, tmp_path: Path, kind: str) -> None:
    done = here(NAMES[kind], "--kind", kind)
    assert done.code == 0, done.err
    id = IDS[kind]
    folder = tmp_path / f"lash-plugin-{id}"
    package = f"lash_plugin_{id.replace('-', '_')}"
    assert f"lash plugins why {id}" in done.out
    metadata = tomllib.loads((folder / "pyproject.toml").read_text())
    assert metadata["project"]["entry-points"] == {"lash": {id: f"{package}.plugin"}}
    assert (folder / "README.md").read_text().startswith(f"# lash-plugin-{id}\n")
    assert (folder / package / "py.typed").exists()
    assert len((folder / package / "plugin.py").read_text().splitlines()) <= 40
    for path in folder.rglob("*.py"):
        text = path.read_text()
        ast.parse(text)
        assert "$" not in text
        assert max(map(len, text.splitlines())) <= 120
    assert list(tmp_path.glob(".lash-new-*")) == []


def test_it_goes_where_it_is_told(here: Here, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert here("t-x", "--kind", "tool", "--path", "sub").code == 0
    assert (tmp_path / "sub" / "lash-plugin-t-x" / "pyproject.toml").exists()


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Weather", "lower-case"),
        ("my_tool", "joined by hyphens"),
        ("-x", "No such option"),
        ("a--b", "joined by hyphens"),
        ("1st", "a letter first"),
        ("../x", "lower-case"),
        ("ä", "lower-case"),
        ("x\n", "lower-case"),
        ("", "lower-case"),
        ("x" * 41, "at most 40"),
        ("lash-plugin-x", "leave `lash-plugin-` out, it is added: `x`"),
        ("application", "lash itself has that name"),
    ],
)
def test_a_name_that_cant_be_one_is_refused(here: Here, tmp_path: Path, name: str, said: str) -> None:
    done = here(name, "--kind", "tool")
    assert (done.code, said in done.err) == (2, True), done
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hello", "--kind", "tool"), "the plugin `hello` is installed already, from `lash-plugin-hello`"),
        (("sql", "--kind", "store"), "the plugin `store-sql` is installed already"),
        (("x", "--kind", "tol"), "'tol'"),
        (("x",), "--kind"),
        (("x", "--kind", "tool", "--path", "nowhere"), "there is no folder `nowhere`"),
    ],
)
def test_what_else_cant_be_is_said(here: Here, arguments: tuple[str, ...], said: str) -> None:
    done = here(*arguments)
    assert (done.code, said in done.err) == (2, True), done


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(here: Here, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "lash-plugin-t-x"
    match kind:
        case "folder":
            place.mkdir()
        case "file":
            place.write_text("mine")
        case "link":
            place.symlink_to(tmp_path / "nowhere")
    done = here("t-x", "--kind", "tool")
    assert (done.code, "nothing is overwritten" in done.err) == (2, True), done
    assert sorted(tmp_path.rglob("*")) == [place]


# ---- a fresh environment --------------------------------------------------------------------------------------------


class Environment:
    """A Python with lash, and with nothing of this checkout's plugins' tests; the five plugins are installed by pip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "env", with_pip=False, symlinks=os.name != "nt")
        paths = {"base": str(folder / "env")}
        self.python = Path(sysconfig.get_path("scripts", "venv", paths), "python")
        # What this environment has, the other one sees, as that of `.ci/alone.py` does: nothing is downloaded.
        line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        Path(sysconfig.get_path("purelib", "venv", paths), "shared.pth").write_text(line, encoding="utf-8")

    def run(self, *args: str | Path, cwd: Path | None = None, code: int = 0) -> str:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("LASH_", "PYTHON", "PYTEST_"))
        }
        command = [self.python, "-P", "-m", *args]
        env = {**kept, "XDG_DATA_HOME": str(self.folder)}
        done = subprocess.run(command, cwd=cwd or self.folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("fresh"))
    for kind, name in NAMES.items():
        made.run("lash_framework", "plugins", "new", name, "--kind", kind)
    packages = sorted(made.folder.glob("lash-plugin-*"))
    options = ["-qq", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "--python", str(made.python), "install", *options]
    subprocess.run([*pip, *map(str, packages)], check=True)
    return made


@pytest.mark.costly
@pytest.mark.parametrize("kind", KINDS)
def test_a_package_installs_and_passes_its_own_tests(environment: Environment, kind: str) -> None:
    folder = environment.folder / NewPlugin(name=NAMES[kind], kind=kind).distribution
    said = environment.run("pytest", "-v", "-p", "no:cacheprovider", cwd=folder)
    assert {"asyncio", "trio"} <= {*re.findall(r"\[(\w+)", said)}


@pytest.mark.costly
def test_what_is_installed_is_listed_and_loaded(environment: Environment) -> None:
    rows = {each["id"]: each for each in json.loads(environment.run("lash_framework", "plugins", "list", "--json"))}
    states = {id: (rows[id]["state"], rows[id]["distribution"]) for id in IDS.values()}
    assert states == {id: ("loaded", f"lash-plugin-{id}") for id in IDS.values()}
    assert rows["provider-t"]["offers"] == ["provider t"]
    said = environment.run("lash_framework", "run", "--model", "t:echo", "--mode", "t", "--store", "t:", "Hello you")
    assert said == "You said: Hello you\n"
