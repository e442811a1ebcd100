"""`lash.lock`: a host that starts with one refuses plugins that are or do more than was written down."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cli_kit import Cli
from hook_kit import MEMORY, Plugin, installed
from host_kit import MODE, make_tool, provider

from lash_framework import Lash
from lash_framework.host import PluginHost
from lash_framework.lock import LOCK_NAME, LockedPlugin, LockMismatch, PluginLock, read_lock
from lash_framework.settings import load_settings
from lash_hookspecs import (
    Action,
    ConfigurationError,
    ConnectedToolSet,
    Mode,
    ModeExtension,
    PluginCapability,
    PluginInfo,
    hookimpl,
)


class Weather(Plugin):
    """A plugin with a hook, a tool and a capability; each can be had with more."""

    def __init__(self, tools: tuple[str, ...] = ("forecast",), **info: Any) -> None:
        super().__init__("weather", **{"capabilities": ["network"], **info})
        self.tools = [make_tool(name) for name in tools]

    @hookimpl
    def lash_tools(self, ctx: object) -> list[Any]:
        return self.tools


STORMY = Mode(mode_id="stormy", extends="base", plugins=("b", "a"), plugin_options={"a": {"ask": True}})


class Chatty(Weather):
    @hookimpl
    def lash_turn_committed(self) -> None: ...


class Registering(Weather):
    """Has all its hooks from the start; what is behind them may grow."""

    def __init__(
        self,
        provider: str = "clouds",
        mode: Mode = STORMY,
        adds: ModeExtension | None = None,
        action: str = "dry",
        **info: Any,
    ) -> None:
        super().__init__(**{"enabled_by_default": False, **info})
        self.offers = provider, mode, adds, action

    @hookimpl
    def lash_providers(self) -> list[Any]:
        return [provider(self.offers[0])]

    @hookimpl
    def lash_modes(self) -> list[Mode]:
        return [self.offers[1]]

    @hookimpl
    def lash_mode_extensions(self, mode: Mode) -> ModeExtension | None:
        return self.offers[2] if mode.mode_id == "base" else None

    @hookimpl
    def lash_actions(self) -> list[Any]:
        return [Action.query(lambda: None, name=self.offers[3])]


class Connecting(Weather):
    @hookimpl
    def lash_tools(self, ctx: object) -> list[Any]:
        return [*self.tools, ConnectedToolSet(name="radar", connect=nullcontext)]


LOCKED = LockedPlugin(
    version="1.0",
    distribution="installed-weather",
    hooks=("lash_plugin_info", "lash_tools"),
    tools=("forecast",),
    registers=("on by default",),
    capabilities=("network",),
)
LOCK = PluginLock(plugins={"weather": LOCKED})


def host(plugin: object, lock: PluginLock = LOCK, **options: Any) -> PluginHost:
    """A host with this one plugin, installed, and a lock."""
    with installed({"weather": plugin}):
        made = PluginHost(only=["weather"], modes=[MODE], lock=lock, **options)
        made.composition("base")
        return made


def grown(plugin: object, lock: PluginLock = LOCK) -> tuple[str, ...]:
    with pytest.raises(LockMismatch) as caught:
        host(plugin, lock)
    assert "`lash plugins lock`" in str(caught.value)
    return caught.value.rows


# ---- what a start refuses -------------------------------------------------------------------------------------------


def test_what_was_locked_starts() -> None:
    assert [each.plugin_id for each in host(Weather()).report.loaded] == ["weather"]
    assert host(Weather(tools=(), capabilities=[])), "less than was locked is no growth"


@pytest.mark.parametrize(
    ("plugin", "row"),
    [
        (Chatty(), "plugin `weather` has the new hook `lash_turn_committed`"),
        (Weather(tools=("forecast", "launch")), "plugin `weather` has the new tool `launch`"),
        (Connecting(), "plugin `weather` has the new toolset `radar`"),
        (Weather(capabilities=["network", "subprocess"]), "plugin `weather` has the new capability `subprocess`"),
    ],
    ids=["hook", "tool", "toolset", "capability"],
)
def test_growth_is_refused_and_named(plugin: object, row: str) -> None:
    assert grown(plugin) == (row,)


@pytest.mark.parametrize(
    ("plugin", "row"),
    [
        (Registering(provider="skies"), "provider skies"),
        (Registering(mode=evolve(STORMY, mode_id="rainy")), "mode rainy extends base: a, b, options 85d601a1 of a"),
        (Registering(mode=evolve(STORMY, plugins=("a",))), "mode stormy extends base: a, options 85d601a1 of a"),
        (
            Registering(mode=evolve(STORMY, plugin_options={"a": {"ask": False}})),
            "mode stormy extends base: a, b, options 4f5fa3ff of a",
        ),
        (Registering(adds=ModeExtension(plugins=("weather",))), "adds plugin weather to other modes"),
        (
            Registering(adds=ModeExtension(plugin_options={"weather": {}})),
            "adds options fdcd39f1 of weather to other modes",
        ),
        (Registering(replaces=("approval",)), "replaces plugin approval"),
        (Registering(enabled_by_default=True), "on by default"),
        (Registering(action="flood"), "action flood"),
    ],
    ids=["provider", "mode", "its plugins", "its options", "extension", "its options", "replaces", "default", "action"],
)
def test_growth_behind_a_hook_that_a_plugin_had_is_seen(plugin: Registering, row: str) -> None:
    """A mode counts as a whole: one that no longer asks before it acts is another one."""
    with installed({"weather": Registering()}):
        made = PluginHost(only=["weather"], modes=[MODE])
    (loaded,), registered = made.report.loaded, made.registered()["weather"]
    assert registered == ("mode stormy extends base: a, b, options 85d601a1 of a", "provider clouds")
    locked = LockedPlugin.of(loaded, made.implemented["weather"], ["forecast"], [*registered, "action dry"])
    with pytest.raises(LockMismatch) as caught:
        host(plugin, PluginLock(plugins={"weather": locked})).actions()
    assert caught.value.rows[0] == f"plugin `weather` has the new registration `{row}`"


def test_a_new_plugin_is_not_even_imported() -> None:
    class Bomb:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("somebody looked at it")

    rows = grown(Bomb(), PluginLock())
    assert rows == ("plugin `weather` of `installed-weather` 1.0 is new",)


def test_another_distribution_is_no_longer_the_same_plugin() -> None:
    (row,) = grown(Weather(), PluginLock(plugins={"weather": LockedPlugin(version="1.0", distribution="other")}))[:1]
    assert row == "plugin `weather` comes from `installed-weather`, and was locked as `other`'s"


def test_another_version_is_refused_where_one_wants_so() -> None:
    lock = PluginLock(plugins={"weather": evolve(LOCKED, version="0.9")})
    assert host(Weather(), lock)
    strict = PluginLock(plugins=lock.plugins, versions=True)
    assert grown(Weather(), strict) == ("plugin `weather` is 1.0, and was locked at 0.9",)


def test_a_lock_of_another_machine_says_so() -> None:
    """Plugins that it names aren't here, and others are: no list of small differences helps then."""
    foreign = PluginLock(plugins={"calendar": LOCKED, "mail": LOCKED})
    with pytest.raises(LockMismatch, match="of another machine: `calendar`, `mail` of it are not installed here"):
        host(Weather(), foreign)
    assert grown(Weather(), PluginLock(plugins={"weather": LOCKED, "mail": LOCKED})) == (
        "plugin `mail` is locked, and not installed here",
    )


