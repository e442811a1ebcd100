"""Checkpoints of a mode's own: where a driver lets plugins speak, besides the two that every mode has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from agents import agent, plugin
from attrs import evolve, frozen
from test_crash_kit import by_round, opens

from lash_framework.testing import crash_at_every_effect
from lash_hookspecs import (
    CheckpointKind,
    CodecError,
    ConfigurationError,
    DriverWrap,
    EnqueueMessages,
    Mode,
    ModeDriver,
    PrepareIteration,
    QueuedMessagesCommitted,
    SessionStateSpec,
    StartCheckpoint,
    StartLlm,
    Step,
    Stopped,
    StopReason,
    tool,
)
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.effect_commands import CheckpointCommand
from lash_plugin_provider_scripted import Call, Reply

BEFORE_MODEL = CheckpointKind("paced:before-model")
DECLARED = {BEFORE_MODEL: "before each model call"}


@frozen
class BeforeModel:
    """Around another driver: a checkpoint before each model call."""

    inner: Any

    def prepare_protocol_iteration(self, ctx: Any) -> Step:
        step = self.inner.prepare_protocol_iteration(ctx)
        assert isinstance(step.next, StartLlm)
        return evolve(step, next=StartCheckpoint(kind=BEFORE_MODEL, on_empty=step.next))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@frozen
class Turning(BeforeModel):
    """It asks itself again at a checkpoint of which nothing comes."""

    def prepare_protocol_iteration(self, ctx: Any) -> Step:
        return Step(next=StartCheckpoint(kind=BEFORE_MODEL, on_empty=PrepareIteration()))


def paced(around: Callable[[Any], Any] = BeforeModel, declared: Any = DECLARED) -> object:
    """A plugin with the mode `paced`."""

    def lash_modes() -> Sequence[Mode]:
        return [Mode(mode_id="paced", extends="standard", wrap=DriverWrap(around=around, checkpoints=declared))]

    return plugin("paced", lash_modes)


@tool(effect="pure")
async def look() -> str:
    "Look."
    return "seen"


TWICE = [Reply(text="Let me look.", tool_calls=[Call("look", {}, "c1")]), "Done."]


async def test_plugins_are_asked_at_a_mode_s_own_checkpoint_as_at_the_others() -> None:
    asked = []

    def lash_checkpoint(ctx: Any) -> Any:
        asked.append(ctx.kind)

    plugins = [paced(), plugin("listens", lash_checkpoint)]
    async with agent(TWICE, tools=[look], plugins=plugins, mode="paced") as lash:
        turn = await (await lash.session()).run("go")
    assert turn.text == "Done."
    kinds = [CheckpointKind.AFTER_WORK, BEFORE_MODEL, CheckpointKind.BEFORE_COMPLETION]
    assert asked == [BEFORE_MODEL, *kinds]
    assert [each is kind for each, kind in zip(asked[1:], kinds, strict=True)] == [True] * 3


async def test_what_is_added_there_is_in_the_request_that_follows_and_the_stream_says_where_it_was_added() -> None:
    seen, told = [], []

    def model(request: Any) -> str:
        seen.append([block.text for message in request.messages for block in message.blocks])
        return "Done."

    def lash_checkpoint(ctx: Any) -> Any:
        if ctx.kind == "paced:before-model" and ctx.iteration == 0:
            return EnqueueMessages.note("Be brief.")
        return None

    plugins = [paced(), plugin("brief", lash_checkpoint)]
    async with agent(model, plugins=plugins, mode="paced") as lash:
        session = await lash.session()
        async with session.turn("go") as running:
            told = [each.event async for each in running if isinstance(each.event, QueuedMessagesCommitted)]
    (texts,) = seen
    assert any("Be brief." in text for text in texts)
    assert [each.checkpoint for each in told] == [BEFORE_MODEL]


async def test_a_plugin_that_never_stops_adding_comes_to_the_turns_limit() -> None:
    def lash_checkpoint(ctx: Any) -> Any:
        return EnqueueMessages.note("Once more.") if ctx.kind == BEFORE_MODEL else None

    plugins = [paced(), plugin("endless", lash_checkpoint)]
    async with agent(["never asked"], plugins=plugins, mode="paced", max_turns=3) as lash:
        turn = await (await lash.session()).run("go")
    assert turn.outcome == Stopped(StopReason.MAX_TURNS)


@pytest.mark.parametrize(
    ("around", "declared", "fault"),
    [
        (
            BeforeModel,
            {},
            "checkpoint `paced:before-model` isn't declared: name it in `checkpoints` of the `ModeDriver` or `Driver",
        ),
        (Turning, DECLARED, "would come again and again: let `on_empty` ask the model"),
    ],
    ids=["not declared", "for ever"],
)
async def test_a_driver_that_misuses_a_checkpoint_ends_the_turn_with_words(
    around: Any, declared: Any, fault: str
) -> None:
    async with agent(["never asked"], plugins=[paced(around, declared)], mode="paced") as lash:
        session = await lash.session()
        turn = await session.run("go")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert fault in turn.errors[0].message


@frozen
class Told:
    times: int = 0


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_hook_that_speaks_once_there_speaks_once_wherever_the_process_dies() -> None:
    """Law 2 at a checkpoint of a mode's own: what its hooks said and remember is one record."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Told)

    def lash_checkpoint(ctx: Any) -> Any:
        if ctx.kind != BEFORE_MODEL or ctx.state.times:
            return None
        ctx.set_state(Told(ctx.state.times + 1))
        return EnqueueMessages.note("Be brief.")

    plugins = [paced(), plugin("brief", lash_session_state, lash_checkpoint)]
    report = await crash_at_every_effect(
        opens(by_round(*TWICE), tools=[look], plugins=plugins),
        "Go.",
        mode="paced",
        points=lambda point: point.kind == "effect",
    )
    assert str(report).count("checkpoint") > 4
    texts = [part.content for message in report.golden.messages for part in message.parts]
    assert texts.count("Be brief.") == 1  # and the kit compares all others with it


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_kind_is_one_object_and_comes_back_from_bytes_as_that_object() -> None:
    assert CheckpointKind("paced:before-model") is BEFORE_MODEL
    assert decode(CheckpointCommand, encode(CheckpointCommand(BEFORE_MODEL))).checkpoint is BEFORE_MODEL
    assert BEFORE_MODEL not in list(CheckpointKind)
    assert (BEFORE_MODEL.is_own, CheckpointKind.AFTER_WORK.is_own) == (True, False)


