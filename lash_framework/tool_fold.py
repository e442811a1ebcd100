"""What the hooks around a tool call come to: one pure function over what they said, each by its plugin.

The law is monotone: a denial beats a question to a person, that beats an answer that failed, that beats one that
succeeded, and that beats saying nothing. So no order of plugins lets a call through that one of them denies, or wants
to ask about. What was changed is shown once more to whoever spoke before it was: of what these say then only a denial
and a question count, and another change is a clash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Union

from attrs import evolve

from lash_framework.hooks import Owned
from lash_hookspecs.directives import (
    AfterToolDirective,
    BeforeToolDirective,
    DenyToolCall,
    ReplaceToolArgs,
    ReplaceToolResult,
    ShortCircuitTool,
)
from lash_hookspecs.effect_commands import ToolSeam
from lash_hookspecs.questions import AskPerson
from lash_hookspecs.values import frozen

__all__ = ["Clash", "Overruled", "Ruling", "Said", "fold", "shown"]

Said = tuple[str, Union[BeforeToolDirective, AfterToolDirective]]
"""What a plugin asked for, after its id."""

Terminal = DenyToolCall | ShortCircuitTool | ReplaceToolResult
"""What decides a call, with nothing left to do."""


@frozen
class Overruled:
    """A plugin wanted to decide a call, and another one did."""

    winner: str
    loser: str
    wanted: Terminal


@frozen
class Clash:
    """Two plugins changed the same thing, each in its own way."""

    first: str
    second: str


@frozen(kw_only=True)
class Ruling:
    """What becomes of a call. `decided` is what decides it; without that, it goes on with what is `changed`.

    `changed` are the arguments of the first `ReplaceToolArgs`, or the output of the first successful
    `ReplaceToolResult`: what the hooks before that plugin's must see once more. After a `clash` the call fails.
    Before all of it a person is `asked`, unless it is denied anyway: one question for each plugin that has one.
    """

    decided: Owned[Terminal] | None = None
    changed: Owned[Any] | None = None
    clash: Clash | None = None
    overruled: tuple[Overruled, ...] = ()
    asked: tuple[Owned[AskPerson], ...] = ()

    @property
    def to_reinspect(self) -> str | None:
        """The plugin whose change those before it must see once more, if there is one that counts."""
        is_denied = self.decided is not None and isinstance(self.decided.value, DenyToolCall)
        return None if self.changed is None or is_denied else self.changed.plugin_id


def shown(seam: ToolSeam, current: Any, said: Sequence[Said]) -> Any:
    """What the next hook sees: the first change, or what was there (`current`: the arguments, or the output)."""
    for _, directive in said:
        value = _change(seam, directive)
        if value is not None and value != current:
            return value
    return current


def fold(seam: ToolSeam, current: Any, said: Sequence[Said], again: Sequence[Said] = ()) -> Ruling:
    """Join what all hooks said, in their order, and what the earlier ones said `again` to what was changed.

    `current` is what was there before: the arguments, or the tool's output. Who asks for what it sees changes nothing.
    """
    deciding: list[Owned[Terminal]] = []
    changes: list[Owned[Any]] = []
    asked: dict[str, AskPerson] = {}
    for plugin_id, directive in said:
        value = _change(seam, directive)
        if value is not None:
            if value == (changes[0].value if changes else current):
                continue
            changes.append(Owned(plugin_id, value))
        if isinstance(directive, Terminal):
            deciding.append(Owned(plugin_id, directive))
        elif isinstance(directive, AskPerson):
            asked[plugin_id] = directive
    changed = changes[0] if changes else None
    # Of two results the first one counts, and the other is overruled: nothing was called with either.
    other = changes[1:2] if seam is ToolSeam.BEFORE else []
    for plugin_id, directive in again if changed is not None else ():
        value = _change(seam, directive)
        if isinstance(directive, DenyToolCall):
            deciding.append(Owned(plugin_id, directive))
        elif isinstance(directive, AskPerson):
            asked[plugin_id] = directive  # about the call as it is by now
        elif value is not None and changed is not None and value != changed.value:
            other.append(Owned(plugin_id, value))
    decided = min(deciding, key=_by_strength(seam), default=None)  # of equals the first
    ruling = Ruling(
        decided=decided,
        changed=changed,
        clash=Clash(changed.plugin_id, other[0].plugin_id) if changed is not None and other else None,
        asked=tuple(Owned(*each) for each in sorted(asked.items())),
    )
    if ruling.clash is not None:
        ruling = evolve(ruling, asked=())
    if decided is None:
        return ruling
    if isinstance(decided.value, DenyToolCall):
        ruling = evolve(ruling, clash=None, asked=())  # a call that is denied has nothing left to quarrel about
    if seam is ToolSeam.AFTER and _change(seam, decided.value) is None:
        ruling = evolve(ruling, changed=None, clash=None)
    losers = [each for each in deciding if each.plugin_id != decided.plugin_id]
    return evolve(ruling, overruled=tuple(Overruled(decided.plugin_id, *each) for each in losers))


def _change(seam: ToolSeam, directive: object) -> Any:
    """What it puts in the place of what was there: arguments, or the output of a success; None for all else."""
    if seam is ToolSeam.BEFORE:
        return directive.args if isinstance(directive, ReplaceToolArgs) else None
    return directive.output if isinstance(directive, ReplaceToolResult) and directive.output.is_success else None


def _by_strength(seam: ToolSeam) -> Callable[[Owned[Terminal]], tuple[int, str]]:
    """The strongest first. Before the tool a tie goes to the lower plugin id."""

    def key(each: Owned[Terminal]) -> tuple[int, str]:
        if isinstance(each.value, DenyToolCall):
            rank = 0
        else:
            rank = 2 if each.value.output.is_success else 1
        return rank, each.plugin_id if seam is ToolSeam.BEFORE else ""

    return key
