"""Questions to a person about a tool call: what is recorded of one, how an answer is waited for, and what it means.

A question is answered under a key that follows from the call, its arguments and its text, so that an answer fits
nothing else. What isn't an answer allows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from lash_framework.effects import envelope
from lash_framework.envelope_hash import EnvelopeHasher
from lash_framework.faults import storable_text
from lash_framework.hooks import Owned
from lash_framework.journal import JournalController
from lash_framework.journal_errors import EffectsSuspended
from lash_framework.previews import preview_of
from lash_framework.tool_calls import failure
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.codec import encode
from lash_hookspecs.effect_commands import AwaitEventCommand, RuntimeEffectKind
from lash_hookspecs.effect_outcomes import AwaitEventOutcome, RuntimeEffectOutcome, expect
from lash_hookspecs.effects import RuntimeEffectEnvelope, RuntimeScope
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.questions import AskPerson, PersonAnswer, PersonQuestion
from lash_hookspecs.tools import PendingToolCall, ToolCallOutput, ToolEffect, ToolFailureClass, ToolFailureSource
from lash_hookspecs.waits import InTurn, PersonWait, Resolution, ResolvedOk, WaitKey, WaitTimedOut, wait_id

__all__ = ["answers_to", "denial", "question_row", "questions_of", "unaskable"]

DENIED = "denied_by_person"
NOT_IN_TIME = "question_timeout"


async def questions_of(
    plan: TurnPlan, call_key: str, call: PendingToolCall, asked: Sequence[Owned[AskPerson]]
) -> tuple[PersonQuestion, ...]:
    """What plugins ask about the call, whose arguments are final, as it is recorded."""
    preview = await preview_of(plan, call)
    return tuple(_question(plan, call_key, call, preview, *each) for each in asked)


def _question(
    plan: TurnPlan, call_key: str, call: PendingToolCall, preview: str | None, plugin_id: str, ask: AskPerson
) -> PersonQuestion:
    question = PersonQuestion(
        key="",
        call_key=call_key,
        plugin_id=plugin_id,
        tool_name=call.tool_name,
        args=call.args,
        question=ask.question,
        choices=ask.choices,
        until_ms=None if ask.timeout_s is None else plan.now_ms() + round(ask.timeout_s * 1000),
        memo=ask.memo,
        preview=preview,
    )
    return evolve(question, key=wait_id(_wait(plan.session_id, plan.turn_id, question)))


def unaskable(plan: TurnPlan, call: PendingToolCall, callers: Sequence[str], plugin_id: str) -> ToolCallOutput | None:
    """What the call comes to where nobody can be waited for; None where somebody can."""
    if not isinstance(plan.controller, JournalController):
        why, code = "this host keeps no journal, and the question would die with the process", "question_not_durable"
    else:
        tools = plan.tools.catalog.tools  # it is run again when the turn goes on, from its beginning
        unsafe = [each for each in callers if tools[each].tool.manifest.effect is ToolEffect.UNSAFE]
        if not unsafe:
            return None
        why, code = f"`{unsafe[0]}`, which calls it, is unsafe and can't be run again", "question_within_unsafe"
    text = f"`{call.tool_name}` was not called: plugin `{plugin_id}` wants to ask a person first, but {why}"
    return failure(code, text, ToolFailureClass.PERMISSION_DENIED, ToolFailureSource.POLICY)


async def answers_to(
    plan: TurnPlan, scope: RuntimeScope, call_id: str, questions: Sequence[PersonQuestion]
) -> list[PersonAnswer]:
    """What was answered, question by question. Raises `EffectsSuspended` with all that nobody has answered yet."""
    answers, waiting = list[PersonAnswer](), dict[str, str]()
    for question in questions:

        async def run(_: RuntimeEffectEnvelope, question: PersonQuestion = question) -> RuntimeEffectOutcome:
            if question.until_ms is not None and plan.now_ms() >= question.until_ms:
                return AwaitEventOutcome(WaitTimedOut())
            raise EffectsSuspended({question.key: _label(question, call_id)}, questions={question.key})

        command = AwaitEventCommand(_wait(plan.session_id, plan.turn_id, question))
        asked = envelope(scope, command, f"answer about {call_id} for {question.plugin_id}", key=question.key)
        try:
            outcome = expect(await plan.controller.execute(asked, run), AwaitEventOutcome)
        except EffectsSuspended as error:
            waiting |= error.waiting
            continue
        answers.append(_answer(question, outcome.resolution))
    if waiting:
        raise EffectsSuspended(waiting, questions=waiting.keys())
    return answers


def denial(question: PersonQuestion, answer: PersonAnswer) -> ToolCallOutput | None:
    """What the call comes to if it wasn't allowed."""
    if answer.allows:
        return None
    if answer.choice is None:
        text, code = f"`{question.tool_name}` was not called: nobody allowed it in time", NOT_IN_TIME
    else:
        why = f", who says: {answer.note}" if answer.note else ""
        text, code = f"`{question.tool_name}` was not called: it was denied by a person{why}", DENIED
    return failure(code, text, ToolFailureClass.PERMISSION_DENIED, ToolFailureSource.POLICY)


def question_row(session_id: str, turn_id: str, question: PersonQuestion, choice: str, note: str) -> JournalRow:
    """The row that answers a question."""
    command = AwaitEventCommand(_wait(session_id, turn_id, question))
    asked = EnvelopeHasher().ask(command)
    said = ResolvedOk({"choice": choice, "note": storable_text(note)})
    return JournalRow(
        key=question.key,
        kind=RuntimeEffectKind.AWAIT_EVENT.value,
        status=JournalStatus.DONE,
        envelope_hash=asked.hash,
        body=encode(AwaitEventOutcome(said)),
        digests=asked.written,
        label=f"the answer to plugin `{question.plugin_id}` about `{question.tool_name}`",
    )


def _answer(question: PersonQuestion, resolution: Resolution) -> PersonAnswer:
    if not isinstance(resolution, ResolvedOk) or not isinstance(resolution.value, Mapping):
        return PersonAnswer(memo=question.memo)
    said: Mapping[str, Any] = resolution.value
    choice = question.choice(said.get("choice"))
    if choice is None:
        return PersonAnswer(memo=question.memo)
    note = str(said.get("note") or "")
    return PersonAnswer(choice=choice.choice_id, note=note, allows=choice.allows, memo=question.memo)


def _label(question: PersonQuestion, call_id: str) -> str:
    return f"tool_call `{question.tool_name}` ({call_id}) for plugin `{question.plugin_id}`"


def _wait(session_id: str, turn_id: str, question: PersonQuestion) -> WaitKey:
    choices = [[each.choice_id, each.text, each.allows] for each in question.choices]
    asked = [question.tool_name, dict(question.args), question.question, choices, question.memo, question.preview]
    shown = stable_hash("lash.question", asked)
    return WaitKey(InTurn(session_id, turn_id), PersonWait(question.call_key, question.plugin_id, shown))
