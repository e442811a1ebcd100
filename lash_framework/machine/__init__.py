"""The turn machine: pure and synchronous. What it wants done it says as effects; what came of it, it is told."""

from lash_framework.machine.config import TurnMachineConfig, TurnStart, turn_limit_message
from lash_framework.machine.context import DriverContext
from lash_framework.machine.machine import TurnMachine
from lash_framework.machine.projection import ChatProjector, ContextProjector, ProjectionView, prune_weight
from lash_framework.machine.sequence import MessageSequence
from lash_framework.machine.table import CONTINUATIONS, TABLE, Row, State, Trigger
from lash_framework.machine.transcript import is_resume_safe, render_transcript, resume_fault

__all__ = [
    "CONTINUATIONS",
    "TABLE",
    "ChatProjector",
    "ContextProjector",
    "DriverContext",
    "MessageSequence",
    "ProjectionView",
    "Row",
    "State",
    "Trigger",
    "TurnMachine",
    "TurnMachineConfig",
    "TurnStart",
    "is_resume_safe",
    "prune_weight",
    "render_transcript",
    "resume_fault",
    "turn_limit_message",
]
