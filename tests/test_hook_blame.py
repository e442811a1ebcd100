"""Who is named for what went wrong, or for a setting, is who it was, and what is told as done was done."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hook_kit import Plugin
from test_hook_names import Around

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    CreateSession,
    DriverWrap,
    EnqueueMessages,
    GenerationOptions,
    Mode,
    ModeDriver,
    ModeExtension,
    PromptContribution,
    SessionStateSpec,
    Step,
    frozen,
    hookimpl,
)
from lash_plugin_mode_standard.driver import StandardDriver

HostInTest = Any


# ---- hooks ----------------------------------------------------------------------------------------------------------


@frozen
class Count:
    """What a plugin remembers."""

    turns: int = 0


async def test_a_hook_that_may_not_do_what_it_does_is_told_by_its_own_name(lash_host: HostInTest) -> None:
    """`lash_session_state` and `edit_tools`, which are no hooks that anybody had called, were."""

    class Watches(Plugin):
        @hookimpl
        def lash_session_state(self) -> SessionStateSpec:
            return SessionStateSpec(state=Count)

        @hookimpl
        def lash_turn_committed(self, ctx: Any) -> None:
            ctx.set_state(Count(1))

        @hookimpl
        def lash_session_opened(self, ctx: Any) -> None:
            self.calls.append(ctx.state)

    async with lash_host(Watches(), says=["Yes."]) as host:
        (issue,) = (await host.run("Hello")).errors
    assert issue.code == "lash_turn_committed"
    assert issue.message == "plugin `mine`, hook `lash_turn_committed`: this hook only reads the state"


async def test_what_was_said_before_a_hook_failed_is_not_told_as_done(lash_host: HostInTest) -> None:
    """`lash explain` had messages and a session by a plugin whose turn never came to them."""

    class Says(Plugin):
        @hookimpl
        def lash_before_turn(self) -> list[Any]:
            return [EnqueueMessages.note("Mind the gap."), CreateSession(key="k", session_id="child")]

    class Fails(Plugin):
        @hookimpl
        def lash_prompt_contributions(self) -> PromptContribution:
            raise ValueError("no")

    async with lash_host(Says("says"), Fails("fails"), says=["Yes."]) as host:
        turn = await host.run("Hello")
        acts = (await host.lash.explain(turn.turn_id)).acts
        messages = await (await host.lash.session("test")).messages()
    assert [each.text for each in messages] == ["Hello"]
    assert turn.interventions == ()
    (act,) = acts
    assert (act.plugin_id, act.what.partition(":")[0]) == ("fails", "failed")


# ---- drivers --------------------------------------------------------------------------------------------------------


class Breaks(Around):
    def prepare_protocol_iteration(self, ctx: Any) -> Step:
        raise ValueError("it broke")


class PassesOn(Around):
    def prepare_protocol_iteration(self, ctx: Any) -> Step:
        step: Step = self._inner.prepare_protocol_iteration(ctx)
        return step


class Driven(Plugin):
    """A mode with something around the driver of another one."""

    def __init__(self, id: str, mode_id: str, extends: str, around: Any) -> None:
        super().__init__(id)
        self._mode = Mode(mode_id=mode_id, extends=extends, wrap=DriverWrap(around=around))

    @hookimpl
    def lash_modes(self) -> list[Mode]:
        return [self._mode]


@pytest.mark.parametrize(("inner", "outer", "whose"), [(Breaks, PassesOn, "one"), (PassesOn, Breaks, "two")])
async def test_the_driver_that_raised_is_named_and_none_of_the_others(
    lash_host: HostInTest, inner: Any, outer: Any, whose: str
) -> None:
    """All of them were, and the issue was nobody's, so that `lash explain` had no word of it."""
    plugins = [Driven("one", "inner", "standard", inner), Driven("two", "outer", "inner", outer)]
    async with lash_host(*plugins, says=["Yes."], mode="outer") as host:
        turn = await host.run("Hello")
        (act,) = (await host.lash.explain(turn.turn_id)).acts
    (issue,) = turn.errors
    assert issue.plugin_id == act.plugin_id == whose
    assert f"the protocol driver of mode `outer` (plugin `{whose}`) failed: ValueError: it broke" in issue.message


@attrs.frozen
class Sealed(Exception):
    """One whose class lets nobody write on it."""

    words: str


async def test_an_error_that_nobody_can_write_a_name_on_is_told_as_it_is(lash_host: HostInTest) -> None:
    """It was told as `FrozenInstanceError`, which the kernel had made of it."""

    class Seals(Breaks):
        def prepare_protocol_iteration(self, ctx: Any) -> Step:
            raise Sealed("it is sealed")

    async with lash_host(Driven("one", "sealed", "standard", Seals), says=["Yes."], mode="sealed") as host:
        (issue,) = (await host.run("Hello")).errors
    assert "Sealed" in issue.message
    assert "Frozen" not in issue.message


async def test_what_is_around_a_driver_that_was_replaced_is_no_part_of_the_mode(lash_host: HostInTest) -> None:
    """`lash modes show` had it, and so had the error of the driver that took its place."""

    class Replaces(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            driver = ModeDriver(make=lambda: Breaks(StandardDriver()))
            return [Mode(mode_id="own", extends="noted", driver=driver)]

    async with lash_host(
        Driven("one", "noted", "standard", PassesOn), Replaces("two"), says=["Yes."], mode="own"
    ) as host:
        composition = (await host.lash.session("test")).composition
        (issue,) = (await host.run("Hello")).errors
    assert [each.plugin_id for each in composition.provenance if each.kind == "driver"] == ["two"]
    assert issue.plugin_id == "two"


# ---- settings -------------------------------------------------------------------------------------------------------


async def test_a_setting_has_the_name_of_the_mode_that_says_it_or_of_the_plugin_that_adds_it() -> None:
    """All were those of the mode that extends the others."""

    class Base(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            driver = ModeDriver(make=StandardDriver)
            return [Mode(mode_id="base", driver=driver, max_turns=7, generation=GenerationOptions(seed=1))]

    class Adds(Plugin):
        @hookimpl
        def lash_mode_extensions(self, mode: Mode) -> ModeExtension | None:
            return ModeExtension(options={"added": 1, "set": 1}) if mode.mode_id == "top" else None

    top = Mode(mode_id="top", extends="base", options={"set": 2}, generation=GenerationOptions(temperature=0.5))

    class Top(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            return [top]

    settings = load_settings(env={})
    plugins = [Base("base"), Adds("adds"), Top("top")]
    async with Lash.open("sqlite://", mode="top", settings=settings, plugins=plugins) as lash:
        turn = await (await lash.session("s")).run("Hello")
        told = {each.key: each.source for each in (await lash.explain(turn.turn_id)).settings}
    assert told | {"mode": "", "model": ""} == {
        "mode": "",
        "model": "",
        "max_turns": "mode base (base)",
        "generation.seed": "mode base (base)",
        "generation.temperature": "mode top (top)",
        "options.added": "mode extension (adds)",
        "options.set": "mode top (top)",
    }
