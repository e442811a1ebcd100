"""What the hooks around a tool call are told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lash_hookspecs.contexts import TurnHookContext
from lash_hookspecs.tools import PendingToolCall, ToolCallOutput, ToolManifest
from lash_hookspecs.values import frozen

__all__ = [
    "AfterToolCallContext",
    "AnsweredContext",
    "BeforeToolCallContext",
    "ToolHookContext",
    "ToolMoment",
    "ToolResultViewContext",
]


@frozen(kw_only=True)
class ToolMoment:
    """How far a call is: as it would be run or was, and what came of it. `owner` is the tool's plugin."""

    call: PendingToolCall
    manifest: ToolManifest
    owner: str
    parent_call_id: str | None = None
    result: ToolCallOutput | None = None
    duration_ms: int = 0
    is_reinspection: bool = False


class ToolHookContext(TurnHookContext):
    """For all hooks around a tool call."""

    __slots__ = ()

    @property
    def _moment(self) -> ToolMoment:
        moment: ToolMoment | None = self._call.tool
        assert moment is not None  # set by whoever calls these hooks
        return moment

    @property
    def call_id(self) -> str:
        """The call."""
        return self._moment.call.call_id

    @property
    def tool_name(self) -> str:
        """The tool that is called."""
        return self._moment.call.tool_name

    @property
    def args(self) -> Mapping[str, Any]:
        """Its arguments, as they stand."""
        return self._moment.call.args

    @property
    def manifest(self) -> ToolManifest:
        """What is known of the tool."""
        return self._moment.manifest

    @property
    def tool_owner(self) -> str:
        """The plugin whose tool it is."""
        return self._moment.owner

    @property
    def parent_call_id(self) -> str | None:
        """The call whose tool makes this one; None if it is the model's."""
        return self._moment.parent_call_id


class BeforeToolCallContext(ToolHookContext):
    """For `lash_before_tool_call`."""

    __slots__ = ()

    @property
    def is_reinspection(self) -> bool:
        """Whether a later hook changed what this one saw before: now only a denial counts, and no state is kept."""
        return self._moment.is_reinspection


class AnsweredContext(ToolHookContext):
    """For `lash_person_answered`."""

    __slots__ = ()


class _WithResult(ToolHookContext):
    """For hooks that come when there is a result."""

    __slots__ = ()

    @property
    def result(self) -> ToolCallOutput:
        """What came of the call, as it stands."""
        result = self._moment.result
        assert result is not None  # set by whoever calls these hooks
        return result

    @property
    def duration_ms(self) -> int:
        """How long the tool ran, in milliseconds."""
        return self._moment.duration_ms


class AfterToolCallContext(_WithResult):
    """For `lash_after_tool_call`."""

    __slots__ = ()

    @property
    def is_reinspection(self) -> bool:
        """Whether a later hook changed what this one saw before: now only a denial counts, and no state is kept."""
        return self._moment.is_reinspection


class ToolResultViewContext(_WithResult):
    """For `lash_tool_result_view`."""

    __slots__ = ()
