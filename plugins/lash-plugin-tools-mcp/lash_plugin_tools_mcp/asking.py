"""What a server asks in the middle of a call: a person to fill in a form, or a model to write something.

A person takes longer than a process lives. So a call that may ask is a sequence of recorded steps: the server is called
until it asks, the question waits for somebody (`lash pending resolve`), and the server is called again with the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
from attrs import field

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.tools import (
    CompletedToolCall,
    ToolActivation,
    ToolCallContext,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolEffect,
    ToolError,
    ToolManifest,
)
from lash_hookspecs.values import mutable
from lash_plugin_tools_mcp.options import ServerOptions
from lash_plugin_tools_mcp.samples import Samples

if TYPE_CHECKING:
    from lash_hookspecs.services import DirectCompletionClient
    from lash_plugin_tools_mcp.parking import Parked, Timer

__all__ = ["ASK", "MOST_QUESTIONS", "AskTool", "Desk", "Leg", "converse", "question_key"]

ASK = "mcp_ask"
MOST_QUESTIONS = 8
"""Of one call; a server that asks on never gets to an end."""

Question = Mapping[str, Any]

_VOLATILE = ("elicitationId", "_meta", "task")
_YES = (True, "yes", "y", "accept", "ok")
_NO = (False, None, "no", "n", "decline")


def question_key(question: Question) -> str:
    """By what a question that is asked again is known."""
    return stable_hash("lash.mcp-question", {k: v for k, v in question.items() if k not in _VOLATILE})


@mutable(eq=False)
class Leg:
    """A call at a server, and the answers that are known: what it asks besides is kept in `questions`.

    `hold` waits for an answer, where the call can be kept open for one. `timer` is the server's time.
    """

    answers: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    completions: DirectCompletionClient | None = None
    show: Callable[..., Awaitable[None]] | None = None
    progress: Callable[..., Awaitable[None]] | None = None
    questions: list[Question] = field(factory=list)
    samples: Samples = field(factory=Samples)
    hold: Callable[[str], Awaitable[None]] | None = None
    timer: Timer | None = None

    @classmethod
    def of(
        cls,
        ctx: ToolCallContext,
        answers: Mapping[str, Mapping[str, Any]],
        samples: Iterable[Mapping[str, Any]] = (),
    ) -> Leg:
        """That of a running call."""
        completions = ctx.completions if ctx.services is not None else None
        return cls(
            answers=answers,
            completions=completions,
            show=ctx.show,
            progress=ctx.progress,
            samples=Samples(samples),
        )

    def take_over(self, other: Leg) -> None:
        """Go on as the other one, which knows more answers. What the model wrote is known here."""
        self.answers, self.questions = other.answers, other.questions
        other.samples = self.samples
        self.completions, self.show, self.progress = other.completions, other.show, other.progress

    async def answer(self, question: Question, *, may_hold: bool) -> Mapping[str, Any] | None:
        """What somebody said to it; None if nobody has."""
        key = question_key(question)
        if key not in self.answers:
            self.questions.append(question)
            await self.samples.settled()  # a refusal ends the call, and what is paid for it at this moment
            if may_hold and self.hold is not None:
                self.completions = self.show = self.progress = None  # of a step that is over
                await self.hold(key)
        return self.answers.get(key)


class Desk:
    """Where a server's questions come in. Old protocols don't say of which call they are, so only one runs at once.

    `parked` is one that waits for a person; the next call that isn't the same one dismisses it.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.is_open = options.elicitation != "off" or options.sampling != "off"
        self.leg: Leg | None = None
        self.parked: Parked | None = None
        self._one: anyio.Lock | None = None

    @property
    def lock(self) -> anyio.Lock:
        """Held by the call that may ask."""
        self._one = self._one or anyio.Lock()
        return self._one

    async def unpark(self, who: Sequence[str], answers: Mapping[str, Any]) -> Parked | None:
        """The call that waits, if it is this one's and can go on. Any other one ends."""
        parked, self.parked = self.parked, None
        if parked is not None and not parked.goes_on(tuple(who), answers):
            await parked.dismiss()
            return None
        return parked


class AskTool:
    """Waits for somebody's answer to a question of a server."""

    def __init__(self) -> None:
        self.manifest = ToolManifest(
            name=ASK,
            description="Waits for a person's answer to what an MCP server asks.",
            activation=ToolActivation.INTERNAL,
            effect=ToolEffect.PURE,
            may_defer=True,
        )

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """What it returns is shown by `lash pending list`."""
        assert ctx.defer is not None
        ctx.defer()
        return dict(args)


async def converse(ctx: ToolCallContext, server: str, tool: str, step: str, args: Mapping[str, Any]) -> ToolCallOutput:
    """A call in recorded steps. After a crash or a wait it is run again from its beginning, and goes by the records."""
    assert ctx.call_tool is not None
    answers: dict[str, Mapping[str, Any]] = {}
    samples: Sequence[Mapping[str, Any]] = ()
    index = 0
    while True:
        known = {"answers": answers, "samples": samples}
        done = await ctx.call_tool(index, step, {"tool": tool, "arguments": args, **known})
        outcome = done.output.outcome
        if isinstance(outcome, ToolCallFailure) and outcome.code == "unknown_after_crash":
            raise ToolError(outcome.message, code="mcp_unknown")  # that code is the step's, which is one call
        if not isinstance(outcome, ToolCallSuccess):
            return done.output
        if "result" in outcome.value:
            return ToolCallOutput(ToolCallSuccess(outcome.value["result"], attachments=outcome.attachments))
        samples = outcome.value["samples"]
        for question in outcome.value["questions"]:
            index += 1
            if len(answers) == MOST_QUESTIONS:
                raise ToolError(f"server `{server}` asked more than {MOST_QUESTIONS} questions", code="mcp_asks_on")
            asked = await ctx.call_tool(index, ASK, {"server": server, "tool": tool, **question})
            if _is_unanswered(asked):
                return asked.output  # the turn is suspended, and nobody sees this
            answers[question_key(question)] = _read(question, asked)
        index += 1


def _is_unanswered(asked: CompletedToolCall) -> bool:
    outcome = asked.output.outcome
    return isinstance(outcome, ToolCallFailure) and outcome.code in ("suspended", "tool_deferral_not_durable")


def _read(question: Question, asked: CompletedToolCall) -> Mapping[str, Any]:
    """A person's answer: an MCP result, the fields of the form, the value of its only field, or yes or no."""
    outcome = asked.output.outcome
    if not isinstance(outcome, ToolCallSuccess):
        return {"action": "decline"}
    said = outcome.value
    if isinstance(said, Mapping):
        return said if said.get("action") in ("accept", "decline", "cancel") else {"action": "accept", "content": said}
    names = list(question.get("requestedSchema", {}).get("properties", {}))
    if len(names) == 1 and said is not None:
        return {"action": "accept", "content": {names[0]: said}}
    plain = said.strip().lower() if isinstance(said, str) else said
    if plain in _YES and not names:
        return {"action": "accept"}
    return {"action": "decline" if plain in _NO else "cancel"}
