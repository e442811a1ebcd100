"""What every effect host must do, as cases that its own tests run.

With pytest, one line is enough (see `conformance`)::

    test_host = conformance(lambda folder: open_my_host(folder), durable=True)

With a harness of your own, `effect_cases(durable=…)` gives the cases, and `await case.run(open_host)` checks one. The
cases know no test framework: one that fails raises `AssertionError`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
from attrs import evolve

from lash_hookspecs.effect_commands import DirectCommand, LlmCallCommand, RuntimeEffectCommand, RuntimeEffectKind
from lash_hookspecs.effect_outcomes import DirectOutcome, LlmCallOutcome, RuntimeEffectOutcome
from lash_hookspecs.effects import (
    EffectController,
    EffectHost,
    EffectRunner,
    EffectSubject,
    RuntimeEffectEnvelope,
    RuntimeInvocation,
    RuntimeReplay,
    RuntimeScope,
    child_key,
    effect_key,
)
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.llm import LlmCallError, LlmRequest, LlmResponse
from lash_hookspecs.values import frozen

__all__ = ["EffectCase", "OpenHost", "conformance", "effect_cases"]

OpenHost = Callable[[Path], AbstractAsyncContextManager[EffectHost]]
"""Opens a host over what is in the folder; again, over the same, as the next process does."""

Open = Callable[[], AbstractAsyncContextManager[EffectHost]]


@frozen
class EffectCase:
    """A statement about effect hosts, and what shows it. `durable`: only for hosts that keep outcomes."""

    id: str
    statement: str
    check: Callable[[Open], Awaitable[None]]
    durable: bool = False

    async def run(self, open_host: Open) -> None:
        """Raise `AssertionError` if the host doesn't do so."""
        await self.check(open_host)


_CASES: list[EffectCase] = []


def _case(id: str, *, durable: bool = False) -> Callable[[Callable[[Open], Awaitable[None]]], Any]:
    def add(check: Callable[[Open], Awaitable[None]]) -> Any:
        _CASES.append(EffectCase(id, " ".join((check.__doc__ or "").split()), check, durable))
        return check

    return add


def effect_cases(*, durable: bool = False) -> list[EffectCase]:
    """The cases for a host that is `durable`, or isn't."""
    return [each for each in _CASES if durable or not each.durable]


def conformance(open_host: OpenHost, *, durable: bool = False) -> Any:
    """All cases as one pytest test. `durable`: the host keeps outcomes, as its `EffectHostSpec` says."""
    import pytest

    @pytest.mark.anyio
    @pytest.mark.parametrize("case", effect_cases(durable=durable), ids=lambda case: str(case.id))
    async def test_effect_host(case: EffectCase, tmp_path: Path) -> None:
        await case.run(lambda: open_host(tmp_path))

    return test_effect_host


# ---- what is asked --------------------------------------------------------------------------------------------------

_SCOPE = RuntimeScope(session_id="s", turn_id="t", turn_index=0, protocol_iteration=0)


def _question(text: str = "m") -> DirectCommand:
    return DirectCommand("provider", LlmRequest(model=text, messages=()), "plugin")


def _envelope(
    id: str = "e1",
    command: RuntimeEffectCommand | None = None,
    scope: RuntimeScope = _SCOPE,
    key: str | None = None,
) -> RuntimeEffectEnvelope:
    command = command or _question()
    invocation = RuntimeInvocation(
        scope=scope,
        subject=EffectSubject(effect_id=id, kind=command.kind),
        replay=RuntimeReplay(key or effect_key(scope, command.kind, id)),
    )
    return RuntimeEffectEnvelope(invocation, command)


def _answer(text: str) -> DirectOutcome:
    return DirectOutcome(LlmResponse(full_text=text))


