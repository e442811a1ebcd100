"""Hooks that are called once when a host starts: identity, providers, stores, modes, extensions, session state."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve, frozen
from hook_kit import Plugin, Told, failure, file_store, opened, opened_with_installed, system_prompt

from lash_framework import Lash
from lash_framework.plugins import LoadFailure, load_plugins
from lash_hookspecs import (
    ConfigurationError,
    EnqueueMessages,
    Mode,
    ModeDriver,
    ModeExtension,
    PluginError,
    PluginInfo,
    PromptContribution,
    PromptLayer,
    ProviderSpec,
    SessionStateSpec,
    Store,
    StoreContext,
    StoreSpec,
    UnknownName,
    hookimpl,
    tool,
)
from lash_plugin_mode_standard.driver import StandardDriver
from lash_plugin_provider_scripted import ScriptedSettings
from lash_plugin_store_sql.store import open_store


def row(lash: Lash, plugin_id: str) -> LoadFailure:
    """The plugin's row in the load report; it is left out, and everything else works."""
    (found,) = [each for each in lash.host.report.failed if each.plugin_id == plugin_id]
    assert plugin_id not in [each.plugin_id for each in lash.host.report.loaded]
    return found


class Broken(Plugin):
    """Raises in every hook that it is asked for by name."""

    def fail(self) -> Any:
        raise RuntimeError("it is broken")


# ---- lash_plugin_info -----------------------------------------------------------------------------------------------


def test_names_of_a_module_that_are_no_hooks_cost_a_look_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """`inspect` takes fifty times as long, and a start looks at a thousand names."""
    looked: list[str] = []
    look = inspect.getattr_static

    def counted(obj: object, name: str, *default: object) -> object:
        if obj is module:
            looked.append(name)
        return look(obj, name, *default)

    monkeypatch.setattr(inspect, "getattr_static", counted)
    module = ModuleType("many")
    for number in range(100):
        setattr(module, f"helper_{number}", lambda: None)
    module.lash_tools = hookimpl(lambda ctx: [])  # type: ignore[attr-defined] # as a module has it
    manager, report = load_plugins([module], only=())
    assert [each.plugin_id for each in report.loaded] == ["many"]
    assert [each.plugin_name for each in manager.hook.lash_tools.get_hookimpls()] == ["many"]
    assert set(looked) <= {"lash_tools"}  # pluggy looks at what it registers


async def test_hook_lash_plugin_info_is_asked_first_and_once() -> None:
    class Mine:
        calls: list[str] = []  # noqa: RUF012  # one list for one test

        @hookimpl
        def lash_plugin_info(self) -> PluginInfo:
            self.calls.append("info")
            return PluginInfo(id="mine", version="1.5")

        @hookimpl
        def lash_modes(self) -> list[Mode]:
            self.calls.append("modes")
            return []

    plugin = Mine()
    async with opened(plugin) as lash:
        (mine,) = [each for each in lash.host.report.loaded if each.plugin_id == "mine"]
        await (await lash.session("one")).run("Hello")
        explained = await lash.explain((await (await lash.session("one")).run("Again")).turn_id)
    assert plugin.calls == ["info", "modes"]
    assert mine.version == "1.5"
    assert ("mine", "1.5") in [(each.plugin_id, each.version) for each in explained.plugins]


async def test_hook_lash_plugin_info_puts_hooks_in_order() -> None:
    order: list[str] = []

    class Noted(Plugin):
        @hookimpl
        async def lash_before_turn(self) -> None:
            order.append(self.info.id)

    async with opened(Noted("a", after=("c",)), Noted("b"), Noted("c", after=("absent",))) as lash:
        await (await lash.session("one")).run("Hello")
    assert order == ["b", "c", "a"]


async def test_hook_lash_plugin_info_is_the_class_name_if_a_plugin_lacks_it() -> None:
    class Nameless:
        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> None:
            ids.append(ctx.plugin_id)

    ids: list[str] = []
    async with opened(Nameless()) as lash:
        await (await lash.session("one")).run("Hello")
    assert ids == ["Nameless"]


async def test_hook_lash_plugin_info_keeps_a_plugin_out_of_modes_that_do_not_name_it(tmp_path: Path) -> None:
    class Noted(Plugin):
        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> None:
            self.calls.append(ctx.mode_id)

    plugin = Noted(enabled_by_default=False)
    toml = '[modes.special]\nextends = "standard"\nplugins = ["mine"]\n'
    async with opened(plugin, toml=toml, folder=tmp_path, says=["One.", "Two."]) as lash:
        await (await lash.session("plain")).run("Hello")
        await (await lash.session("special", mode="special")).run("Hello")
    assert plugin.calls == ["special"]