def test_a_plugin_that_is_off_is_not_missing() -> None:
    assert host(Weather(), disabled=["weather"]).report.loaded == ()


def test_a_broken_plugin_stays_a_row_of_the_report() -> None:
    class Broken(Weather):
        @hookimpl
        def lash_providers(self) -> list[Any]:
            raise RuntimeError("no")

    lock = PluginLock(plugins={"weather": LOCKED})
    with installed({"weather": Broken()}):
        made = PluginHost(only=["weather"], modes=[MODE], lock=lock)
    assert [each.stage for each in made.report.failed] == ["registration"]


def test_what_the_application_passes_is_its_own_affair() -> None:
    made = PluginHost([Weather()], only=(), modes=[MODE], lock=PluginLock())
    assert "forecast" in made.composition("base").tools


# ---- declarations ---------------------------------------------------------------------------------------------------


def test_capabilities_have_names_that_are_known() -> None:
    assert PluginInfo(id="x", capabilities=["network", PluginCapability.SECRETS]).capabilities == {"network", "secrets"}
    with pytest.raises(ValueError, match="did you mean `network`"):
        PluginInfo(id="x", capabilities=["netwrok"])
    with pytest.raises(TypeError, match="a set of texts"):
        PluginInfo(id="x", capabilities="network")


