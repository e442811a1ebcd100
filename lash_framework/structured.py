"""Answers in a shape: an attrs class becomes the schema that the model is held to, and the answer an instance of it."""

from __future__ import annotations

from typing import Any

import attrs
import orjson
from attrs import evolve

from lash_framework.schemas import schema_fault
from lash_hookspecs.codec import MAX_NESTING, encode, structure
from lash_hookspecs.errors import CodecError, ConfigurationError
from lash_hookspecs.llm import JsonSchemaOutput
from lash_hookspecs.sessions import AssembledTurn, TurnIssue
from lash_hookspecs.toolkit import json_schema
from lash_hookspecs.turn_outcomes import AssistantMessage, FinalValue, Finished, Stopped, StopReason
from lash_hookspecs.values import frozen

__all__ = ["OutputWish", "output_wish", "take_output"]


@frozen
class OutputWish:
    """The schema that the model gets, and the class that was asked for; None where only its schema is known.

    That is so for a turn that another process goes on with: the class was its caller's.
    """

    cls: type | None
    spec: JsonSchemaOutput

    def parse(self, turn: AssembledTurn) -> AssembledTurn:
        """The turn with its answer as a value; an answer that doesn't fit stops it as incomplete, its text kept."""
        match turn.outcome:
            case Finished(finish=AssistantMessage(text=text)):
                try:
                    value = orjson.loads(text)
                    self._check(value)
                    encode(value, levels=MAX_NESTING)
                except (ValueError, CodecError) as error:
                    message = f"the answer is no `{self.spec.name}`: {error}"
                    issue = TurnIssue(kind="structured_output", code="invalid_output", message=message)
                    return evolve(turn, outcome=Stopped(StopReason.INCOMPLETE), errors=(*turn.errors, issue))
                return evolve(turn, outcome=Finished(FinalValue(value)), output_value=value)
            case _:
                return turn

    def _check(self, value: object) -> None:
        if self.cls is not None:
            structure(value, self.cls)
        elif (fault := schema_fault(self.spec.schema)(value)) is not None:
            raise ValueError(fault)


def output_wish(cls: type) -> OutputWish:
    """A wish for answers of this class. Raises `ConfigurationError` if it is no attrs class."""
    if not attrs.has(cls):
        name = getattr(cls, "__name__", cls)
        text = "an answer's shape is given as an attrs class: put `@attrs.frozen` above one, in place of any base,"
        raise ConfigurationError(f"`output={name}`: {text} with a field for each part of the answer")
    schema: dict[str, Any] = json_schema(cls)
    return OutputWish(cls, JsonSchemaOutput(name=cls.__name__, schema=schema))


def take_output(wish: OutputWish, turn: AssembledTurn) -> AssembledTurn:
    """The turn as the caller gets it: its `output_value` an instance instead of plain data."""
    if wish.cls is None or turn.output_value is None or isinstance(turn.output_value, wish.cls):
        return turn
    return evolve(turn, output_value=structure(turn.output_value, wish.cls))
