"""What a driver asks a model, other than what shows the conversation, has the name of its plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from hook_kit import Plugin
from test_hook_names import Around, OuterModes

from lash_framework.request_changes import request_change
from lash_framework.testing import call, crash_at_every_effect, crash_host
from lash_hookspecs import (
    CheckpointKind,
    DriverWrap,
    LlmMessage,
    LlmRequest,
    LlmRole,
    Mode,
    ModeDriver,
    StartCheckpoint,
    StartLlm,
    Step,
    TextBlock,
    TurnIntervention,
    TurnInterventionKind,
    hookimpl,
    tool,
)
from lash_plugin_mode_standard.driver import StandardDriver

HostInTest = Any

BEFORE = CheckpointKind("noted:before")


class Asks(Around):
    """Lays something over each request, as `change` says."""

    def __init__(self, inner: Any, change: Callable[[LlmRequest], LlmRequest]) -> None:
        super().__init__(inner)
        self._change = change

    def prepare_protocol_iteration(self, ctx: Any) -> Step:
        step: Step = self._inner.prepare_protocol_iteration(ctx)
        assert isinstance(step.next, StartLlm)
        return evolve(step, next=evolve(step.next, request=self._change(step.next.request)))

    def handle_llm_success(self, *given: Any) -> Step:
        step: Step = self._inner.handle_llm_success(*given)
        return step


def brief(request: LlmRequest) -> LlmRequest:
    first, *rest = request.messages
    (block,) = first.blocks
    said = evolve(first, blocks=(evolve(block, text=f"{block.text}\nBe brief."),))
    return evolve(request, messages=(said, *rest))


def reminded(request: LlmRequest) -> LlmRequest:
    return evolve(request, messages=(*request.messages, LlmMessage(LlmRole.USER, (TextBlock(text="Go on now."),))))


REQUESTS: dict[str, tuple[Callable[[LlmRequest], LlmRequest], str]] = {
    "the prompt": (brief, "the system prompt: Be brief."),
    "a message more": (reminded, "the messages: Go on now."),
    "fewer messages": (lambda it: evolve(it, messages=it.messages[:1]), "the messages"),
    "no tools": (lambda it: evolve(it, tools=()), "`tools`"),
    "another model, no tools": (lambda it: evolve(it, model="m", tools=()), "`model`, `tools`"),
}


@pytest.mark.parametrize("kind", REQUESTS)
async def test_what_a_driver_around_another_one_makes_of_a_request_has_its_plugins_name(
    lash_host: HostInTest, kind: str
) -> None:
    """The model read it, in nobody's name: `lash explain` told of another prompt. Who passes on is not named."""
    change, told = REQUESTS[kind]

    class Asking(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            wrap = DriverWrap(around=lambda inner: Asks(inner, change))
            return [Mode(mode_id="noted", extends="standard", wrap=wrap)]

    @tool(effect="pure")
    async def now() -> str:
        "The time."
        return "noon"

    says = [call("now"), "It is noon."]
    async with lash_host(Asking("one"), OuterModes("two"), says=says, mode="outer", tools=[now]) as host:
        turn = await host.run("What time is it?")
        assert turn.is_success
        acts = (await host.lash.explain(turn.turn_id)).acts
    what = f"asked the model something else than what shows the conversation: {told} (2 times)"
    assert [(each.plugin_id, each.what) for each in acts] == [("one", what)]


async def test_two_drivers_are_each_named_with_what_they_changed(lash_host: HostInTest) -> None:
    class Inner(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            wrap = DriverWrap(around=lambda inner: Asks(inner, brief))
            return [Mode(mode_id="noted", extends="standard", wrap=wrap)]

    class AroundIt(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            wrap = DriverWrap(around=lambda inner: Asks(inner, reminded))
            return [Mode(mode_id="outer", extends="noted", wrap=wrap)]

    async with lash_host(Inner("one"), AroundIt("two"), says=["Yes."], mode="outer") as host:
        turn = await host.run("Hello")
    assert [(each.plugin_id, each.detail) for each in turn.interventions] == [
        ("one", "the system prompt: Be brief."),
        ("two", "the messages: Go on now."),
    ]


async def test_a_driver_of_its_own_that_asks_otherwise_is_named_and_speaks_in_nobody_elses_name(
    lash_host: HostInTest,
) -> None:
    class Forges(Asks):
        def prepare_protocol_iteration(self, ctx: Any) -> Step:
            step = super().prepare_protocol_iteration(ctx)
            assert isinstance(step.next, StartLlm)
            by = TurnIntervention(plugin_id="somebody", kind=TurnInterventionKind.REQUEST_CHANGED)
            return evolve(step, next=evolve(step.next, did=(by,)))

    class Own(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            return [Mode(mode_id="own", driver=ModeDriver(make=lambda: Forges(StandardDriver(), brief)))]

    async with lash_host(Own("one"), says=["Yes."], mode="own") as host:
        turn = await host.run("Hello")
    assert [each.plugin_id for each in turn.interventions] == ["one"]


def test_what_is_told_of_a_change_has_an_end() -> None:
    """The turn that is stored holds it."""
    asked = LlmRequest(model="m", messages=(LlmMessage(LlmRole.USER, (TextBlock(text="Hello"),)),))
    more = evolve(asked, messages=(*asked.messages, LlmMessage(LlmRole.USER, (TextBlock(text="x" * 1000),))))
    assert len(request_change(asked, more)) < 250
    assert request_change(asked, evolve(more, messages=asked.messages)) == ""
    assert request_change(None, asked) == "all of it"


async def test_it_is_named_after_a_crash_too_and_where_a_checkpoint_comes_first() -> None:
    class Checks(Asks):
        def prepare_protocol_iteration(self, ctx: Any) -> Step:
            step = super().prepare_protocol_iteration(ctx)
            assert isinstance(step.next, StartLlm)
            return evolve(step, next=StartCheckpoint(kind=BEFORE, on_empty=step.next))

    class Asking(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            wrap = DriverWrap(around=lambda inner: Checks(inner, brief), checkpoints={BEFORE: "always"})
            return [Mode(mode_id="noted", extends="standard", wrap=wrap)]

    def named(crash: Any) -> None:
        (did,) = crash.ending.turn.interventions
        assert (did.plugin_id, did.detail) == ("mine", "the system prompt: Be brief.")

    opened = crash_host(Asking(), says=["Yes."], mode="noted")
    await crash_at_every_effect(opened, "Go on.", points=lambda each: each.kind == "effect", checks=[named])
