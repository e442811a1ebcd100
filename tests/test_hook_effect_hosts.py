"""`lash_effect_hosts`: where effects are executed is a plugin's to offer, and the kit that holds such a host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import Unwritten, plugin
from attrs import define, field, frozen
from hook_kit import Plugin, file_store, opened, opened_with_installed
from journal_kit import MemoryJournal

from lash_framework.effects import InlineEffectHost
from lash_framework.journal import JournalController
from lash_hookspecs import (
    CapabilityMissing,
    ConfigurationError,
    EffectController,
    EffectHost,
    EffectHostSpec,
    EffectRunner,
    HostContext,
    PluginError,
    ReplayError,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeScope,
    Stopped,
    TextItem,
    TurnContext,
    TurnInput,
    UnknownName,
    hookimpl,
    tool,
)
from lash_hookspecs.testing.effects import conformance, effect_cases
from lash_plugin_provider_scripted import Call, Reply

# ---- the kit --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def inline(folder: Path) -> AsyncIterator[EffectHost]:
    yield InlineEffectHost()


test_the_inline_host_conforms = conformance(inline)


@define
class Journals:
    """A host whose turns have journals in memory, as a database would keep them."""

    journals: dict[tuple[str, str | None], MemoryJournal] = field(factory=lambda: defaultdict(MemoryJournal))

    def scoped(self, scope: RuntimeScope) -> EffectController:
        journal = self.journals[scope.session_id, scope.turn_id]
        return JournalController(journal.rows, journal.append)


KEPT: dict[Path, Journals] = defaultdict(Journals)


@asynccontextmanager
async def journal(folder: Path) -> AsyncIterator[EffectHost]:
    yield KEPT[folder]


test_the_journal_host_conforms = conformance(journal, durable=True)


@frozen
class Wrong(Unwritten):
    """A controller with one fault."""

    fault: str
    durable: bool = True

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        if self.fault == "runs twice":
            await run(envelope)
        return await run(envelope)


@pytest.mark.parametrize(
    ("fault", "fails"), [("runs twice", "outcome"), ("no check", "wrong-outcome"), ("keeps nothing", "replay")]
)
@pytest.mark.anyio
async def test_the_kit_catches_a_host_that_is_wrong(fault: str, fails: str) -> None:
    class Host:
        def scoped(self, scope: RuntimeScope) -> EffectController:
            return Wrong(fault)

    @asynccontextmanager
    async def wrong() -> AsyncIterator[EffectHost]:
        yield Host()

    (case,) = [each for each in effect_cases(durable=True) if each.id == fails]
    with pytest.raises(AssertionError, match="must"):
        await case.run(wrong)


def test_every_case_says_what_a_host_must_do() -> None:
    cases = effect_cases(durable=True)
    assert len({each.id for each in cases}) == len(cases) > len(effect_cases())
    assert all(each.statement.endswith(".") for each in cases)


# ---- choosing one ---------------------------------------------------------------------------------------------------


class Engine(Plugin):
    """Offers the host `engine`, which is whatever `made` makes."""

    def __init__(self, made: Callable[[], Any], *, durable: bool = True, host_id: str = "engine", **info: Any) -> None:
        super().__init__(info.pop("id", "engines"), **info)
        self.made, self.durable, self.host_id = made, durable, host_id

    @hookimpl
    def lash_effect_hosts(self) -> list[EffectHostSpec]:
        return [EffectHostSpec(host_id=self.host_id, open=self.open, durable=self.durable)]

    @asynccontextmanager
    async def open(self, host: HostContext) -> AsyncIterator[Any]:
        self.calls.append(("open", host.plugin_id, host.options))
        yield self.made()
        self.calls.append(("close",))


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "there"


SCRIPT = [Reply(tool_calls=[Call("look", {})]), "Done."]


@pytest.mark.parametrize("how", ["setting", "argument"])
async def test_hook_lash_effect_hosts_is_where_turns_are_executed(how: str, tmp_path: Path) -> None:
    engine, journals = Engine(lambda: journals), Journals()
    toml = '[plugin.engines]\nurl = "engine:1"\n'
    options: dict[str, Any] = {"effects": "engine"} if how == "argument" else {}
    if how == "setting":
        toml = f'[durability]\neffects = "engine"\n{toml}'
    async with opened(engine, tools=[look], says=SCRIPT, toml=toml, folder=tmp_path, **options) as lash:
        turn = await (await lash.session("s")).run("Look", turn_id="t")
        assert turn.durable
        assert lash.journalling is None
    rows = [row.kind for row in journals.journals["s", "t"].rows if row.kind.endswith("_call")]
    assert rows == ["llm_call", "tool_call", "llm_call"]
    assert engine.calls == [("open", "engines", {"url": "engine:1"}), ("close",)]


async def test_a_host_that_is_not_chosen_is_not_opened() -> None:
    engine = Engine(Journals)
    async with opened(engine) as lash:
        assert lash.journalling is not None
        assert list(lash.host.effect_hosts) == ["engine"]
    assert engine.calls == []


async def test_a_turn_that_broke_off_is_answered_from_the_host_when_it_is_run_again(tmp_path: Path) -> None:
    """The kernel needs nothing but the port for that, and the turn's id."""
    journals, ran = Journals(), list[str]()

    @tool(effect="pure")
    async def reach() -> str:
        """Hang at first."""
        ran.append("reach")
        if len(ran) == 1:
            scope.cancel()
            await anyio.sleep_forever()
        return "there"

    options: dict[str, Any] = {"tools": [reach], "store": file_store(tmp_path), "effects": "engine"}
    with anyio.CancelScope() as scope:
        async with opened(Engine(lambda: journals), says=[Reply(tool_calls=[Call("reach", {})])], **options) as lash:
            await (await lash.session("s")).run("Go", turn_id="t")
    async with opened(Engine(lambda: journals), says=["Done."], **options) as lash:
        turn = await (await lash.session("s")).run("Go", turn_id="t")
    assert (turn.text, ran) == ("Done.", ["reach", "reach"])