async def test_hook_lash_plugin_info_that_raises_is_a_row() -> None:
    class Bad:
        @hookimpl
        def lash_plugin_info(self) -> PluginInfo:
            raise RuntimeError("it is broken")

    async with opened_with_installed(Bad()) as lash:
        assert row(lash, "Bad").stage == "info"
        assert "it is broken" in row(lash, "Bad").traceback
        assert (await (await lash.session("one")).run("Hello")).is_success


@pytest.mark.parametrize(
    ("info", "stage"),
    [
        ({"api": ">=9"}, "api"),
        ({"requires": ("absent",)}, "requires"),
        ({"after": ("mine",)}, "order"),
    ],
    ids=["wrong API", "requirement absent", "after itself"],
)
async def test_hook_lash_plugin_info_that_can_not_be_met_is_a_row(info: dict[str, Any], stage: str) -> None:
    class mine(Plugin):  # named like its id, by which it is known before it has told it
        pass

    async with opened_with_installed(mine(**info)) as lash:
        assert row(lash, "mine").stage == stage
        assert row(lash, "mine").remedy


# ---- lash_providers -------------------------------------------------------------------------------------------------


class Parrot(Plugin):
    opened_with: Any = None

    @hookimpl
    def lash_providers(self) -> list[ProviderSpec]:
        return [ProviderSpec(provider_id="parrot", settings=ScriptedSettings, open=self.open, live=False)]

    def open(self, context: Any) -> Told:
        self.calls.append(context)
        return Told(lambda request: f"{request.model} hears you")


async def test_hook_lash_providers_offers_models_by_its_id(tmp_path: Path) -> None:
    plugin = Parrot()
    toml = "[provider.parrot]\ncontext_window = 777\n"
    async with opened(plugin, toml=toml, folder=tmp_path, model="parrot:grey") as lash:
        session = await lash.session("one")
        assert plugin.calls == []
        assert (await session.run("Hello")).text == "grey hears you"
        await session.run("Hello")
    (context,) = plugin.calls
    assert context.provider_id == "parrot"
    assert context.settings.context_window == 777


async def test_hook_lash_providers_of_two_plugins_for_one_id_leave_the_later_one_out() -> None:
    async with opened_with_installed(Parrot("a"), Parrot("b"), model="parrot:grey") as lash:
        assert "plugin `a`" in row(lash, "b").message
        assert (await (await lash.session("one")).run("Hello")).is_success


async def test_hook_lash_providers_that_raises_is_a_row() -> None:
    class Bad(Broken):
        @hookimpl
        def lash_providers(self) -> list[ProviderSpec]:
            return self.fail()

    async with opened_with_installed(Bad()) as lash:
        assert row(lash, "mine").stage == "registration"
        assert (await (await lash.session("one")).run("Hello")).is_success


async def test_hook_lash_providers_that_returns_something_else_is_a_row() -> None:
    class Bad(Plugin):
        @hookimpl
        def lash_providers(self) -> Any:
            return ["parrot"]

    async with opened_with_installed(Bad()) as lash:
        assert "returned a `str`" in row(lash, "mine").message


# ---- lash_stores ----------------------------------------------------------------------------------------------------


class Shelf(Plugin):
    @hookimpl
    def lash_stores(self) -> list[StoreSpec]:
        return [StoreSpec(schemes=("shelf",), open=self.open)]

    async def open(self, context: StoreContext) -> Store:
        self.calls.append(context.url)
        return await open_store(evolve(context, url="sqlite:///:memory:"))


async def test_hook_lash_stores_offers_a_store_by_its_scheme() -> None:
    plugin = Shelf()
    async with opened(plugin, store="shelf:upper") as lash:
        assert plugin.calls == ["shelf:upper"]
        await (await lash.session("one")).run("Hello")
        assert [each.session_id for each in await lash.list_sessions()] == ["one"]


async def test_hook_lash_stores_of_two_plugins_for_one_scheme_leave_the_later_one_out() -> None:
    first, second = Shelf("a"), Shelf("b")
    async with opened_with_installed(first, second, store="shelf:upper") as lash:
        assert "plugin `a`" in row(lash, "b").message
    assert (len(first.calls), second.calls) == (1, [])


