"""Where a turn can be killed, and the watch that notes each place, or ends the world at one of them.

There are four kinds of places: a call of the store, a statement of one of its writes, an effect that is executed, and a
piece of a model's reply. The list of places that a turn passes is its golden trace.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

import anyio
import anyio.lowlevel
from attrs import define, field

from lash_framework.journal_decisions import repeatability
from lash_framework.journal_errors import effect_label
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome
from lash_hookspecs.effects import EffectRunner, RuntimeEffectEnvelope
from lash_hookspecs.tools import ToolEffect
from lash_hookspecs.values import frozen

__all__ = ["CrashPoint", "Killed", "Started", "Watch", "When"]


class When(StrEnum):
    """On which side of it."""

    BEFORE = "before"
    AFTER = "after"
    """It is done, and nobody was told: the answer of a call is lost, the outcome of an effect isn't recorded."""


@frozen
class CrashPoint:
    """A place in a turn. `name` begins with its kind: `store`, `sql`, `effect` or `reply`; `nth` counts from 1."""

    name: str
    when: When
    nth: int = 1

    @property
    def kind(self) -> str:
        """`store`, `sql`, `effect` or `reply`."""
        return self.name.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.when} {self.name}" + (f" ({self.nth})" if self.nth > 1 else "")


@frozen
class Started:
    """An effect that began to be executed, of a turn. `label` is for people; `key` is its replay key."""

    turn_id: str
    key: str
    label: str
    kind: RuntimeEffectKind
    effect: ToolEffect


class Killed(Exception):
    """What whoever still runs in a killed process gets from its store: the process is gone.

    It is no error of a store: nobody knows what to do about it.
    """


def _ignore(started: Started) -> None:
    """Nobody else wants to know."""


@define(eq=False)
class Watch:
    """Notes the places that one turn passes, and the effects that start; at `target` it ends the world.

    A target is a place, or how many places are passed before it. After so many `commits` nothing is noted any more:
    what follows isn't a turn's.

    In this process the world ends so: from then on the store refuses everything, no effect starts, and the tasks in
    `scope` are cancelled, whose cleaning up reaches nothing that lasts. `kill` may do better and end the process.
    """

    target: CrashPoint | int | None = None
    kill: Callable[[], None] | None = None
    on_started: Callable[[Started], None] = _ignore
    commits: int = 1
    passed: list[CrashPoint] = field(factory=list)
    started: list[Started] = field(factory=list)
    scope: anyio.CancelScope | None = None
    active: bool = False
    dead: bool = False
    _counts: Counter[tuple[str, When]] = field(factory=Counter, init=False)
    _guard: threading.Lock = field(factory=threading.Lock, init=False)

    # ---- in the event loop ------------------------------------------------------------------------------------------

    async def reach(self, name: str, when: When) -> None:
        """Pass a place, or end there."""
        if self.dead or self._is_the_end(name, when):
            await self.stop()

    async def around(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        """Execute an effect, with a place on each side of it."""
        label = effect_label(envelope)
        await self.reach(f"effect {label}", When.BEFORE)
        command = envelope.command
        turn_id = envelope.invocation.scope.turn_id or ""
        started = Started(turn_id, envelope.key, label, command.kind, repeatability(command))
        self.started.append(started)
        self.on_started(started)
        outcome = await run(envelope)
        await self.reach(f"effect {label}", When.AFTER)
        return outcome

    async def stop(self) -> NoReturn:
        """End the task that is here; where it is shielded from its cancellation, by an error."""
        if self.scope is not None:
            self.scope.cancel()
            if anyio.current_effective_deadline() == -math.inf:
                await anyio.lowlevel.checkpoint()
        raise Killed

    # ---- on any thread ----------------------------------------------------------------------------------------------

    def reach_on_thread(self, name: str, when: When) -> None:
        """The same for a thread of the store, whose tasks hear of it by what they wait for."""
        if self.dead or self._is_the_end(name, when):
            raise Killed

    def _is_the_end(self, name: str, when: When) -> bool:
        if not self.active:
            return False
        with self._guard:
            self._counts[name, when] += 1
            point = CrashPoint(name, when, self._counts[name, when])
            self.passed.append(point)
            if self.dead or self.target not in (point, len(self.passed) - 1):
                return self.dead
            if self.kill is not None:
                self.kill()
            self.dead = True
            return True