def test_the_plugins_of_this_repository_declare_what_they_reach_for() -> None:
    declared = {each.plugin_id: set(each.info.capabilities) for each in PluginHost().report.loaded}
    nothing = ("plan", "tool-budget", "history-rolling", "memory", "mode-standard", "mode-coder", "mode-research")
    wanted: dict[str, set[str]] = {
        "provider-openai": {"network", "secrets"},
        "store-sql": {"filesystem"},
        "approval": {"filesystem"},
        "tools-mcp": {"network", "secrets", "subprocess"},
        **{each: set() for each in nothing},
    }
    assert {name: declared[name] for name in wanted} == wanted


# ---- the file -------------------------------------------------------------------------------------------------------


def test_the_file_comes_back_and_is_the_same_in_any_order(tmp_path: Path) -> None:
    one = PluginLock(plugins={"b": LOCKED, "a": LockedPlugin()})
    other = PluginLock(
        plugins={
            "a": LockedPlugin(),
            "b": LockedPlugin.of(_loaded(), LOCKED.hooks[::-1], LOCKED.tools, LOCKED.registers),
        }
    )
    assert one.encode() == other.encode()
    (tmp_path / LOCK_NAME).write_text(one.encode())
    assert read_lock(tmp_path / LOCK_NAME).plugins == one.plugins
    assert str(tmp_path) not in one.encode()


def _loaded() -> Any:
    return host(Weather()).report.loaded[0]


ENTRY = {"version": "1", "distribution": None, "hooks": [], "tools": [], "registers": [], "capabilities": []}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "damaged"),
        (b'{\n"format": 1,\n<<<<<<< HEAD', ":3: the plugins' lock is damaged"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"[]", "`format` must be 1"),
        (b"[" * 100_000, "damaged"),
        (b'{"format": 2, "plugins": []}', "has format 2, and this lash reads 1: upgrade `lash-framework`"),
        (b'{"format": 1}', "`plugins` must be an object"),
        (json.dumps({"format": 1, "plugins": {"a": {**ENTRY, "hooks": [1]}}}).encode(), "`plugins.a.hooks` must be"),
        (json.dumps({"format": 1, "plugins": {"a": {**ENTRY, "version": 1}}}).encode(), "`plugins.a.version` must be"),
        (json.dumps({"format": 1, "plugins": {"a": {**ENTRY, "more": 1}}}).encode(), "`plugins.a.more` must be left"),
    ],
)
def test_a_lock_that_cant_be_read_says_where_and_what_to_do(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / LOCK_NAME).write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        read_lock(tmp_path / LOCK_NAME)
    text = str(caught.value)
    assert said in text
    assert LOCK_NAME in text
    assert "`lash plugins lock`" in text


def test_a_lock_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_lock(tmp_path / LOCK_NAME)


