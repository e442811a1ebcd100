"""What plugins make of a session's policy: each change has its plugin's name, and one that can't be is passed over."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from attrs import evolve, frozen
from hook_kit import Plugin

from lash_hookspecs import (
    BuiltinEntry,
    Mode,
    ModeDriver,
    PromptBuiltin,
    PromptLayer,
    PromptSection,
    PromptSlot,
    PromptTemplate,
    SessionPolicy,
    SessionStateSpec,
    SlotEntry,
    TextEntry,
    hookimpl,
)
from lash_plugin_mode_standard.driver import StandardDriver

HostInTest = Any

TEMPLATE = PromptTemplate(
    sections=(
        PromptSection(
            title="House rules",
            entries=(
                TextEntry("Rule one."),
                SlotEntry(PromptSlot.GUIDANCE),
                SlotEntry(PromptSlot.PROJECT_INSTRUCTIONS),
            ),
        ),
        PromptSection(entries=(BuiltinEntry(PromptBuiltin.MAIN_AGENT_INTRO),)),
    )
)


class Configures(Plugin):
    """Makes something of the policy, and remembers that it has."""

    def __init__(self, make: Any, id: str = "mine") -> None:
        super().__init__(id)
        self._make = make

    @hookimpl
    def lash_session_state(self) -> SessionStateSpec:
        return SessionStateSpec(state=Remembered)

    @hookimpl
    def lash_session_config(self, ctx: Any, policy: SessionPolicy) -> SessionPolicy:
        ctx.set_state(Remembered(True))
        made: SessionPolicy = self._make(policy)
        return made

    @hookimpl
    def lash_before_turn(self, ctx: Any) -> None:
        self.calls.append(ctx.state.it)


@frozen
class Remembered:
    it: bool = False


def with_template(policy: SessionPolicy) -> SessionPolicy:
    return evolve(policy, prompt=evolve(policy.prompt, template=TEMPLATE))


async def test_a_template_has_the_name_of_the_plugin_that_put_it_into_the_policy(lash_host: HostInTest) -> None:
    """Its headings and texts were the session's."""
    async with lash_host(Configures(with_template), says=["One.", "Two."]) as host:
        for turn_id in ("t1", "t2"):
            await host.run("Hello", turn_id=turn_id)
            explained = await host.lash.explain(turn_id)
            owners = {each.text: each.plugin_ids for each in explained.lines}
            assert owners["## House rules"] == owners["Rule one."] == ("mine",)
            assert explained.changes == ()


async def test_nobody_has_a_template_in_another_ones_name(lash_host: HostInTest) -> None:
    def forged(policy: SessionPolicy) -> SessionPolicy:
        return evolve(policy, prompt=PromptLayer(template=evolve(TEMPLATE, plugin_id="other")))

    async with lash_host(Configures(forged), says=["One."]) as host:
        await host.run("Hello", turn_id="t")
        assert (await host.lash.explain("t")).template_owner == "mine"


async def test_who_keeps_something_from_being_said_is_named(lash_host: HostInTest) -> None:
    """What a layer below had to say was dropped by the session, it read."""

    def empties(policy: SessionPolicy) -> SessionPolicy:
        return evolve(policy, prompt=policy.prompt.without_slot(PromptSlot.PROJECT_INSTRUCTIONS))

    async with lash_host(Configures(empties), says=["One.", "Two."], instructions="Be kind.") as host:
        for turn_id in ("t1", "t2"):
            await host.run("Hello", turn_id=turn_id)
            prompt = (await host.lash.explain(turn_id)).prompt
            assert [(each.dropped, each.because) for each in prompt if each.dropped] == [("reset", "plugin `mine`")]


BAD: dict[str, Any] = {
    "another mode": lambda it: evolve(it, mode_id="nowhere"),
    "another model": lambda it: evolve(it, model="nobody:m"),
    "an extension that nobody knows": lambda it: evolve(it, extension={"id": "x", "value": {}}),
    "an extension without an id": lambda it: evolve(it, extension={"value": {}}),
    "an option that nobody knows": lambda it: evolve(it, options={"limit": 1}),
    "a name that can't be stored": lambda it: evolve(it, model_variant="\udc80"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_policy_that_can_not_be_is_passed_over_with_what_its_plugin_remembered(
    lash_host: HostInTest, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it had set in its state was kept; one kept the session from being opened."""
    plugin = Configures(BAD[kind])
    with caplog.at_level(logging.WARNING):
        async with lash_host(plugin, says=["One.", "Two."]) as host:
            assert (await host.run("Hello")).is_success
    assert plugin.calls == [False]
    assert any("`mine`" in each.message for each in caplog.records)


async def test_a_policy_that_can_not_be_stored_is_passed_over(lash_host: HostInTest) -> None:
    """Where a driver takes any option: no turn of the session could begin."""

    class Loose(Configures):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            return [Mode(mode_id="loose", driver=ModeDriver(make=StandardDriver))]

    plugin = Loose(lambda it: evolve(it, options={"limit": object()}))
    async with lash_host(plugin, says=["One."], mode="loose") as host:
        assert (await host.run("Hello")).is_success
    assert plugin.calls == [False]
