"""What every effect host must do."""

from __future__ import annotations

from typing import Any

import anyio
from attrs import evolve

from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.effect_outcomes import DirectOutcome, LlmCallOutcome, RuntimeEffectOutcome
from lash_hookspecs.effects import (
    EffectController,
    EffectSubject,
    RuntimeEffectEnvelope,
    child_key,
)
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.llm import LlmCallError, LlmResponse
from lash_hookspecs.testing.effects.kit import (
    SCOPE,
    Open,
    Runner,
    answer,
    case,
    envelope,
    question,
    refused,
    same,
    text_of,
)

__all__: list[str] = []


@case("outcome")
async def _outcome(open_host: Open) -> None:
    """An effect is executed once, and its outcome returned."""
    run = Runner(answer("yes"))
    async with open_host() as host:
        same(await host.scoped(SCOPE).execute(envelope(), run), answer("yes"), "the outcome")
    same(run.ran, ["e1"], "what was executed")


@case("outcome-of-a-failure")
async def _outcome_of_a_failure(open_host: Open) -> None:
    """A failure inside of an outcome is an outcome like any other, and no exception."""
    failed = DirectOutcome(LlmCallError(message="overloaded", code="busy"))
    async with open_host() as host:
        same(await host.scoped(SCOPE).execute(envelope(), Runner(failed)), failed, "the outcome")


@case("error")
async def _error(open_host: Open) -> None:
    """An `EffectControllerError` of the executor comes out with its code."""
    async with open_host() as host:
        run = Runner(EffectControllerError("some_code", "it failed"))
        await refused(host.scoped(SCOPE).execute(envelope(), run), "some_code")


@case("exception")
async def _exception(open_host: Open) -> None:
    """Any other exception of the executor comes out as it is, and is no outcome: the effect may be asked for again."""
    broken = ValueError("a bug")
    async with open_host() as host:
        try:
            await host.scoped(SCOPE).execute(envelope(), Runner(broken))
        except ValueError as error:
            same(error, broken, "the exception")
        else:
            raise AssertionError("the executor's exception must come out")
    async with open_host() as host:
        same(text_of(await host.scoped(SCOPE).execute(envelope(), Runner(answer("yes")))), "yes", "the answer")


@case("wrong-outcome")
async def _wrong_outcome(open_host: Open) -> None:
    """An outcome of another kind than the effect's is refused (`runtime_effect_wrong_outcome`)."""
    wrong = LlmCallOutcome(LlmResponse(full_text="yes"))
    async with open_host() as host:
        await refused(host.scoped(SCOPE).execute(envelope(), Runner(wrong)), "runtime_effect_wrong_outcome")


@case("envelope-as-it-is")
async def _envelope_as_it_is(open_host: Open) -> None:
    """The executor gets the envelope that was asked for, with scope, subject, key and command."""
    got: list[RuntimeEffectEnvelope] = []

    async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        got.append(envelope)
        return answer("yes")

    async with open_host() as host:
        await host.scoped(SCOPE).execute(envelope(), run)
    same(got, [envelope()], "what the executor got")


@case("cancellation")
async def _cancellation(open_host: Open) -> None:
    """A cancellation reaches the executor and comes out; the effect has no outcome, and may be asked for again."""
    reached: list[str] = []

    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        try:
            scope.cancel()
            await anyio.sleep_forever()
        finally:
            reached.append("cancelled")
        raise AssertionError("unreachable")

    async with open_host() as host:
        with anyio.CancelScope() as scope:
            await host.scoped(SCOPE).execute(envelope(), run)
            raise AssertionError("the cancellation must come out")
    same(reached, ["cancelled"], "what reached the executor")
    async with open_host() as host:
        same(text_of(await host.scoped(SCOPE).execute(envelope(), Runner(answer("yes")))), "yes", "the answer")


@case("at-once")
async def _at_once(open_host: Open) -> None:
    """Effects of one scope are executed at once, and each gets its own outcome."""
    inside, all_inside = 0, anyio.Event()
    found: dict[str, str] = {}

    async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        nonlocal inside
        inside += 1
        if inside == 3:
            all_inside.set()
        await all_inside.wait()
        return answer(envelope.invocation.subject.effect_id)

    async with open_host() as host:
        controller = host.scoped(SCOPE)
        asked = [envelope(id) for id in ("a", "b", "c")]
        await controller.prepare(asked)

        async def ask(each: RuntimeEffectEnvelope) -> None:
            found[each.invocation.subject.effect_id] = text_of(await controller.execute(each, run))

        with anyio.move_on_after(10) as limit:
            async with anyio.create_task_group() as tasks:
                for each in asked:
                    tasks.start_soon(ask, each)
        if limit.cancelled_caught:
            raise AssertionError("they must be executed at once: one waits for the others")
    same(found, {"a": "a", "b": "b", "c": "c"}, "the answers")


@case("within")
async def _within(open_host: Open) -> None:
    """An executor may ask for effects of the same scope, under keys of its own."""
    async with open_host() as host:
        controller = host.scoped(SCOPE)

        async def outer(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            inner = envelope("inner", question("inner"), key=child_key(asked.key, "plugin", 0))
            return answer(text_of(await controller.execute(inner, Runner(answer("within")))) + ", without")

        same(text_of(await controller.execute(envelope(), outer)), "within, without", "the answer")


@case("prepared")
async def _prepared(open_host: Open) -> None:
    """What was prepared is executed when it is asked for; what is never asked for does no harm."""
    run = Runner(answer("yes"))
    async with open_host() as host:
        controller = host.scoped(SCOPE)
        await controller.prepare([])
        await controller.prepare([envelope("a"), envelope("b")])
        same(run.ran, [], "what was executed")
        await controller.execute(envelope("a"), run)
        await controller.flush()
    same(run.ran, ["a"], "what was executed")


@case("codes")
async def _codes(open_host: Open) -> None:
    """A question that can't be is refused before any host sees it, with a code of its own."""

    async def made(**changes: Any) -> RuntimeEffectEnvelope:
        return RuntimeEffectEnvelope(evolve(envelope().invocation, **changes), question())

    kind = RuntimeEffectKind.DIRECT
    await refused(made(subject=EffectSubject(effect_id=" ", kind=kind)), "runtime_effect_invocation_subject")
    other = EffectSubject(effect_id="e1", kind=RuntimeEffectKind.SLEEP)
    await refused(made(subject=other), "runtime_effect_invocation_kind")
    await refused(made(replay=None), "runtime_effect_replay_required")
    async with open_host():
        pass


@case("says-whether-durable")
async def _says_whether_durable(open_host: Open) -> None:
    """A controller says, before and after an effect, whether what it ran would survive: in a word, not a guess."""
    async with open_host() as host:
        controller: EffectController = host.scoped(SCOPE)
        before = controller.durable
        await controller.execute(envelope(), Runner(answer("yes")))
        same([type(before), type(controller.durable)], [bool, bool], "what `durable` is")