class _Runner:
    """Executes by giving an outcome, or raising an error; `ran` are the effects' ids, in order."""

    def __init__(self, gives: RuntimeEffectOutcome | BaseException) -> None:
        self.gives = gives
        self.ran: list[str] = []

    async def __call__(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        self.ran.append(envelope.invocation.subject.effect_id)
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives


async def _refused(asked: Awaitable[Any], code: str) -> None:
    try:
        await asked
    except EffectControllerError as error:
        if error.code != code:
            raise AssertionError(f"the error's code is `{error.code}`, and must be `{code}`") from error
    else:
        raise AssertionError(f"it must raise an `EffectControllerError` with the code `{code}`")


def _same(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what} is {found!r}, and must be {wanted!r}")


def _text(outcome: RuntimeEffectOutcome) -> str:
    if not isinstance(outcome, (DirectOutcome, LlmCallOutcome)) or not isinstance(outcome.result, LlmResponse):
        raise AssertionError(f"the outcome is {outcome!r}, and must be an answer")
    return outcome.result.full_text


async def _begun(open_host: Open, *effects: tuple[RuntimeEffectEnvelope, EffectRunner]) -> None:
    """A process that executes these, makes them durable, and ends."""
    async with open_host() as host:
        controller = host.scoped(_SCOPE)
        for asked, run in effects:
            await controller.execute(asked, run)
        await controller.flush()


# ---- every host -----------------------------------------------------------------------------------------------------


@_case("outcome")
async def _outcome(open_host: Open) -> None:
    """An effect is executed once, and its outcome returned."""
    run = _Runner(_answer("yes"))
    async with open_host() as host:
        _same(await host.scoped(_SCOPE).execute(_envelope(), run), _answer("yes"), "the outcome")
    _same(run.ran, ["e1"], "what was executed")


@_case("outcome-of-a-failure")
async def _outcome_of_a_failure(open_host: Open) -> None:
    """A failure inside of an outcome is an outcome like any other, and no exception."""
    failed = DirectOutcome(LlmCallError(message="overloaded", code="busy"))
    async with open_host() as host:
        _same(await host.scoped(_SCOPE).execute(_envelope(), _Runner(failed)), failed, "the outcome")


@_case("error")
async def _error(open_host: Open) -> None:
    """An `EffectControllerError` of the executor comes out with its code."""
    async with open_host() as host:
        run = _Runner(EffectControllerError("some_code", "it failed"))
        await _refused(host.scoped(_SCOPE).execute(_envelope(), run), "some_code")


@_case("exception")
async def _exception(open_host: Open) -> None:
    """Any other exception of the executor comes out as it is, and is no outcome: the effect may be asked for again."""
    broken = ValueError("a bug")
    async with open_host() as host:
        try:
            await host.scoped(_SCOPE).execute(_envelope(), _Runner(broken))
        except ValueError as error:
            _same(error, broken, "the exception")
        else:
            raise AssertionError("the executor's exception must come out")
    async with open_host() as host:
        _same(_text(await host.scoped(_SCOPE).execute(_envelope(), _Runner(_answer("yes")))), "yes", "the answer")


@_case("wrong-outcome")
async def _wrong_outcome(open_host: Open) -> None:
    """An outcome of another kind than the effect's is refused (`runtime_effect_wrong_outcome`)."""
    wrong = LlmCallOutcome(LlmResponse(full_text="yes"))
    async with open_host() as host:
        await _refused(host.scoped(_SCOPE).execute(_envelope(), _Runner(wrong)), "runtime_effect_wrong_outcome")


@_case("envelope-as-it-is")
async def _envelope_as_it_is(open_host: Open) -> None:
    """The executor gets the envelope that was asked for, with scope, subject, key and command."""
    got: list[RuntimeEffectEnvelope] = []

    async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        got.append(envelope)
        return _answer("yes")

    async with open_host() as host:
        await host.scoped(_SCOPE).execute(_envelope(), run)
    _same(got, [_envelope()], "what the executor got")


@_case("cancellation")
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
            await host.scoped(_SCOPE).execute(_envelope(), run)
            raise AssertionError("the cancellation must come out")
    _same(reached, ["cancelled"], "what reached the executor")
    async with open_host() as host:
        _same(_text(await host.scoped(_SCOPE).execute(_envelope(), _Runner(_answer("yes")))), "yes", "the answer")


@_case("at-once")
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
        return _answer(envelope.invocation.subject.effect_id)

    async with open_host() as host:
        controller = host.scoped(_SCOPE)
        asked = [_envelope(id) for id in ("a", "b", "c")]
        await controller.prepare(asked)

        async def ask(each: RuntimeEffectEnvelope) -> None:
            found[each.invocation.subject.effect_id] = _text(await controller.execute(each, run))

        with anyio.move_on_after(10) as limit:
            async with anyio.create_task_group() as tasks:
                for each in asked:
                    tasks.start_soon(ask, each)
        if limit.cancelled_caught:
            raise AssertionError("they must be executed at once: one waits for the others")
    _same(found, {"a": "a", "b": "b", "c": "c"}, "the answers")


@_case("within")
async def _within(open_host: Open) -> None:
    """An executor may ask for effects of the same scope, under keys of its own."""
    async with open_host() as host:
        controller = host.scoped(_SCOPE)

        async def outer(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            inner = _envelope("inner", _question("inner"), key=child_key(envelope.key, "plugin", 0))
            return _answer(_text(await controller.execute(inner, _Runner(_answer("within")))) + ", without")

        _same(_text(await controller.execute(_envelope(), outer)), "within, without", "the answer")


@_case("prepared")
async def _prepared(open_host: Open) -> None:
    """What was prepared is executed when it is asked for; what is never asked for does no harm."""
    run = _Runner(_answer("yes"))
    async with open_host() as host:
        controller = host.scoped(_SCOPE)
        await controller.prepare([])
        await controller.prepare([_envelope("a"), _envelope("b")])
        _same(run.ran, [], "what was executed")
        await controller.execute(_envelope("a"), run)
        await controller.flush()
    _same(run.ran, ["a"], "what was executed")


@_case("codes")
async def _codes(open_host: Open) -> None:
    """A question that can't be is refused before any host sees it, with a code of its own."""

    async def made(**changes: Any) -> RuntimeEffectEnvelope:
        return RuntimeEffectEnvelope(evolve(_envelope().invocation, **changes), _question())

    kind = RuntimeEffectKind.DIRECT
    await _refused(made(subject=EffectSubject(effect_id=" ", kind=kind)), "runtime_effect_invocation_subject")
    other = EffectSubject(effect_id="e1", kind=RuntimeEffectKind.SLEEP)
    await _refused(made(subject=other), "runtime_effect_invocation_kind")
    await _refused(made(replay=None), "runtime_effect_replay_required")
    async with open_host():
        pass


@_case("says-whether-durable")
async def _says_whether_durable(open_host: Open) -> None:
    """A controller says, before and after an effect, whether what it ran would survive: in a word, not a guess."""
    async with open_host() as host:
        controller: EffectController = host.scoped(_SCOPE)
        before = controller.durable
        await controller.execute(_envelope(), _Runner(_answer("yes")))
        _same([type(before), type(controller.durable)], [bool, bool], "what `durable` is")


# ---- hosts that keep outcomes ---------------------------------------------------------------------------------------


@_case("replay", durable=True)
async def _replay(open_host: Open) -> None:
    """The next process gets the recorded outcome, and nothing is executed."""
    await _begun(open_host, (_envelope(), _Runner(_answer("first"))))
    run = _Runner(_answer("second"))
    async with open_host() as host:
        controller = host.scoped(_SCOPE)
        _same(await controller.execute(_envelope(), run), _answer("first"), "the outcome")
        _same(controller.durable, True, "`durable`")
    _same(run.ran, [], "what was executed")


@_case("replay-in-any-order", durable=True)
async def _replay_in_any_order(open_host: Open) -> None:
    """Records are found by their keys, in whatever order they are asked for; what has none is executed."""
    effects = [(_envelope(id), _Runner(_answer(id))) for id in ("a", "b")]
    await _begun(open_host, *effects)
    run = _Runner(_answer("new"))
    async with open_host() as host:
        controller = host.scoped(_SCOPE)
        found = [_text(await controller.execute(_envelope(id), run)) for id in ("b", "new", "a")]
    _same(found, ["b", "new", "a"], "the answers")
    _same(run.ran, ["new"], "what was executed")


@_case("replay-of-a-failure", durable=True)
async def _replay_of_a_failure(open_host: Open) -> None:
    """An outcome that is a failure is recorded like any other."""
    failed = DirectOutcome(LlmCallError(message="overloaded", code="busy"))
    await _begun(open_host, (_envelope(), _Runner(failed)))
    async with open_host() as host:
        _same(await host.scoped(_SCOPE).execute(_envelope(), _Runner(_answer("no"))), failed, "the outcome")


@_case("replay-of-an-error", durable=True)
async def _replay_of_an_error(open_host: Open) -> None:
    """An `EffectControllerError` of the executor is recorded: the next process gets it with its code."""
    async with open_host() as host:
        controller = host.scoped(_SCOPE)
        await _refused(controller.execute(_envelope(), _Runner(EffectControllerError("some_code", "no"))), "some_code")
        await controller.flush()
    run = _Runner(_answer("yes"))
    async with open_host() as host:
        await _refused(host.scoped(_SCOPE).execute(_envelope(), run), "some_code")
    _same(run.ran, [], "what was executed")


@_case("replay-of-a-model-call", durable=True)
async def _replay_of_a_model_call(open_host: Open) -> None:
    """After `flush`, a model's reply is recorded, too: it isn't paid again."""
    asked = _envelope("call", LlmCallCommand("provider", LlmRequest(model="m", messages=())))
    await _begun(open_host, (asked, _Runner(LlmCallOutcome(LlmResponse(full_text="first")))))
    run = _Runner(LlmCallOutcome(LlmResponse(full_text="second")))
    async with open_host() as host:
        _same(_text(await host.scoped(_SCOPE).execute(asked, run)), "first", "the answer")
    _same(run.ran, [], "what was executed")


@_case("mismatch", durable=True)
async def _mismatch(open_host: Open) -> None:
    """Another question under the same key is refused (`runtime_effect_mismatch`), and nothing is executed."""
    await _begun(open_host, (_envelope(), _Runner(_answer("first"))))
    run = _Runner(_answer("second"))
    async with open_host() as host:
        asked = _envelope(command=_question("another model"))
        await _refused(host.scoped(_SCOPE).execute(asked, run), "runtime_effect_mismatch")
    _same(run.ran, [], "what was executed")
    async with open_host() as host:
        _same(_text(await host.scoped(_SCOPE).execute(_envelope(), run)), "first", "the answer that was recorded")


@_case("scopes-apart", durable=True)
async def _scopes_apart(open_host: Open) -> None:
    """What another turn or another session asked is of no turn's business."""
    await _begun(open_host, (_envelope(), _Runner(_answer("first"))))
    async with open_host() as host:
        for scope in (evolve(_SCOPE, turn_id="u"), evolve(_SCOPE, session_id="another")):
            run = _Runner(_answer("own"))
            _same(_text(await host.scoped(scope).execute(_envelope(scope=scope), run)), "own", "the answer")
            _same(run.ran, ["e1"], "what was executed")


@_case("key-reused", durable=True)
async def _key_reused(open_host: Open) -> None:
    """Within one process, two effects under one key are refused (`runtime_effect_key_reused`)."""
    async with open_host() as host:
        controller = host.scoped(_SCOPE)
        await controller.execute(_envelope(), _Runner(_answer("first")))
        await _refused(controller.execute(_envelope(), _Runner(_answer("second"))), "runtime_effect_key_reused")
