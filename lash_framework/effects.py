"""The effect boundary's inline host: it runs what it is asked and keeps no record.

Turns run on it say `durable: false`. The journal host, which answers from records, has the same face.
"""

from __future__ import annotations

from collections.abc import Sequence

from lash_hookspecs.effect_commands import RuntimeEffectCommand
from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome
from lash_hookspecs.effects import (
    EffectController,
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
from lash_hookspecs.messages import CausalRef
from lash_hookspecs.values import frozen

__all__ = ["InlineEffectHost", "envelope"]


def envelope(
    scope: RuntimeScope,
    command: RuntimeEffectCommand,
    effect_id: str,
    *,
    caused_by: CausalRef | None = None,
    key: str | None = None,
) -> RuntimeEffectEnvelope:
    """A checked envelope; its replay key follows from scope, kind and id unless it is a child's."""
    invocation = RuntimeInvocation(
        scope=scope,
        subject=EffectSubject(effect_id=effect_id, kind=command.kind),
        caused_by=caused_by,
        replay=RuntimeReplay(key or effect_key(scope, command.kind, effect_id)),
    )
    return RuntimeEffectEnvelope(invocation, command)


@frozen
class _InlineController:
    durable: bool = False

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        outcome = await run(envelope)
        if outcome.kind is not envelope.command.kind:
            raise EffectControllerError(
                "runtime_effect_wrong_outcome",
                f"the executor of `{envelope.command.kind}` returned an outcome of `{outcome.kind}`",
            )
        return outcome

    async def prepare(self, envelopes: Sequence[RuntimeEffectEnvelope]) -> None:
        """Nothing is written."""

    async def flush(self) -> None:
        """Nothing is held back."""


@frozen
class InlineEffectHost:
    """Runs every effect on the spot; nothing survives the process."""

    def scoped(self, scope: RuntimeScope) -> EffectController:
        """A controller; inline ones need to know nothing of their scope."""
        return _InlineController()


def _conforms(host: InlineEffectHost) -> EffectHost:
    return host  # a type checker holds the class against the port here