@pytest.mark.parametrize("name", ["before_model", "paced:", ":x", "Paced:x", "a:b:c", "paced:before model"])
def test_other_names_are_no_kinds_neither_in_code_nor_on_disk(name: str) -> None:
    with pytest.raises(ValueError, match="CheckpointKind"):
        CheckpointKind(name)
    data = encode(CheckpointCommand(BEFORE_MODEL)).replace(b"paced:before-model", name.encode())
    with pytest.raises(CodecError, match="CheckpointKind"):
        decode(CheckpointCommand, data)
    with pytest.raises(ConfigurationError, match=f"`{name}` names no checkpoint"):
        ModeDriver(make=object, checkpoints={name: "never"})


def test_a_mode_declares_only_points_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match="every mode has the checkpoint `after_work`"):
        DriverWrap(around=BeforeModel, checkpoints={"after_work": "after work"})


async def test_a_mode_shows_its_checkpoints_and_who_laid_what_around_its_driver() -> None:
    from lash_framework.cli.modes import _object

    async with agent([], plugins=[paced()]) as lash:
        shown = _object((await lash.session(mode="paced")).composition, "standard")
    assert shown["checkpoints"] == {"paced:before-model": "before each model call"}
    row = {"kind": "driver", "name": "paced", "plugin": "paced", "detail": "laid around the driver by mode `paced`"}
    assert row in shown["provenance"]


async def test_what_is_laid_around_a_driver_is_a_part_of_the_compositions_key() -> None:
    """Upgrades are judged by it: another wrap is another way to run turns."""
    keys = []
    for around in (BeforeModel, Turning, BeforeModel):
        async with agent([], plugins=[paced(around)]) as lash:
            keys.append((await lash.session(mode="paced")).composition.key)
    assert keys[0] == keys[2] != keys[1]


async def test_a_wrap_needs_a_driver_to_lie_around() -> None:
    def lash_modes() -> Sequence[Mode]:
        return [Mode(mode_id="bare", wrap=DriverWrap(around=BeforeModel))]

    async with agent([], plugins=[plugin("bare", lash_modes)]) as lash:
        with pytest.raises(ConfigurationError, match="no driver to lay it around: let it extend a mode"):
            await lash.session(mode="bare")