async def test_an_unknown_host_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown effect host `engin`: did you mean `engine`"):
        async with opened(Engine(Journals), effects="engin"):
            pass


async def test_who_requires_durable_turns_is_refused_a_host_that_keeps_nothing() -> None:
    engine = Engine(InlineEffectHost, durable=False)
    with pytest.raises(CapabilityMissing, match="effect host `engine` keeps nothing"):
        async with opened(engine, effects="engine", require_durable=True):
            pass
    async with opened(Engine(Journals), effects="engine", require_durable=True) as lash:
        assert (await (await lash.session("s")).run("Hello")).durable


async def test_what_needs_the_journal_says_so_with_another_host() -> None:
    async with opened(Engine(Journals), effects="engine") as lash:
        with pytest.raises(CapabilityMissing, match=r"needs a journal: set `durability.effects` to `journal`"):
            await (await lash.session("s")).enqueue("Hello")


@frozen
class Live:
    """An input that nobody can store."""

    function: Any = print


async def test_a_durable_host_refuses_by_name_what_could_not_be_run_again() -> None:
    wishes = plugin("wishes", turn_input=Live)
    given = TurnInput(items=(TextItem("Go"),), context=TurnContext(plugin_inputs={"wishes": Live()}))
    async with opened(Engine(Journals), wishes, effects="engine") as lash:
        with pytest.raises(ConfigurationError, match="`wishes`"):
            await (await lash.session("s")).run(given)


# ---- hosts that are broken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (object, "plugin `engines`.*is a `object`, which has no `scoped`"),
        (lambda: 1 / 0, "plugin `engines`.*effect host `engine` can't be opened: ZeroDivisionError"),
    ],
)
async def test_a_host_that_is_none_is_refused_by_name(made: Any, text: str) -> None:
    with pytest.raises(PluginError, match=text):
        async with opened(Engine(made), effects="engine"):
            pass


class Controllers:
    """A host that gives these."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller

    def scoped(self, scope: RuntimeScope) -> Any:
        return self._controller


class Raises(Unwritten):
    durable = True

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> Any:
        raise OSError("no connection")


class Silent(Unwritten):
    durable = True

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> Any:
        return None


class Forgets(Raises):
    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> Any:
        return await run(envelope)

    async def flush(self) -> None:
        raise OSError("no connection")


@pytest.mark.parametrize(
    ("controller", "text"),
    [
        (Raises(), "effect_host_failed: the effect host of plugin `engines` failed at `turn_start`: OSError"),
        (Silent(), "runtime_effect_wrong_outcome: the effect host of plugin `engines` answered `turn_start`"),
    ],
)
async def test_what_a_host_does_wrong_ends_the_turn_in_its_name(controller: Any, text: str) -> None:
    async with opened(Engine(lambda: Controllers(controller)), effects="engine") as lash:
        turn = await (await lash.session("s")).run("Hello")
    assert isinstance(turn.outcome, Stopped)
    assert text in turn.errors[0].message


async def test_a_controller_that_lacks_a_method_is_refused_by_name() -> None:
    async with opened(Engine(lambda: Controllers(object())), effects="engine") as lash:
        with pytest.raises(Exception, match="of plugin `engines` its controller lacks `execute`, `prepare`, `flush`"):
            await (await lash.session("s")).run("Hello")


async def test_an_exception_of_ours_passes_a_host_as_it_is() -> None:
    """What the executor raises is not the host's fault, and isn't said to be."""

    class Mismatches(Unwritten):
        durable = True

        async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> Any:
            raise ReplayError("runtime_effect_mismatch", "it is not what was recorded")

    async with opened(Engine(lambda: Controllers(Mismatches())), effects="engine") as lash:
        with pytest.raises(ReplayError, match="runtime_effect_mismatch"):
            await (await lash.session("s")).run("Hello")


@pytest.mark.parametrize("name", ["journal", "inline"])
async def test_hook_lash_effect_hosts_can_not_take_a_name_of_lashs_own(name: str) -> None:
    async with opened_with_installed(Engine(Journals, host_id=name)) as lash:
        (row,) = [each for each in lash.host.report.failed if each.plugin_id == "engines"]
        assert f"offers effect host `{name}`, which is lash's own" in row.message


async def test_hook_lash_effect_hosts_of_one_id_conflict_and_one_that_raises_is_a_row() -> None:
    class Broken(Plugin):
        @hookimpl
        def lash_effect_hosts(self) -> Any:
            raise OSError("no disk")

    async with opened_with_installed(Engine(Journals), Engine(Journals, id="more"), Broken("broken")) as lash:
        rows = {each.plugin_id: each.message for each in lash.host.report.failed}
    assert "effect host `engine`" in rows["more"]
    assert "no disk" in rows["broken"]
