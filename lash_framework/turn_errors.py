"""What goes wrong in a turn on the host's side, as the event or the issue that tells of it."""

from __future__ import annotations

import logging

from lash_framework.composition import Composition
from lash_framework.faults import failure_text
from lash_framework.signed_drivers import whose_error
from lash_hookspecs.directives import AbortTurn
from lash_hookspecs.effect_outcomes import HookFailure
from lash_hookspecs.errors import ConfigurationError, EffectControllerError, LashError
from lash_hookspecs.sessions import TurnIssue
from lash_hookspecs.turn_events import ErrorEnvelope, ErrorEvent

__all__ = ["aborted", "attachment_lost", "controller_failed", "driver_failed", "plugin_failed"]

log = logging.getLogger("lash.turn")


def plugin_failed(failure: HookFailure) -> ErrorEvent:
    """A hook failed."""
    envelope = ErrorEnvelope(
        kind="plugin", code=failure.hook, user_message=failure.message, plugin_id=failure.plugin_id
    )
    return ErrorEvent(failure.message, envelope)


def controller_failed(error: EffectControllerError) -> ErrorEvent:
    """The effect boundary refused an envelope or an outcome."""
    envelope = ErrorEnvelope(kind="runtime_effect_controller", code=error.code, user_message=str(error))
    return ErrorEvent(str(error), envelope)


def driver_failed(error: Exception, composition: Composition) -> ErrorEvent:
    """The mode's driver raised, or broke its contract. What the user must mend is raised instead."""
    if isinstance(error, ConfigurationError):
        raise error
    log.error("the protocol driver failed", exc_info=error)
    said = str(error) if isinstance(error, LashError) else failure_text(error)
    made_by = [*dict.fromkeys(row.plugin_id for row in composition.provenance if row.kind == "driver")]
    if (raised_by := whose_error(error)) is not None:
        made_by = [raised_by]
    names = ", ".join(f"`{each}`" for each in made_by)
    who = f"plugin{'s' * (len(made_by) > 1)} {names}"  # one driver may be laid around another's
    plugin_id = made_by[0] if len(made_by) == 1 else None
    text = f"the protocol driver of mode `{composition.mode.mode_id}` ({who}) failed: {said}"
    envelope = ErrorEnvelope(kind="protocol_driver", code=type(error).__name__, user_message=text, plugin_id=plugin_id)
    return ErrorEvent(text, envelope)


def aborted(plugin_id: str, abort: AbortTurn) -> TurnIssue:
    """A plugin ended the turn."""
    return TurnIssue(kind="plugin", code=abort.code, message=abort.message, plugin_id=plugin_id)


def attachment_lost(id: str) -> TurnIssue:
    """The bytes of an attachment aren't in the store. It stops nobody."""
    text = f"attachment `{id}` is not in the store; the model was told that it is lost: send it again if it matters"
    return TurnIssue(kind="attachment", code="attachment_lost", message=text, blocking=False)
