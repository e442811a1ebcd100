"""What a model is shown of a conversation that is stored otherwise: a view, as a plugin makes it and as it is recorded.

A record holds no history: it names the runs of messages that are kept, and has in full only what a plugin made anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Union

from attrs import evolve, field

from lash_hookspecs import _checks as checks
from lash_hookspecs.messages import Message
from lash_hookspecs.prompts import PromptContribution
from lash_hookspecs.values import frozen

__all__ = ["ContextPiece", "ContextView", "KeptMessages", "MadeMessage", "OwnedPrompt", "PreparedContext"]


def _contributions(
    value: tuple[PromptContribution, ...] | list[PromptContribution],
) -> tuple[PromptContribution, ...]:
    return checks.as_tuple(value)


@frozen(kw_only=True)
class PreparedContext:
    """What the model will be shown in this turn before the turn's own messages, and what is added to its prompt.

    `messages` is at first the conversation before this turn. A message of it that is passed on is kept; every other one
    is the plugin's, whose name it gets, and is never stored.
    """

    messages: Sequence[Message]
    prompt: tuple[PromptContribution, ...] = field(
        default=(), converter=_contributions, validator=checks.tuple_of(PromptContribution)
    )

    def showing(self, messages: Iterable[Message]) -> PreparedContext:
        """This context with these messages in place of what was shown."""
        return evolve(self, messages=tuple(messages))

    def with_prompt(self, *contributions: PromptContribution) -> PreparedContext:
        """This context with more prompt."""
        return evolve(self, prompt=(*self.prompt, *contributions))


# ---- as it is recorded ----------------------------------------------------------------------------------------------


@frozen
class KeptMessages:
    """So many messages of the conversation, from the one with this id on."""

    tag: ClassVar[str] = "kept"
    first: str
    count: int


@frozen
class MadeMessage:
    """A message that a plugin made: it is in its origin."""

    tag: ClassVar[str] = "made"
    message: Message


ContextPiece = Union[KeptMessages, MadeMessage]


@frozen
class OwnedPrompt:
    """A contribution to the prompt, and the plugin whose it is."""

    plugin_id: str
    contribution: PromptContribution


@frozen(kw_only=True)
class ContextView:
    """What is shown of the conversation in one turn. `pieces` None: all of it. `plugin_ids` made it so, in order."""

    pieces: tuple[ContextPiece, ...] | None = None
    prompt: tuple[OwnedPrompt, ...] = ()
    plugin_ids: tuple[str, ...] = ()
