"""What a mode's driver is asked, and the one step that it answers with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Union

from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.llm import LlmRequest, LlmResponse
from lash_hookspecs.messages import Message, TurnCause
from lash_hookspecs.tools import CompletedToolCall, ExecResponse, InvalidToolCall, PendingToolCall
from lash_hookspecs.turn_effects import ProtocolEvent
from lash_hookspecs.turn_events import SessionEvent
from lash_hookspecs.turn_interventions import TurnIntervention
from lash_hookspecs.turn_outcomes import Finished, Handoff, Stopped
from lash_hookspecs.values import frozen

__all__ = [
    "CheckpointResumeAction",
    "Continuation",
    "DriverContextView",
    "PrepareIteration",
    "ProtocolDriver",
    "StartCheckpoint",
    "StartExec",
    "StartLlm",
    "StartTools",
    "Step",
]


@frozen
class StartLlm:
    """Ask the model next. `driver_state` is plain data that comes back with the answer.

    `did` is for lash to say which plugin's driver asks something else than what shows the conversation.
    """

    tag: ClassVar[str] = "start_llm"
    request: LlmRequest
    driver_state: Any = None
    did: tuple[TurnIntervention, ...] = ()


@frozen
class StartTools:
    """Run tools next. The machine answers each `InvalidToolCall` itself; the others become one effect."""

    tag: ClassVar[str] = "start_tools"
    calls: tuple[PendingToolCall | InvalidToolCall, ...]


@frozen(kw_only=True)
class StartExec:
    """Run code next."""

    tag: ClassVar[str] = "start_exec"
    language: str
    code: str
    driver_state: Any = None


@frozen
class PrepareIteration:
    """Ask the driver again what this iteration should do."""

    tag: ClassVar[str] = "prepare_iteration"


CheckpointResumeAction = Union[PrepareIteration, StartLlm, Finished, Stopped, Handoff]


@frozen(kw_only=True)
class StartCheckpoint:
    """Let plugins speak next; if none adds anything, do `on_empty`, else the driver is asked again.

    A kind of the mode's own must be among `ModeDriver.checkpoints`.
    """

    tag: ClassVar[str] = "start_checkpoint"
    kind: CheckpointKind
    on_empty: CheckpointResumeAction


Continuation = Union[StartLlm, StartTools, StartExec, StartCheckpoint, PrepareIteration, Finished, Stopped, Handoff]


@frozen(kw_only=True)
class Step:
    """What a driver decides: what to show, what to append, and exactly one way on.

    Applied in this order: `emits`, `messages` and `events` appended, `advance` (the iteration counter goes up by one),
    `turn_limit_final` (appended once, only if the limit is reached), then `next`.
    """

    next: Continuation
    emits: tuple[SessionEvent, ...] = ()
    messages: tuple[Message, ...] = ()
    events: tuple[ProtocolEvent, ...] = ()
    advance: bool = False
    turn_limit_final: Message | None = None


class DriverContextView(Protocol):
    """What a driver may read of the turn."""

    @property
    def turn_id(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def protocol_iteration(self) -> int: ...
    @property
    def protocol_run_offset(self) -> int: ...
    @property
    def max_turns(self) -> int | None: ...
    @property
    def autonomous(self) -> bool: ...
    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def turn_messages(self) -> Sequence[Message]:
        """What this turn appended so far, its input included."""
        ...

    @property
    def events(self) -> Sequence[ProtocolEvent]: ...
    @property
    def turn_causes(self) -> Sequence[TurnCause]: ...
    @property
    def should_force_exit_after_grace_turn(self) -> bool: ...
    @property
    def turn_limit_final_to_schedule(self) -> int | None:
        """The limit, if it is reached and its last message is not yet scheduled."""
        ...

    @property
    def options(self) -> Any:
        """The mode's options, and the turn's `ModeTurnOptions` over them."""
        ...

    @property
    def turn_extension(self) -> Any:
        """The turn's `ModeTurnExtension`, of a class that the mode's driver declared; None without one."""
        ...

    @property
    def session_extension(self) -> Any:
        """The session's `ModeSessionExtension`; None without one."""
        ...

    def project_llm_request(self, use_tools: bool = True) -> LlmRequest:
        """The request that shows the conversation as it stands to the model."""
        ...


class ProtocolDriver(Protocol):
    """How a mode talks with a model. Pure: it answers from its arguments alone, and keeps nothing between calls."""

    def prepare_protocol_iteration(self, ctx: DriverContextView) -> Step:
        """What this iteration does first."""
        ...

    def handle_llm_success(
        self, ctx: DriverContextView, response: LlmResponse, text_streamed: bool, driver_state: Any
    ) -> Step:
        """What to do with the model's answer."""
        ...

    def handle_tool_results(self, ctx: DriverContextView, completed: Sequence[CompletedToolCall]) -> Step:
        """What to do with the tools' results, given in the order of the calls."""
        ...

    def handle_exec_result(self, ctx: DriverContextView, result: ExecResponse | str, driver_state: Any) -> Step:
        """What to do with what the code did."""
        ...
