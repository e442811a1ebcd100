"""Plain data that plugins are shown and only read: whoever changes it in place is told so, in whichever depth.

Without that a change would count with nobody's name on it, in no record, and for all who hold the same data.
"""

from __future__ import annotations

from typing import Any, NoReturn

from attrs import evolve

from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.tools import ToolCallOutput, ToolCallSuccess, ToolManifest

__all__ = [
    "ReadOnlyDict",
    "ReadOnlyList",
    "own_copy",
    "own_output",
    "read_only",
    "read_only_manifest",
    "read_only_output",
    "read_only_turn",
]


def _refuse(self: object, *_: Any, **__: Any) -> NoReturn:
    way = "{**it}" if isinstance(self, dict) else "[*it]"
    raise TypeError(f"this is only shown, and can't be changed in place: change a copy, `{way}`, and return that")


class ReadOnlyDict(dict[str, Any]):
    """A dict for all who read it. Copies of it are plain dicts."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class ReadOnlyList(list[Any]):
    """The same for a list."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def read_only(value: Any) -> Any:
    """Plain data as such; what is it already is taken as it is."""
    cls = value.__class__
    if cls is dict:
        return ReadOnlyDict({key: read_only(each) for key, each in value.items()})
    if cls is list:
        return ReadOnlyList([read_only(each) for each in value])
    return value


def read_only_output(output: ToolCallOutput) -> ToolCallOutput:
    """A tool's output whose value is only read."""
    outcome = output.outcome
    if not isinstance(outcome, ToolCallSuccess) or outcome.value.__class__ not in (dict, list):
        return output
    return evolve(output, outcome=evolve(outcome, value=read_only(outcome.value)))


def read_only_manifest(manifest: ToolManifest) -> ToolManifest:
    """What is known of a tool, whose schema is only read: it is the tool's own, in all modes and hosts."""
    return evolve(manifest, input_schema=read_only(manifest.input_schema))


def read_only_turn(turn: AssembledTurn) -> AssembledTurn:
    """A turn of whose tool calls arguments and values are only read."""
    if not turn.tool_calls:
        return turn
    calls = [evolve(each, args=read_only(each.args), output=read_only_output(each.output)) for each in turn.tool_calls]
    return evolve(turn, tool_calls=tuple(calls))


def own_output(output: ToolCallOutput) -> ToolCallOutput:
    """A tool's output with a value that is only its own."""
    outcome = output.outcome
    if not isinstance(outcome, ToolCallSuccess) or not isinstance(outcome.value, (dict, list)):
        return output
    return evolve(output, outcome=evolve(outcome, value=own_copy(outcome.value)))


def own_copy(value: Any) -> Any:
    """Plain data that whoever gets it may change."""
    if isinstance(value, dict):
        return {key: own_copy(each) for key, each in value.items()}
    return [own_copy(each) for each in value] if isinstance(value, list) else value