async def test_hook_lash_stores_that_raises_is_a_row() -> None:
    class Bad(Broken):
        @hookimpl
        def lash_stores(self) -> list[StoreSpec]:
            return self.fail()

    async with opened_with_installed(Bad()) as lash:
        assert row(lash, "mine").stage == "registration"
    with pytest.raises(UnknownName):
        async with opened_with_installed(Bad(), store="shelf:upper"):
            pass


# ---- lash_modes -----------------------------------------------------------------------------------------------------


class Brief(Plugin):
    @hookimpl
    def lash_modes(self) -> list[Mode]:
        self.calls.append("modes")
        layer = PromptLayer().with_contribution(PromptContribution(content="Be brief."))
        return [Mode(mode_id="brief", extends="standard", prompt=layer)]


async def test_hook_lash_modes_offers_a_mode() -> None:
    plugin, model = Brief(), Told(["One.", "Two."])
    async with opened(plugin, says=model) as lash:
        await (await lash.session("plain")).run("Hello")
        turn = await (await lash.session("short", mode="brief")).run("Hello")
    assert plugin.calls == ["modes"]
    assert turn.execution.mode == "brief"
    assert "Be brief." not in system_prompt(model, 0)
    assert "Be brief." in system_prompt(model, 1)


async def test_hook_lash_modes_can_be_changed_in_lash_toml_under_its_own_name(tmp_path: Path) -> None:
    model = Told(["One."])
    toml = '[modes.brief]\nextends = "brief"\nprompt = "And polite."\n'
    async with opened(Brief(), says=model, toml=toml, folder=tmp_path, mode="brief") as lash:
        await (await lash.session("one")).run("Hello")
    assert "Be brief." in system_prompt(model)
    assert "And polite." in system_prompt(model)


async def test_hook_lash_modes_of_two_plugins_for_one_id_leave_the_later_one_out() -> None:
    async with opened_with_installed(Brief("a"), Brief("b"), mode="brief") as lash:
        assert "plugin `a`" in row(lash, "b").message


async def test_hook_lash_modes_that_raises_is_a_row() -> None:
    class Bad(Broken):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            return self.fail()

    async with opened_with_installed(Bad()) as lash:
        assert row(lash, "mine").stage == "registration"
        assert (await (await lash.session("one")).run("Hello")).is_success


# ---- lash_mode_extensions -------------------------------------------------------------------------------------------


@frozen
class ToneOptions:
    """Options of a mode's driver."""

    tone: str = "plain"


class Toned(Plugin):
    """Offers the mode `toned`: like `standard`, with an option."""

    @hookimpl
    def lash_modes(self) -> list[Mode]:
        driver = ModeDriver(make=StandardDriver, options=ToneOptions)
        return [Mode(mode_id="toned", driver=driver)]


@pytest.mark.statement(16, page="plugin-system")
async def test_hook_lash_mode_extensions_is_asked_for_every_mode_and_adds_to_it() -> None:
    """16: what a plugin adds to a mode shows in the host's composition, and in the sessions of that mode."""

    class Tone(Toned):
        @hookimpl
        def lash_mode_extensions(self, mode: Mode) -> ModeExtension | None:
            self.calls.append((mode.mode_id, mode.driver is not None))
            if mode.mode_id != "toned":
                return None
            layer = PromptLayer().with_contribution(PromptContribution(content="Speak softly."))
            return ModeExtension(plugins=("helper",), prompt=layer, options={"tone": "soft"})

    class Helper(Plugin):
        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> None:
            self.calls.append(ctx.mode_id)

    tone, helper, model = Tone("tone"), Helper("helper", enabled_by_default=False), Told(["One.", "Two."])
    async with opened(tone, helper, Brief("brief"), says=model) as lash:
        turn = await (await lash.session("soft", mode="toned")).run("Hello")
        await (await lash.session("short", mode="brief")).run("Hello")
        explained = await lash.explain(turn.turn_id)
        composition = lash.host.composition("toned")
    asked = sorted(each for each in tone.calls if each[0] not in ("coder", "research"))  # installed, or not
    assert asked == [("brief", True), ("standard", True), ("toned", True)]
    assert helper.calls == ["toned"]
    assert composition.mode.options["tone"] == "soft"
    assert composition.driver_options == ToneOptions("soft")
    assert "Speak softly." in system_prompt(model, 0)
    assert "Speak softly." not in system_prompt(model, 1)
    (piece,) = [each for each in explained.prompt if "Speak softly." in each.text]
    assert piece.plugin_ids == ("tone",)