async def test_a_host_finds_the_lock_beside_its_settings(tmp_path: Path) -> None:
    (tmp_path / "lash.toml").write_text("")
    (tmp_path / LOCK_NAME).write_text(PluginLock().encode())
    for more, refused in (("", True), ("[plugins]\nlock = 'off'", False), ("[plugins]\nlock = 'sub/x.lock'", True)):
        (tmp_path / "lash.toml").write_text(more)
        settings = load_settings(tmp_path / "lash.toml", env={})
        if not refused:
            async with Lash.open(MEMORY, settings=settings):
                pass
            continue
        with pytest.raises(ConfigurationError, match="is new" if not more else "sub/x.lock: .*can't be read"):
            async with Lash.open(MEMORY, settings=settings):
                pass


async def test_a_folder_of_the_locks_name_is_none(tmp_path: Path) -> None:
    """A sandbox mounts one there, lest a command makes a lock; other processes see it, and start."""
    (tmp_path / "lash.toml").write_text("")
    (tmp_path / LOCK_NAME).mkdir()
    async with Lash.open(MEMORY, settings=load_settings(tmp_path / "lash.toml", env={})):
        pass


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    (tmp_path / "lash.toml").write_text("")
    return Cli(tmp_path)


def test_lock_then_start_then_growth(
    lash: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(*args: str) -> Any:
        return lash.here(monkeypatch, capsys, *args)

    first = here("plugins", "lock")
    assert (first.code, "plugin `store-sql` of `lash-plugin-store-sql`" in first.out) == (0, True)
    text = (lash.folder / LOCK_NAME).read_text()
    assert json.loads(text)["plugins"]["mode-standard"]["tools"] == ["batch"]
    assert "as before" in here("plugins", "lock").out
    assert (lash.folder / LOCK_NAME).read_text() == text
    assert here("plugins", "lock", "--check").code == 0
    assert here("run", "Hello", "--model", "scripted:demo").code == 0
    assert "plugins, nothing grew" in here("doctor").out

    document = json.loads(text)
    document["plugins"]["hello"]["tools"] = []
    (lash.folder / LOCK_NAME).write_text(json.dumps(document))
    run = here("run", "Hello", "--model", "scripted:demo")
    assert run.code == 2
    assert "plugin `hello` has the new tool `roll`" in run.err
    doctor = here("doctor")
    assert doctor.code == 1
    assert doctor.out.count("new tool `roll`") == 1, "it is told once, also where the store can't be opened for it"
    assert here("plugins", "list").code == 0, "who wants to see what grew must be able to"
    checked = here("plugins", "lock", "--check")
    assert (checked.code, "new tool `roll`" in checked.out) == (1, True)
    assert here("run", "Hello", "--model", "scripted:demo", "--lock", "off").code == 0
    assert "new tool `roll`" in here("plugins", "lock").out
    assert here("run", "Hello", "--model", "scripted:demo").code == 0


def test_a_damaged_lock_is_written_anew_and_checked_never(
    lash: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (lash.folder / "other.lock").write_text("{")
    checked = lash.here(monkeypatch, capsys, "plugins", "lock", "--lock", "other.lock", "--check")
    assert (checked.code, "damaged" in checked.err) == (2, True)
    written = lash.here(monkeypatch, capsys, "plugins", "lock", "--lock", "other.lock")
    assert (written.code, "written anew" in written.err) == (0, True)
    assert not (lash.folder / LOCK_NAME).exists()
    assert [each.name for each in lash.folder.glob(".other*")] == []


def test_without_settings_beside_it_a_lock_says_who_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Cli(tmp_path).here(monkeypatch, capsys, "plugins", "lock")
    assert "counts only for who passes `--lock lash.lock`" in done.err
    missing = Cli(tmp_path).here(monkeypatch, capsys, "plugins", "lock", "--check", "--lock", "none.lock")
    assert (missing.code, "there is no" in missing.err) == (2, True)
