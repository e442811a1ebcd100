"""What the cases about effect hosts are made of: questions, executors, and checks that need no test framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from lash_hookspecs.effect_commands import DirectCommand, RuntimeEffectCommand
from lash_hookspecs.effect_outcomes import DirectOutcome, LlmCallOutcome, RuntimeEffectOutcome
from lash_hookspecs.effects import (
    EffectHost,
    EffectRunner,
    EffectSubject,
    RuntimeEffectEnvelope,
    RuntimeInvocation,
    RuntimeReplay,
    RuntimeScope,
    effect_key,
)
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.llm import LlmRequest, LlmResponse
from lash_hookspecs.values import frozen

__all__ = [
    "CASES",
    "SCOPE",
    "EffectCase",
    "Open",
    "OpenHost",
    "Runner",
    "answer",
    "begun",
    "case",
    "envelope",
    "question",
    "refused",
    "same",
    "text_of",
]

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


CASES: list[EffectCase] = []


def case(id: str, *, durable: bool = False) -> Callable[[Callable[[Open], Awaitable[None]]], Any]:
    def add(check: Callable[[Open], Awaitable[None]]) -> Any:
        CASES.append(EffectCase(id, " ".join((check.__doc__ or "").split()), check, durable))
        return check

    return add


# ---- what is asked --------------------------------------------------------------------------------------------------

SCOPE = RuntimeScope(session_id="s", turn_id="t", turn_index=0, protocol_iteration=0)


def question(text: str = "m") -> DirectCommand:
    return DirectCommand("provider", LlmRequest(model=text, messages=()), "plugin")


def envelope(
    id: str = "e1",
    command: RuntimeEffectCommand | None = None,
    scope: RuntimeScope = SCOPE,
    key: str | None = None,
) -> RuntimeEffectEnvelope:
    command = command or question()
    invocation = RuntimeInvocation(
        scope=scope,
        subject=EffectSubject(effect_id=id, kind=command.kind),
        replay=RuntimeReplay(key or effect_key(scope, command.kind, id)),
    )
    return RuntimeEffectEnvelope(invocation, command)


def answer(text: str) -> DirectOutcome:
    return DirectOutcome(LlmResponse(full_text=text))


class Runner:
    """Executes by giving an outcome, or raising an error; `ran` are the effects' ids, in order."""

    def __init__(self, gives: RuntimeEffectOutcome | BaseException) -> None:
        self.gives = gives
        self.ran: list[str] = []

    async def __call__(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        self.ran.append(envelope.invocation.subject.effect_id)
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives


async def refused(asked: Awaitable[Any], code: str) -> None:
    try:
        await asked
    except EffectControllerError as error:
        if error.code != code:
            raise AssertionError(f"the error's code is `{error.code}`, and must be `{code}`") from error
    else:
        raise AssertionError(f"it must raise an `EffectControllerError` with the code `{code}`")


def same(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what} is {found!r}, and must be {wanted!r}")


def text_of(outcome: RuntimeEffectOutcome) -> str:
    if not isinstance(outcome, (DirectOutcome, LlmCallOutcome)) or not isinstance(outcome.result, LlmResponse):
        raise AssertionError(f"the outcome is {outcome!r}, and must be an answer")
    return outcome.result.full_text


async def begun(open_host: Open, *effects: tuple[RuntimeEffectEnvelope, EffectRunner]) -> None:
    """A process that executes these, makes them durable, and ends."""
    async with open_host() as host:
        controller = host.scoped(SCOPE)
        for asked, run in effects:
            await controller.execute(asked, run)
        await controller.flush()
