"""A turn as it stands, with its place in the session. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lash_framework.assembly import TurnAssembler
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.messages import Message
from lash_hookspecs.sessions import AssembledTurn, SessionStateEnvelope

__all__ = ["as_it_stands"]


def as_it_stands(
    plan: TurnPlan, assembler: TurnAssembler, messages: Sequence[Message], *, cancelled: bool
) -> AssembledTurn:
    """What the assembler makes of it; its place is the one before it, until it is committed."""
    head = plan.conversation.head
    return assembler.assemble(
        turn_id=plan.turn_id,
        state=SessionStateEnvelope(
            session_id=plan.session_id,
            turn_index=head.turn_index,
            head_revision=head.head_revision,
            leaf_node_id=head.leaf_node_id,
        ),
        mode_id=plan.composition.mode.mode_id,
        messages=messages,
        cancelled=cancelled,
        durable=plan.controller.durable,
    )
