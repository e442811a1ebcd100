"""What an effect host must do besides that keeps outcomes."""

from __future__ import annotations

from attrs import evolve

from lash_hookspecs.effect_commands import LlmCallCommand
from lash_hookspecs.effect_outcomes import DirectOutcome, LlmCallOutcome
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.llm import LlmCallError, LlmRequest, LlmResponse
from lash_hookspecs.testing.effects.kit import (
    SCOPE,
    Open,
    Runner,
    answer,
    begun,
    case,
    envelope,
    question,
    refused,
    same,
    text_of,
)

__all__: list[str] = []


@case("replay", durable=True)
async def _replay(open_host: Open) -> None:
    """The next process gets the recorded outcome, and nothing is executed."""
    await begun(open_host, (envelope(), Runner(answer("first"))))
    run = Runner(answer("second"))
    async with open_host() as host:
        controller = host.scoped(SCOPE)
        same(await controller.execute(envelope(), run), answer("first"), "the outcome")
        same(controller.durable, True, "`durable`")
    same(run.ran, [], "what was executed")


@case("replay-in-any-order", durable=True)
async def _replay_in_any_order(open_host: Open) -> None:
    """Records are found by their keys, in whatever order they are asked for; what has none is executed."""
    effects = [(envelope(id), Runner(answer(id))) for id in ("a", "b")]
    await begun(open_host, *effects)
    run = Runner(answer("new"))
    async with open_host() as host:
        controller = host.scoped(SCOPE)
        found = [text_of(await controller.execute(envelope(id), run)) for id in ("b", "new", "a")]
    same(found, ["b", "new", "a"], "the answers")
    same(run.ran, ["new"], "what was executed")


@case("replay-of-a-failure", durable=True)
async def _replay_of_a_failure(open_host: Open) -> None:
    """An outcome that is a failure is recorded like any other."""
    failed = DirectOutcome(LlmCallError(message="overloaded", code="busy"))
    await begun(open_host, (envelope(), Runner(failed)))
    async with open_host() as host:
        same(await host.scoped(SCOPE).execute(envelope(), Runner(answer("no"))), failed, "the outcome")


@case("replay-of-an-error", durable=True)
async def _replay_of_an_error(open_host: Open) -> None:
    """An `EffectControllerError` of the executor is recorded: the next process gets it with its code."""
    async with open_host() as host:
        controller = host.scoped(SCOPE)
        await refused(controller.execute(envelope(), Runner(EffectControllerError("some_code", "no"))), "some_code")
        await controller.flush()
    run = Runner(answer("yes"))
    async with open_host() as host:
        await refused(host.scoped(SCOPE).execute(envelope(), run), "some_code")
    same(run.ran, [], "what was executed")


@case("replay-of-a-model-call", durable=True)
async def _replay_of_a_model_call(open_host: Open) -> None:
    """After `flush`, a model's reply is recorded, too: it isn't paid again."""
    asked = envelope("call", LlmCallCommand("provider", LlmRequest(model="m", messages=())))
    await begun(open_host, (asked, Runner(LlmCallOutcome(LlmResponse(full_text="first")))))
    run = Runner(LlmCallOutcome(LlmResponse(full_text="second")))
    async with open_host() as host:
        same(text_of(await host.scoped(SCOPE).execute(asked, run)), "first", "the answer")
    same(run.ran, [], "what was executed")


@case("mismatch", durable=True)
async def _mismatch(open_host: Open) -> None:
    """Another question under the same key is refused (`runtime_effect_mismatch`), and nothing is executed."""
    await begun(open_host, (envelope(), Runner(answer("first"))))
    run = Runner(answer("second"))
    async with open_host() as host:
        asked = envelope(command=question("another model"))
        await refused(host.scoped(SCOPE).execute(asked, run), "runtime_effect_mismatch")
    same(run.ran, [], "what was executed")
    async with open_host() as host:
        same(text_of(await host.scoped(SCOPE).execute(envelope(), run)), "first", "the answer that was recorded")


@case("scopes-apart", durable=True)
async def _scopes_apart(open_host: Open) -> None:
    """What another turn or another session asked is of no turn's business."""
    await begun(open_host, (envelope(), Runner(answer("first"))))
    async with open_host() as host:
        for scope in (evolve(SCOPE, turn_id="u"), evolve(SCOPE, session_id="another")):
            run = Runner(answer("own"))
            same(text_of(await host.scoped(scope).execute(envelope(scope=scope), run)), "own", "the answer")
            same(run.ran, ["e1"], "what was executed")


@case("key-reused", durable=True)
async def _key_reused(open_host: Open) -> None:
    """Within one process, two effects under one key are refused (`runtime_effect_key_reused`)."""
    async with open_host() as host:
        controller = host.scoped(SCOPE)
        await controller.execute(envelope(), Runner(answer("first")))
        await refused(controller.execute(envelope(), Runner(answer("second"))), "runtime_effect_key_reused")
