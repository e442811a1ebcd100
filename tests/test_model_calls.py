"""Whatever a provider does, a model call has an outcome; what was answered is kept, and faults name the provider."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from agents import MODEL, NoSettings, agent, plugin
from attrs import evolve

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    AssembledTurn,
    CodecError,
    ConfigurationError,
    Finished,
    LlmCallError,
    LlmCallFailed,
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    ModelCapability,
    ProviderReasoningMeta,
    ProviderRoute,
    ProviderSpec,
    ReasoningBlock,
    ReasoningOutput,
    Stopped,
    StopReason,
    TextOutput,
)
from lash_plugin_provider_scripted import ScriptedProvider


class Gives(ScriptedProvider):
    """A provider that gives what the function gives, whatever that is; after that it answers."""

    def __init__(self, give: Callable[[], Any]) -> None:
        super().__init__(["Still here."])
        self.give: Callable[[], Any] | None = give

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        give, self.give = self.give, None
        if give is None:
            return await super().complete(request, send)
        result: LlmResponse = give()
        return result


def raising(error: BaseException) -> Callable[[], Any]:
    def give() -> Any:
        raise error

    return give


async def asked(give: Callable[[], Any]) -> AssembledTurn:
    """The turn in which the provider gives this; afterwards the session must still answer."""
    async with agent(Gives(give)) as lash:
        session = await lash.session("s")
        turn = await session.run("q")
        assert (await session.run("and now?")).text == "Still here."
        return turn


async def complaint(give: Callable[[], Any]) -> str:
    turn = await asked(give)
    assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
    (issue,) = [each for each in turn.errors if each.blocking]
    return issue.message


@pytest.mark.parametrize(("value", "shown"), [(None, "None"), ("Hello!", "a `str`")])
async def test_a_provider_that_returns_no_answer_is_named_with_what_it_returned(value: Any, shown: str) -> None:
    expected = f"provider `test` returned {shown}, where a `LlmResponse` was expected"
    assert expected in await complaint(lambda: value)


@pytest.mark.parametrize(
    ("give", "shown"),
    [
        (lambda: sys.exit(1), "SystemExit: 1"),
        (raising(CodecError("not JSON")), "CodecError: not JSON"),
        (raising(ExceptionGroup("g", [ValueError("row")])), "ValueError: row"),
    ],
    ids=["sys.exit", "lash_error", "group"],
)
async def test_whatever_a_provider_raises_is_a_failed_model_call(give: Callable[[], Any], shown: str) -> None:
    assert f"provider `test` failed: {shown}" in await complaint(give)


async def test_an_answer_with_anothers_opaque_state_is_refused() -> None:
    """It isn't stamped anew: then a service would be sent what another one sealed."""
    elsewhere = ProviderRoute("other", "https://far.example/v1", "model")
    state = ProviderReasoningMeta(encrypted_content="sealed", origin=elsewhere)
    told = await complaint(lambda: LlmResponse(full_text="hm", parts=(ReasoningOutput(text="hm", replay=state),)))
    assert "provider `test` returned state of `other` at https://far.example/v1" in told


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_nobody_asked_for_is_a_failed_model_call() -> None:
    assert "provider `test` failed: CancelledError" in await complaint(raising(asyncio.CancelledError()))


async def test_a_failure_in_a_providers_own_task_group_counts_as_without_the_group() -> None:
    failed = LlmCallFailed(LlmCallError(message="quota is used up"))
    assert "quota is used up" in await complaint(raising(ExceptionGroup("g", [failed])))


async def test_what_the_user_must_mend_comes_out_of_the_turn() -> None:
    async with agent(Gives(raising(ConfigurationError("set the key")))) as lash:
        session = await lash.session("s")
        with pytest.raises(ConfigurationError, match="set the key"):
            await session.run("q")


async def test_an_answer_with_half_a_character_is_kept_with_a_mark_in_its_place() -> None:
    """It is paid for; and no store has bytes for half a surrogate pair. A whole pair is put together."""
    parts = (ReasoningOutput(text="so \udc00"), TextOutput(text="caf\u00e9 \ud83d and \ud83d\ude00"))
    turn = await asked(lambda: LlmResponse(full_text="caf\u00e9 \ud83d and \ud83d\ude00", parts=parts))
    assert isinstance(turn.outcome, Finished)
    assert turn.text == "caf\u00e9 \ufffd and \U0001f600"


# ---- opening --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("open_it", "shown"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: sys.exit(2), "SystemExit: 2"),
        (lambda: None, "its `open` returned None, which is no `Provider`"),
    ],
)
async def test_a_provider_that_cant_be_opened_is_named_with_its_plugin(open_it: Callable[[], Any], shown: str) -> None:
    def lash_providers() -> list[ProviderSpec]:
        return [ProviderSpec(provider_id="test", settings=NoSettings, open=lambda _: open_it(), live=False)]

    options = {"model": MODEL, "plugins": [plugin("maker", lash_providers)], "settings": load_settings(env={})}
    async with Lash.open("sqlite://", **options) as lash:
        session = await lash.session("s")
        with pytest.raises(ConfigurationError) as caught:
            await session.run("q")
    assert str(caught.value) == f"provider `test` of plugin `maker` can't be opened: {shown}"
    assert (caught.value.__cause__ is not None) is ("Error" in shown or "Exit" in shown)


# ---- opaque state ---------------------------------------------------------------------------------------------------


class Thinks(ScriptedProvider):
    """A provider that wants its encrypted reasoning back, and whose model `far` is served elsewhere."""

    def __init__(self) -> None:
        super().__init__(lambda request: f"answer to {len(request.messages)}")

    def capability(self, model: str) -> ModelCapability:
        return ModelCapability(endpoint=f"https://{'far' if model == 'far' else 'near'}.example/v1")

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        answer = await super().complete(request, send)
        state = ProviderReasoningMeta(encrypted_content=f"sealed by {request.model}")
        return evolve(answer, parts=(ReasoningOutput(text="hm", replay=state), *answer.parts))

    def went_back(self) -> list[str | None]:
        """What of the sealed reasoning the last request brought back."""
        blocks = [block for message in self.requests[-1].messages for block in message.blocks]
        return [each.replay.encrypted_content for each in blocks if isinstance(each, ReasoningBlock) and each.replay]


@pytest.mark.statement(61)
async def test_opaque_state_goes_back_to_the_model_and_endpoint_it_came_from_and_to_nobody_else() -> None:
    """What a provider wants back goes to the same route, and to no other one."""
    model = Thinks()
    async with agent(model) as lash:
        session = await lash.session("s")
        await session.run("one")
        await session.run("two")
        assert model.went_back() == ["sealed by model"]
        for other in ("test:other", "test:far"):
            await session.configure(model=other)
            await session.run("three")
            assert model.went_back() == []
        assert sum("answer to" in str(each) for each in model.requests[-1].messages) == 3  # the words stay
        await session.configure(model=MODEL)
        await session.run("four")
        assert model.went_back() == ["sealed by model", "sealed by model"]
        stamps = {
            part.reasoning_meta.origin for m in await session.messages() for part in m.parts if part.reasoning_meta
        }
    assert stamps == {
        ProviderRoute("test", "https://near.example/v1", "model"),
        ProviderRoute("test", "https://near.example/v1", "other"),
        ProviderRoute("test", "https://far.example/v1", "far"),
    }
