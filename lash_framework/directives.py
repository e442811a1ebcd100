"""What hooks asked of a turn, checked for the record, then sorted: what to add, whether to abort, what to show. Pure.

Every message carries its plugin's name from here on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from attrs import evolve, field

from lash_framework.hooks import Owned
from lash_hookspecs.checkpoints import CheckpointDelivery
from lash_hookspecs.codec import encode
from lash_hookspecs.directives import (
    AbortTurn,
    EmitEvents,
    EmitTrace,
    EnqueueMessages,
    FailLlmCall,
    LlmCallDirective,
    OwnedDirective,
    TurnDirective,
)
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import CodecError, PluginError
from lash_hookspecs.handoffs import CreateSession, HandoffSession, child_session_id, handoff_to
from lash_hookspecs.messages import Message, MessageRole, Part, PartKind, PluginMessage, PluginOrigin
from lash_hookspecs.turn_events import PluginEvent
from lash_hookspecs.turn_interventions import TurnInterventionKind
from lash_hookspecs.turn_outcomes import Stopped, StopReason, TurnOutcome
from lash_hookspecs.values import mutable

__all__ = ["DIRECTIVES", "Sorted", "enqueued", "owned_directives", "sort_directives"]

DIRECTIVES = (AbortTurn, EnqueueMessages, EmitEvents, EmitTrace, CreateSession, HandoffSession)
"""What hooks at turn seams and checkpoints may return."""


Recorded = AbortTurn | EnqueueMessages | EmitEvents | FailLlmCall | CreateSession | HandoffSession


@mutable
class Sorted:
    """Directives by what is done with them. `abort` is the last one, with its plugin; it beats a `handoff`.

    `sessions` are all that are to be made, the one that the turn is handed to among them. `did` tells of each directive
    what it does to the turn, and whose it is.
    """

    lasting: list[PluginMessage] = field(factory=list)
    transient: list[PluginMessage] = field(factory=list)
    events: list[PluginEvent] = field(factory=list)
    abort: Owned[AbortTurn] | None = None
    handoff: Owned[HandoffSession] | None = None
    sessions: list[OwnedDirective] = field(factory=list)
    scope: RuntimeScope | None = None
    did: list[tuple[str, TurnInterventionKind, str]] = field(factory=list)

    @property
    def ends(self) -> TurnOutcome | None:
        """How the turn ends now, if it does."""
        if self.abort is not None:
            return Stopped(StopReason.PLUGIN_ABORT)
        if self.handoff is not None and self.scope is not None:
            return handoff_to(
                self.scope.session_id, self.scope.turn_id or "", self.handoff.plugin_id, self.handoff.value
            )
        return None

    @property
    def delivery(self) -> CheckpointDelivery:
        """The messages, for the turn machine to append."""
        return CheckpointDelivery(messages=tuple(self.lasting), transient_messages=tuple(self.transient))

    def messages(self, scope: str, is_known: Callable[[str], bool]) -> tuple[Message, ...]:
        """The messages, finished; ids are derived from `scope` (a turn and a phase of it) where none was given.

        One whose id is known to the conversation is there already, and left out, as the turn machine does.
        """
        named: dict[str, PluginMessage] = {}
        for index, each in enumerate((*self.lasting, *self.transient)):
            named.setdefault(each.id or f"m_plugin_{scope}_{index}", each)
        return tuple(_as_message(id, each) for id, each in named.items() if not is_known(id))


def owned_directives(
    found: Sequence[tuple[str, TurnDirective | LlmCallDirective]], hook: str
) -> tuple[OwnedDirective, ...]:
    """What a hook returned, as a record holds it: each message in its plugin's name. Traces are in no record.

    Raises `PluginError` for a message in a role that plugins may not take, for what can't be stored, and for a second
    plugin that hands the turn off.
    """
    handing = [plugin_id for plugin_id, directive in found if isinstance(directive, HandoffSession)]
    if len(handing) > 1:
        text = f"plugin `{handing[0]}` hands this turn off already: a turn has one successor"
        raise PluginError(handing[1], hook, text)
    return tuple(
        OwnedDirective(plugin_id, _checked(plugin_id, hook, directive))
        for plugin_id, directive in found
        if not isinstance(directive, EmitTrace)
    )


def _checked(plugin_id: str, hook: str, directive: Recorded) -> Recorded:
    name = type(directive).__name__
    match directive:
        case EnqueueMessages(messages=messages, transient=transient):
            owned = tuple(_owned_message(each, plugin_id, hook, transient) for each in messages)
            return evolve(directive, messages=owned)
        case EmitEvents(events=events):
            for each in events:
                _require_storable(each, plugin_id, hook, f"the payload of event `{each.name}` in its `{name}`")
        case AbortTurn() | FailLlmCall() | CreateSession() | HandoffSession():
            _require_storable(directive, plugin_id, hook, f"the text of its `{name}`")
    return directive


def enqueued(directives: Sequence[OwnedDirective]) -> Iterator[tuple[str, PluginMessage]]:
    """The messages among them, with their plugins."""
    for each in directives:
        if isinstance(each.directive, EnqueueMessages):
            for message in each.directive.messages:
                yield each.plugin_id, message


_NOTHING = Sorted()
"""It is never changed."""


def sort_directives(directives: Sequence[OwnedDirective], scope: RuntimeScope | None = None) -> Sorted:
    """Sort recorded directives by what is done with them, in the turn that is the `scope`."""
    if not directives:  # as mostly
        return _NOTHING
    found = Sorted(scope=scope)
    for each in directives:
        plugin_id, kind, detail = each.plugin_id, None, ""
        match each.directive:
            case EnqueueMessages(messages=messages, transient=transient):
                (found.transient if transient else found.lasting).extend(messages)
                kind = TurnInterventionKind.MESSAGES_ADDED
            case EmitEvents(events=events):
                found.events += [PluginEvent(plugin_id=plugin_id, name=e.name, payload=e.payload) for e in events]
            case AbortTurn() as abort:
                found.abort = Owned(plugin_id, abort)
                kind, detail = TurnInterventionKind.ENDED, abort.code
            case FailLlmCall(code=code):
                kind, detail = TurnInterventionKind.MODEL_CALL_REFUSED, code
            case CreateSession() as wish:
                found.sessions.append(each)
                kind, detail = TurnInterventionKind.SESSION_MADE, _named(wish, plugin_id, scope)
            case HandoffSession() as handoff:
                found.handoff = Owned(plugin_id, handoff)
                found.sessions.append(each)
                kind, detail = TurnInterventionKind.HANDED_OFF, _named(handoff.create, plugin_id, scope)
        if kind is not None:
            found.did.append((plugin_id, kind, detail))
    return found


def _named(wish: CreateSession, plugin_id: str, scope: RuntimeScope | None) -> str:
    if wish.session_id or scope is None:
        return wish.session_id or ""
    return child_session_id(scope.session_id, scope.turn_id or "", plugin_id, wish.key)


def _owned_message(message: PluginMessage, plugin_id: str, hook: str, transient: bool) -> PluginMessage:
    """The message with its owner's name on it, and only in a role that plugins may take."""
    if message.role not in (MessageRole.USER, MessageRole.SYSTEM):
        text = f"a message of its `EnqueueMessages` has the role `{message.role}`, which can't be enqueued"
        raise PluginError(plugin_id, hook, f"{text}; use user or system")
    _require_storable(message, plugin_id, hook, "a message of its `EnqueueMessages`")
    return evolve(message, origin=PluginOrigin(plugin_id, transient))  # nobody speaks in another one's name


def _require_storable(value: object, plugin_id: str, hook: str, what: str) -> None:
    try:
        encode(value)
    except CodecError as error:
        raise PluginError(plugin_id, hook, f"{what} {error}") from error


def _as_message(id: str, given: PluginMessage) -> Message:
    parts = [Part(id=f"{id}.p0", kind=PartKind.TEXT, content=given.content)]
    parts += [
        Part(id=f"{id}.p{index}", kind=PartKind.IMAGE, content="", attachment=each)
        for index, each in enumerate(given.images, start=1)
    ]
    return Message(id=id, role=given.role, parts=tuple(parts), origin=given.origin)