async def test_hook_lash_mode_extensions_never_overrules_an_option_of_the_mode(tmp_path: Path) -> None:
    class Tone(Toned):
        @hookimpl
        def lash_mode_extensions(self, mode: Mode) -> ModeExtension | None:
            return None if mode.mode_id == "standard" else ModeExtension(options={"tone": "soft"})

    toml = '[modes.loud]\nextends = "toned"\noptions = { tone = "loud" }\n'
    async with opened(Tone(), toml=toml, folder=tmp_path) as lash:
        assert lash.host.composition("loud").mode.options["tone"] == "loud"
        assert lash.host.composition("toned").mode.options["tone"] == "soft"


async def test_hook_lash_mode_extensions_that_disagree_conflict() -> None:
    class Tone(Plugin):
        @hookimpl
        def lash_mode_extensions(self, mode: Mode) -> ModeExtension:
            return ModeExtension(options={"tone": self.info.id})

    with pytest.raises(ConfigurationError, match=r"option `tone`.*`a`.*`b`"):
        async with opened(Tone("a"), Tone("b")):
            pass


async def test_hook_lash_mode_extensions_that_raises_is_a_row() -> None:
    class Bad(Broken):
        @hookimpl
        def lash_mode_extensions(self, mode: Mode) -> ModeExtension:
            return self.fail()

    async with opened_with_installed(Bad()) as lash:
        assert row(lash, "mine").stage == "registration"
        assert (await (await lash.session("one")).run("Hello")).is_success


# ---- lash_session_state ---------------------------------------------------------------------------------------------


@frozen
class Count:
    turns: int = 0


class Counting(Plugin):
    """Counts the turns of a session, and notes what it found."""

    spec = SessionStateSpec(state=Count)

    @hookimpl
    def lash_session_state(self) -> SessionStateSpec:
        return self.spec

    @hookimpl
    async def lash_before_turn(self, ctx: Any) -> None:
        self.calls.append(ctx.state)
        ctx.set_state(Count(ctx.state.turns + 1))


