"""What hooks at a model call get and give: a reply's pieces, a reply with events, and the call that a wrapper makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.directives import SurfaceEvent
from lash_hookspecs.llm import LlmResponse
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome

__all__ = ["AssistantChunk", "AssistantReply", "CallNext"]


def _events(value: Any) -> Any:
    return checks.as_tuple(value)


@frozen(kw_only=True)
class AssistantChunk:
    """A piece of a reply that comes in pieces: of its text, or of its reasoning.

    `events` are shown in the plugin's name. `abort_stream` says why the reply is to end behind this piece. `is_last`:
    nothing more comes, so whoever held text back gives it now.
    """

    text: str = field(default="", validator=checks.a(str))
    reasoning: str = field(default="", validator=checks.a(str))
    events: tuple[SurfaceEvent, ...] = field(default=(), converter=_events, validator=checks.tuple_of(SurfaceEvent))
    abort_stream: str | None = field(default=None, validator=checks.optional_text)
    is_last: bool = field(default=False, validator=checks.flag)


@frozen(kw_only=True)
class AssistantReply:
    """An answer, rewritten (None: as it was), and events to show."""

    response: LlmResponse | None = None
    events: tuple[SurfaceEvent, ...] = field(default=(), converter=_events, validator=checks.tuple_of(SurfaceEvent))


class CallNext(Protocol):
    """Executes what a hook stands around, and returns its outcome. It may be called once, while the hook runs."""

    async def __call__(self) -> RuntimeEffectOutcome: ...
