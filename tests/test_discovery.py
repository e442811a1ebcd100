"""Discovery of plugins that are really installed: wheels made here, unpacked into a scratch site, a new process.

Needs nothing of the checkout, and passes with any other plugin installed: only ids that start with `t-` are looked at.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

# ---- wheels ---------------------------------------------------------------------------------------------------------


def make_wheel(
    folder: Path, name: str, entry_points: Mapping[str, str] | str, modules: Mapping[str, str], version: str = "1.0"
) -> Path:
    """A wheel with these modules, written by hand: what a build backend would write, without one."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    if not isinstance(entry_points, str):
        entry_points = "[lash]\n" + "".join(f"{key} = {value}\n" for key, value in entry_points.items())
    files = {f"{module}.py": dedent(source) for module, source in modules.items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = entry_points
    record = [f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in files.items()]
    files[f"{info}/RECORD"] = "".join(record) + f"{info}/RECORD,,\n"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def unpack(wheel: Path, site: Path) -> None:
    """What installing a wheel of plain modules is."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


def python(code: str, *sites: Path, argument: object = None) -> Any:
    """Run code in a new process that finds these sites first, and return what it printed, as JSON."""
    path = os.pathsep.join([*map(str, sites), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-P", "-c", code, json.dumps(argument)]
    done = subprocess.run(command, env=environment, cwd=sites[0], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


REPORT = """
import json, sys
from attrs import asdict
from lash_framework.hooks import Owned
from lash_framework.host import PluginHost
from lash_hookspecs import Mode, ModeDriver

host = PluginHost(modes=[Mode(mode_id="t-mode", driver=ModeDriver(make=object))], **json.loads(sys.argv[1]))
report = host.report

def ours(rows):
    return [each for each in rows if each["plugin_id"].startswith(("t-", "lash-plugin-t-"))]

print(json.dumps({
    "loaded": ours([{
        "plugin_id": each.plugin_id, "distribution": each.distribution, "version": each.version, "source": each.source,
    } for each in report.loaded]),
    "failed": ours([asdict(each) for each in report.failed]),
    "blocked": ours([asdict(each) for each in report.blocked]),
    "imported": [name for name in sys.modules if name.startswith("lash_plugin_t_")],
    "providers": {name: owned.plugin_id for name, owned in host.providers.items() if name.startswith("t-")},
    "tools": {name: owned.plugin_id for name, owned in host.composition("t-mode").tools.items()},
}))
"""


# ---- the plugins ----------------------------------------------------------------------------------------------------

HOOKIMPL = "from lash_hookspecs import hookimpl\n"
PROVIDER = """
from attrs import frozen
from lash_hookspecs import PluginInfo, ProviderSpec, hookimpl

@frozen
class Settings:
    key: str = ""

@hookimpl
def lash_providers():
    return [ProviderSpec(provider_id="t-model", settings=Settings, open=print)]
"""
INFO = """
from lash_hookspecs import PluginInfo, hookimpl

@hookimpl
def lash_plugin_info():
    return PluginInfo({})
"""

GOOD = {
    "t-good": """
        from lash_hookspecs import hookimpl, tool

        @tool
        async def t_now() -> str:
            "The time."
            return "noon"

        @hookimpl
        def lash_tools(ctx):
            return [t_now]

        @hookimpl
        async def lash_checkpoint(ctx):
            return []
    """,
    "t-after": INFO.format('id="t-after", after=("t-good", "t-absent"), version="7"'),
    "t-before": INFO.format('id="t-before"'),
    "t-provider-one": PROVIDER,
}

# Id, source, stage, and what the message must tell.
BROKEN: list[tuple[str, str, str, list[str]]] = [
    ("t-missing-module", "import a_module_that_is_not_there", "import", ["a_module_that_is_not_there"]),
    ("t-raises", "1 / 0", "import", ["ZeroDivisionError"]),
    ("t-exits", "raise SystemExit(3)", "import", ["SystemExit"]),
    ("t-syntax", "def lash_tools(:\n", "import", ["SyntaxError"]),
    ("t-no-attribute", HOOKIMPL, "import", ["AttributeError", "nothing"]),
    ("t-misspelt", f"{HOOKIMPL}@hookimpl\ndef lash_chekpoint(ctx): ...", "hooks", ["chekpoint", "`lash_checkpoint`"]),
    ("t-unmarked", "def lash_tools(ctx): return []", "hooks", ["`lash_tools`", "`@hookimpl`"]),
    ("t-argument", f"{HOOKIMPL}@hookimpl\ndef lash_tools(context): ...", "hooks", ["lash_tools", "context"]),
    ("t-async", f"{HOOKIMPL}@hookimpl\nasync def lash_tools(ctx): ...", "hooks", ["lash_tools", "plain `def`"]),
    ("t-wrapper", f"{HOOKIMPL}@hookimpl(wrapper=True)\ndef lash_tools(ctx): yield", "hooks", ["wrapper"]),
    (
        "t-lifespan",
        f"{HOOKIMPL}@hookimpl\nasync def lash_lifespan(host): yield",
        "hooks",
        ["lash_lifespan", "`@asynccontextmanager`"],
    ),
    ("t-newer", INFO.format('id="t-newer", api=">=2"'), "api", ["`>=2`", "this host has 0.3"]),
    ("t-newer-hooks", INFO.format('id="t-newer-hooks", api=">=2"') + "@hookimpl\ndef lash_x(): ...", "api", ["`>=2`"]),
    ("t-strange-api", INFO.format('id="t-strange-api", api="about 1"'), "api", ["`about 1`"]),
    ("t-other-id", INFO.format('id="t-another"'), "info", ["`t-another`", "`t-other-id`"]),
    ("t-info-raises", INFO.format("id=1 / 0"), "info", ["ZeroDivisionError"]),
    ("t-info-type", f"{HOOKIMPL}@hookimpl\ndef lash_plugin_info(): return 'me'", "info", ["`str`", "`PluginInfo`"]),
    ("t-provider-two", PROVIDER, "registration", ["provider `t-model`", "`t-provider-one`", "`lash-plugin-t-pro"]),
    (
        "t-modes-raise",
        f"{HOOKIMPL}@hookimpl\ndef lash_modes(): raise OSError('no disk')",
        "registration",
        ["lash_modes", "no disk"],
    ),
    (
        "t-modes-type",
        f"{HOOKIMPL}@hookimpl\ndef lash_modes(): return ['standard']",
        "registration",
        ["`str`", "`Mode`"],
    ),
    (
        "t-extension-raises",
        f"{HOOKIMPL}@hookimpl\ndef lash_mode_extensions(mode): raise OSError('no net')",
        "registration",
        ["lash_mode_extensions", "no net"],
    ),
    (
        "t-mutable-state",
        """
        from attrs import define
        from lash_hookspecs import SessionStateSpec, hookimpl

        @define
        class Seen:
            count: int = 0

        @hookimpl
        def lash_session_state():
            return SessionStateSpec(state=Seen)
        """,
        "registration",
        ["`Seen`", "frozen"],
    ),
    ("t-needs", INFO.format('id="t-needs", requires=("t-absent",)'), "requires", ["`t-absent`", "install"]),
    ("t-needs-broken", INFO.format('id="t-needs-broken", requires=("t-raises",)'), "requires", ["ZeroDivisionError"]),
    ("t-needs-needs", INFO.format('id="t-needs-needs", requires=("t-needs",)'), "requires", ["`t-needs`"]),
    ("t-needs-late", INFO.format('id="t-needs-late", requires=("t-modes-raise",)'), "requires", ["no disk"]),
    ("t-circle-a", INFO.format('id="t-circle-a", after=("t-circle-b",)'), "order", ["`t-circle-b`", "`after`"]),
    ("t-circle-b", INFO.format('id="t-circle-b", after=("t-circle-a",)'), "order", ["`t-circle-a`", "`after`"]),
]


def distribution_of(plugin_id: str) -> str:
    return f"lash-plugin-{plugin_id}"


def module_of(plugin_id: str) -> str:
    return f"lash_plugin_{plugin_id.replace('-', '_')}"


def wheel_of(folder: Path, plugin_id: str, source: str) -> Path:
    module = module_of(plugin_id)
    target = f"{module}:nothing" if plugin_id == "t-no-attribute" else module
    return make_wheel(folder, distribution_of(plugin_id), {plugin_id: target}, {module: source})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with every plugin of the tables, a disabled one, and two distributions with one id."""
    site = tmp_path_factory.mktemp("site")
    for plugin_id, source in [*GOOD.items(), *((row[0], row[1]) for row in BROKEN)]:
        unpack(wheel_of(site, plugin_id, source), site)
    unpack(wheel_of(site, "t-blocked", GOOD["t-good"]), site)
    for name in ("lash-plugin-t-twice-y", "lash-plugin-t-twice-x"):
        unpack(make_wheel(site, name, {"t-twice": name.replace("-", "_")}, {name.replace("-", "_"): ""}), site)
    return site


@pytest.fixture(scope="module")
def found(site: Path) -> Any:
    """What a new process makes of that site."""
    return python(REPORT, site, argument={"disabled": ["t-blocked"]})


# ---- what is found --------------------------------------------------------------------------------------------------


def test_good_plugins_are_loaded_in_order_whatever_else_is_broken(found: Any) -> None:
    """By `after`, and otherwise by id; an id in `after` may be absent."""
    loaded = [each["plugin_id"] for each in found["loaded"]]
    assert loaded == ["t-before", "t-good", "t-after", "t-provider-one", "t-twice"]


def test_a_loaded_plugin_names_its_distribution(found: Any) -> None:
    rows = {each["plugin_id"]: each for each in found["loaded"]}
    assert rows["t-after"] == {
        "plugin_id": "t-after",
        "distribution": "lash-plugin-t-after",
        "version": "1.0",
        "source": "entry point",
    }


def test_what_good_plugins_offer_is_there(found: Any) -> None:
    assert found["tools"]["t_now"] == "t-good"
    assert found["providers"] == {"t-model": "t-provider-one"}


@pytest.mark.parametrize(
    ("plugin_id", "stage", "tells"), [(row[0], *row[2:]) for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_law_6_a_broken_plugin_is_a_row_of_the_report(found: Any, plugin_id: str, stage: str, tells: list[str]) -> None:
    """The row says how far it came, why it is left out, and how to get rid of the row."""
    (row,) = [each for each in found["failed"] if each["plugin_id"] == plugin_id]
    assert (row["stage"], row["distribution"]) == (stage, distribution_of(plugin_id))
    assert [text for text in tells if text not in row["message"]] == [], row["message"]
    assert f"LASH_PLUGINS_DISABLED={plugin_id}" in row["remedy"]
    assert plugin_id not in [each["plugin_id"] for each in found["loaded"]]


def test_what_raised_is_shown_with_its_traceback(found: Any) -> None:
    (row,) = [each for each in found["failed"] if each["plugin_id"] == "t-raises"]
    assert "lash_plugin_t_raises.py" in row["traceback"]
    assert row["traceback"].rstrip().endswith("ZeroDivisionError: division by zero")


def test_the_table_has_every_row(found: Any) -> None:
    """Nothing fails that isn't expected to: the table above is complete."""
    failed = [each["plugin_id"] for each in found["failed"]]
    assert sorted(failed) == sorted([*(row[0] for row in BROKEN), "t-twice"])


def test_a_disabled_plugin_is_not_imported(found: Any) -> None:
    (row,) = found["blocked"]
    assert (row["plugin_id"], row["distribution"]) == ("t-blocked", "lash-plugin-t-blocked")
    assert "disabled" in row["reason"]
    assert module_of("t-blocked") not in found["imported"]


def test_of_two_distributions_with_one_id_the_first_by_name_is_loaded(found: Any) -> None:
    (loaded,) = [each for each in found["loaded"] if each["plugin_id"] == "t-twice"]
    (failed,) = [each for each in found["failed"] if each["plugin_id"] == "t-twice"]
    assert (loaded["distribution"], failed["distribution"]) == ("lash-plugin-t-twice-x", "lash-plugin-t-twice-y")
    assert failed["stage"] == "registration"
    assert "`lash-plugin-t-twice-x`" in failed["message"]
    assert "lash_plugin_t_twice_y" not in found["imported"]


def test_the_order_of_the_path_changes_nothing(tmp_path: Path) -> None:
    """What is on the disk in which order differs between machines; what a host loads must not."""
    sites = [tmp_path / "one", tmp_path / "two"]
    for site, name in zip(sites, ("lash-plugin-t-b", "lash-plugin-t-a"), strict=True):
        site.mkdir()
        module = name.replace("-", "_")
        entry_points = {"t-same": module, f"t-{name[-1]}": f"{module}_too"}
        unpack(make_wheel(site, name, entry_points, {module: "", f"{module}_too": ""}), site)
    assert python(REPORT, *sites, argument={}) == python(REPORT, *reversed(sites), argument={})


# ---- choosing -------------------------------------------------------------------------------------------------------


def test_only_what_is_named_is_imported(site: Path) -> None:
    """Asked for and absent is a row of its own; to be disabled and absent is fine."""
    found = python(REPORT, site, argument={"only": ["t-good", "t-god"], "disabled": ["t-nowhere"]})
    assert [each["plugin_id"] for each in found["loaded"]] == ["t-good"]
    assert found["imported"] == ["lash_plugin_t_good"]
    (row,) = found["failed"]
    assert (row["plugin_id"], row["stage"]) == ("t-god", "selection")
    assert "`t-good`" in row["message"]


def test_without_plugins_nothing_is_imported(site: Path) -> None:
    found = python(REPORT, site, argument={"only": []})
    assert (found["loaded"], found["failed"], found["imported"]) == ([], [], [])
    assert {each["plugin_id"] for each in found["blocked"]} >= {"t-good", "t-syntax", "t-blocked", "t-twice"}


def test_strict_raises_for_all_failures_at_once(site: Path) -> None:
    code = """
import json
from lash_framework.host import PluginHost
from lash_hookspecs import ConfigurationError
try:
    PluginHost(only=["t-good", "t-raises", "t-syntax"], strict=True)
except ConfigurationError as error:
    print(json.dumps(str(error)))
"""
    message = python(code, site)
    assert "`t-raises`" in message
    assert "`t-syntax`" in message


def test_a_plugin_of_the_application_wins_over_an_installed_one_visibly(site: Path) -> None:
    code = """
import json, sys
from types import SimpleNamespace
from lash_framework.plugins import load_plugins
from lash_hookspecs import PluginInfo, hookimpl
mine = SimpleNamespace(lash_plugin_info=hookimpl(lambda: PluginInfo(id="t-good", version="mine")))
_, report = load_plugins([mine], only=["t-good"])
(loaded,), (blocked,) = report.loaded, [each for each in report.blocked if each.plugin_id == "t-good"]
imported = "lash_plugin_t_good" in sys.modules
print(json.dumps([loaded.source, loaded.version, blocked.distribution, blocked.reason, imported]))
"""
    source, version, distribution, reason, imported = python(code, site)
    assert (source, version, distribution, imported) == ("code", "mine", "lash-plugin-t-good", False)
    assert "application" in reason


def test_a_broken_plugin_of_the_application_is_not_replaced_by_the_installed_one(site: Path) -> None:
    """Whoever passes a plugin of that id doesn't want the original; and least of all without noticing."""
    code = """
import json
from types import SimpleNamespace
from lash_framework.plugins import load_plugins
from lash_hookspecs import PluginInfo, hookimpl
info = hookimpl(lambda: PluginInfo(id="t-good"))
_, report = load_plugins([SimpleNamespace(lash_plugin_info=info, lash_tols=hookimpl(lambda: []))], only=["t-good"])
print(json.dumps([[each.plugin_id for each in rows] for rows in (report.loaded, report.failed)]))
"""
    assert python(code, site) == [[], ["t-good"]]


# ---- broken installations -------------------------------------------------------------------------------------------


def test_a_distribution_with_a_broken_file_spoils_no_other(tmp_path: Path) -> None:
    """importlib_metadata gives up on all entry points when one file has a line that is none, or is no text."""
    unpack(wheel_of(tmp_path, "t-good", GOOD["t-good"]), tmp_path)
    unpack(make_wheel(tmp_path, "lash-plugin-t-garbled", "[lash]\nthis is no entry point\n", {}), tmp_path)
    unpack(make_wheel(tmp_path, "t-somebody-else", "[other]\nnor is this\n", {}), tmp_path)
    unpack(make_wheel(tmp_path, "lash-plugin-t-bytes", {}, {}), tmp_path)
    (tmp_path / "lash_plugin_t_bytes-1.0.dist-info" / "entry_points.txt").write_bytes(b"[lash]\n\xff\xfe = \x00")
    found = python(REPORT, tmp_path, argument={})
    assert [each["plugin_id"] for each in found["loaded"]] == ["t-good"]
    names = ["lash-plugin-t-bytes", "lash-plugin-t-garbled"]
    assert sorted((each["distribution"], each["stage"]) for each in found["failed"]) == [(n, "metadata") for n in names]
    assert all("anew" in each["remedy"] for each in found["failed"])


def test_a_half_removed_distribution_is_a_row(tmp_path: Path) -> None:
    """An uninstall that was interrupted may leave the entry points and take the rest."""
    for plugin_id in ("t-good", "t-half"):
        unpack(wheel_of(tmp_path, plugin_id, GOOD["t-good"].replace("t_now", plugin_id.replace("-", "_"))), tmp_path)
    for name in ("METADATA", "RECORD", "WHEEL"):
        (tmp_path / "lash_plugin_t_half-1.0.dist-info" / name).unlink()
    found = python(REPORT, tmp_path, argument={})
    assert [each["plugin_id"] for each in found["loaded"]] == ["t-good"]
    assert [(each["plugin_id"], each["stage"]) for each in found["failed"]] == [("t-half", "metadata")]


def test_a_distribution_further_back_on_the_path_is_shadowed(tmp_path: Path) -> None:
    sites = [tmp_path / "new", tmp_path / "old"]
    for site, version in zip(sites, ("2.0", "1.0"), strict=True):
        site.mkdir()
        unpack(make_wheel(site, "lash-plugin-t-v", {"t-v": "lash_plugin_t_v"}, {"lash_plugin_t_v": ""}, version), site)
    found = python(REPORT, *sites, argument={})
    assert [(each["plugin_id"], each["version"]) for each in found["loaded"]] == [("t-v", "2.0")]
    assert found["failed"] == []


# ---- what it costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["plugins", "host", "composition", "hooks", "state"])
def test_importing_the_host_imports_nothing_heavy(tmp_path: Path, module: str) -> None:
    """`lash --help` must be instant; event loops, converters and clients are for whoever uses them."""
    heavy = ["anyio", "asyncio", "cattrs", "httpx", "importlib_metadata", "orjson", "trio"]
    code = f"import json, sys, lash_framework.{module}\nprint(json.dumps([n for n in {heavy} if n in sys.modules]))"
    assert python(code, tmp_path) == []


def test_these_wheels_are_wheels_to_pip(tmp_path: Path) -> None:
    """So that unpacking them is the same as installing them."""
    pytest.importorskip("pip")
    wheel = wheel_of(tmp_path, "t-good", GOOD["t-good"])
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, timeout=120)
    assert [each["plugin_id"] for each in python(REPORT, target, argument={})["loaded"]] == ["t-good"]


def test_what_is_installed_is_read_once_until_something_is_installed(tmp_path: Path) -> None:
    """Each host of a process asks. Reading the metadata of all distributions took a third of its start."""
    site = tmp_path / "site"
    unpack(make_wheel(tmp_path, "t-first", {"t-first": "t_first"}, {"t_first": ""}), site)
    later = make_wheel(tmp_path, "t-later", {"t-later": "t_later"}, {"t_later": ""})
    code = """
import json, os, sys, zipfile
from lash_framework.discovery import installed
read = []
sys.addaudithook(lambda event, given: event == "open" and read.append(os.path.basename(str(given[0]))))
def ours():
    read.clear()
    found = [each.plugin_id for each in installed()[0] if each.plugin_id.startswith("t-")]
    return found, "entry_points.txt" in read
seen = [ours(), ours()]
site, later = json.loads(sys.argv[1])
with zipfile.ZipFile(later) as archive:
    archive.extractall(site)
os.utime(site, ns=(0, 0))  # another time for sure, however coarse the clock of the file system
print(json.dumps([*seen, ours()]))
"""
    found = python(code, site, argument=[str(site), str(later)])
    assert found == [[["t-first"], True], [["t-first"], False], [["t-first", "t-later"], True]]