async def test_hook_lash_session_state_is_remembered_between_turns_and_hosts(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    first, second = Counting(), Counting()
    async with opened(first, store=store, says=["One.", "Two."]) as lash:
        session = await lash.session("one")
        await session.run("Hello")
        await session.run("Hello")
    async with opened(second, store=store, says=["Three.", "Four."]) as lash:
        await (await lash.session("one")).run("Hello")
        await (await lash.session("other")).run("Hello")
    assert first.calls == [Count(0), Count(1)]
    assert second.calls == [Count(2), Count(0)]


async def test_hook_lash_session_state_is_seen_by_tools() -> None:
    class WithTool(Counting):
        @hookimpl
        def lash_tools(self) -> list[Any]:
            @tool
            async def turns(ctx: Any) -> int:
                "How many turns there were."
                return ctx.state.turns

            return [turns]

    from lash_plugin_provider_scripted import Call, Reply

    model = Told([Reply(tool_calls=[Call("turns")]), "Done."])
    async with opened(WithTool(), says=model) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert turn.tool_calls[0].output.outcome.value == 1


async def test_hook_lash_session_state_is_kept_while_its_plugin_is_absent(tmp_path: Path) -> None:
    store, again = file_store(tmp_path), Counting()
    for plugins in ([Counting()], [], [again]):
        async with opened(*plugins, store=store) as lash:
            await (await lash.session("one")).run("Hello")
    assert again.calls == [Count(1)]


async def test_hook_lash_session_state_is_taken_back_when_a_turn_fails_in_a_hook() -> None:
    class Failing(Counting):
        @hookimpl
        async def lash_checkpoint(self) -> None:
            if len(self.calls) == 1:
                raise RuntimeError("not this time")

    plugin = Failing()
    async with opened(plugin, says=["One.", "Two."]) as lash:
        session = await lash.session("one")
        assert failure(await session.run("Hello"))[0] == "runtime_error"
        assert (await session.run("Hello")).is_success
    assert plugin.calls == [Count(0), Count(0)]


async def test_hook_lash_session_state_is_taken_back_when_a_turn_is_interrupted() -> None:
    plugin = Counting()
    async with opened(plugin, says=["One.", "Two."]) as lash:
        session = await lash.session("one")
        with pytest.raises(ZeroDivisionError):
            await interrupt(session)
        await session.run("Hello")
    # The interrupted turn is gone on with, from its records: its hook isn't called again. Then comes the new one.
    assert plugin.calls == [Count(0), Count(1)]


async def interrupt(session: Any) -> None:
    """Raise while a turn is being watched."""
    async with session.turn("Hello") as running:
        async for _ in running:
            raise ZeroDivisionError


async def test_hook_lash_session_state_of_an_older_version_is_migrated(tmp_path: Path) -> None:
    @frozen
    class Tally:
        total: int = 0

    class Newer(Plugin):
        @hookimpl
        def lash_session_state(self) -> SessionStateSpec:
            return SessionStateSpec(state=Tally, version=2, migrate=self.migrate)

        def migrate(self, version: int, data: Any) -> Tally:
            self.calls.append((version, data))
            return Tally(data["turns"] * 10)

        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> None:
            self.calls.append(ctx.state)

    store, newer = file_store(tmp_path), Newer()
    for plugin in (Counting(), newer):
        async with opened(plugin, store=store) as lash:
            await (await lash.session("one")).run("Hello")
    assert newer.calls == [(1, {"turns": 1}), Tally(10)]


async def test_hook_lash_session_state_of_a_newer_version_is_an_error_that_names_the_plugin(tmp_path: Path) -> None:
    class Newer(Counting):
        spec = SessionStateSpec(state=Count, version=2)

    store = file_store(tmp_path)
    async with opened(Newer(), store=store) as lash:
        await (await lash.session("one")).run("Hello")
    async with opened(Counting(), store=store) as lash:
        with pytest.raises(PluginError, match=r"`mine`.*version 2"):
            await (await lash.session("one")).run("Hello")


async def test_hook_lash_session_state_takes_only_its_class() -> None:
    class Confused(Counting):
        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> EnqueueMessages | None:
            ctx.set_state({"turns": 5})
            return None

    async with opened(Confused()) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert failure(turn) == ("runtime_error", "lash_checkpoint")
    assert "must be a `Count`" in turn.errors[0].message


async def test_hook_lash_session_state_that_can_be_changed_in_place_is_a_row() -> None:
    from attrs import define

    @define
    class Loose:
        turns: int = 0

    class Bad(Plugin):
        @hookimpl
        def lash_session_state(self) -> SessionStateSpec:
            return SessionStateSpec(state=Loose)

    async with opened_with_installed(Bad()) as lash:
        assert "frozen" in row(lash, "mine").message


async def test_hook_lash_session_state_that_raises_is_a_row(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Broken):
        @hookimpl
        def lash_session_state(self) -> SessionStateSpec:
            return self.fail()

    with caplog.at_level(logging.WARNING):
        async with opened_with_installed(Bad()) as lash:
            assert row(lash, "mine").stage == "registration"
            assert (await (await lash.session("one")).run("Hello")).is_success


# ---- broken plugins that were passed in code ------------------------------------------------------------------------


class Misspelt(Plugin):
    @hookimpl
    def lash_checkpiont(self, ctx: Any) -> None:
        pass


class WrongArgument(Plugin):
    @hookimpl
    def lash_before_turn(self, context: Any) -> None:
        pass


class Awaited(Plugin):
    @hookimpl
    async def lash_tools(self) -> list[Any]:
        return []


class NoAttrs(Plugin):
    @hookimpl
    def lash_session_state(self) -> SessionStateSpec:
        return SessionStateSpec(state=dict)


class Unmarked:
    def lash_checkpiont(self, ctx: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("given", "name", "said"),
    [
        (Misspelt(), "mine", "`lash_checkpiont` is no hook: did you mean `lash_checkpoint`?"),
        (WrongArgument(), "mine", "context"),
        (Awaited(), "mine", "`lash_tools` is called without awaiting: make it a plain `def`"),
        (NoAttrs(), "mine", "lash_session_state"),
        (Unmarked(), "Unmarked", "`lash_checkpiont` is no hook: did you mean `lash_checkpoint`?"),
        (None, "NoneType", "`None` has no hook"),
        ("hello", "str", "`'hello'` has no hook"),
        (Plugin("lonely", requires=("absent",)), "lonely", "requires the plugin `absent`"),
    ],
)
async def test_a_broken_plugin_that_is_passed_in_code_is_an_error(given: object, name: str, said: str) -> None:
    """It used to be a row that nobody looked at: the host worked, and the plugin did nothing."""
    with pytest.raises(ConfigurationError) as raised:
        async with opened(given):
            pass
    assert f"`{name}` (" in str(raised.value)
    assert said in str(raised.value)


async def test_a_broken_plugin_that_is_installed_stops_nobody() -> None:
    async with opened_with_installed(Misspelt()) as lash:
        assert row(lash, "mine").stage == "hooks"
        assert (await (await lash.session("one")).run("Hello")).is_success
