"""The effect boundary: everything that isn't deterministic crosses it in an envelope.

The envelope names who asks (`RuntimeInvocation`) and for what (`RuntimeEffectCommand`); a controller runs it, or
answers from a record. A domain failure (a model refused, a tool failed) is inside the outcome; an
`EffectControllerError` means that the boundary itself failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Protocol

from attrs import field

from lash_hookspecs.canonical import hash_of_plain, stable_hash
from lash_hookspecs.effect_commands import RuntimeEffectCommand, RuntimeEffectKind
from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.messages import CausalRef, CausedByEffect
from lash_hookspecs.values import frozen

__all__ = [
    "EffectController",
    "EffectHost",
    "EffectRunner",
    "EffectSubject",
    "RuntimeEffectEnvelope",
    "RuntimeInvocation",
    "RuntimeReplay",
    "RuntimeScope",
    "RuntimeSubject",
    "child_key",
    "effect_key",
]


# ---- who asks -------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class RuntimeScope:
    """Where: a session, and within it a turn and an iteration."""

    session_id: str
    turn_id: str | None = None
    turn_index: int | None = None
    protocol_iteration: int | None = None


@frozen(kw_only=True)
class EffectSubject:
    """The one subject that an envelope may have: an effect, by an id that is unique in its scope."""

    tag: ClassVar[str] = "effect"
    effect_id: str
    kind: RuntimeEffectKind


RuntimeSubject = EffectSubject


@frozen
class RuntimeReplay:
    """The key under which a record of this effect is found again."""

    key: str


@frozen(kw_only=True)
class RuntimeInvocation:
    """Who asks: scope, subject, cause, replay key."""

    scope: RuntimeScope
    subject: RuntimeSubject
    caused_by: CausalRef | None = None
    replay: RuntimeReplay | None = None

    def causal_ref(self) -> CausalRef:
        """The reference that effects caused by this one carry."""
        return CausedByEffect(
            session_id=self.scope.session_id, turn_id=self.scope.turn_id, effect_id=self.subject.effect_id
        )


def effect_key(scope: RuntimeScope, kind: RuntimeEffectKind, effect_id: str) -> str:
    """The replay key of a turn's effect: a hash, so that no id can be built to collide with another."""
    # `_value_` is the member's `value` without the property, which is a function of Python's.
    where = [scope.session_id, scope.turn_id, scope.turn_index, scope.protocol_iteration, kind._value_, effect_id]
    return hash_of_plain("lash.effect-key", where)


def child_key(parent: str, plugin_id: str, key: str | int) -> str:
    """The replay key of an effect within an effect: parent, plugin, and an explicit key or that plugin's ordinal."""
    return stable_hash("lash.effect-child-key", [parent, plugin_id, key])


# ---- the envelope ---------------------------------------------------------------------------------------------------


@frozen
class RuntimeEffectEnvelope:
    """A checked question to the effect boundary.

    Raises `EffectControllerError` with code `runtime_effect_invocation_subject` (blank id),
    `runtime_effect_invocation_kind` (the subject names another kind than the command's) or
    `runtime_effect_replay_required` (no replay key).
    """

    invocation: RuntimeInvocation
    command: RuntimeEffectCommand = field()

    def __attrs_post_init__(self) -> None:
        subject = self.invocation.subject
        if not subject.effect_id.strip():
            raise EffectControllerError("runtime_effect_invocation_subject", "the effect id is blank")
        if subject.kind is not self.command.kind:
            raise EffectControllerError(
                "runtime_effect_invocation_kind",
                f"the subject says `{subject.kind}`, the command is `{self.command.kind}`",
            )
        if self.invocation.replay is None or not self.invocation.replay.key:
            raise EffectControllerError("runtime_effect_replay_required", "the invocation has no replay key")

    @property
    def key(self) -> str:
        """The replay key."""
        assert self.invocation.replay is not None  # checked at construction
        return self.invocation.replay.key


EffectRunner = Callable[[RuntimeEffectEnvelope], Awaitable[RuntimeEffectOutcome]]
"""Executes an envelope for real. Holds what can't be stored: streams, live tools, cancel scopes."""


class EffectController(Protocol):
    """One scope's way through the effect boundary."""

    @property
    def durable(self) -> bool:
        """Whether what it ran so far would survive the death of the process."""
        ...

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        """Run the envelope, or answer from a record of it."""
        ...

    async def prepare(self, envelopes: Sequence[RuntimeEffectEnvelope]) -> None:
        """The effects of a batch are about to start: what must be written before them is written, once."""
        ...

    async def flush(self) -> None:
        """Something slow comes: make durable what came before, as far as the outside knows of it."""
        ...


class EffectHost(Protocol):
    """Makes controllers, one a scope."""

    def scoped(self, scope: RuntimeScope) -> EffectController:
        """The controller of a turn or another unit of work."""
        ...
