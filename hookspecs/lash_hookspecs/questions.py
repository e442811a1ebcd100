"""Questions to a person about a tool call: what a hook asks before it, who may say what, and what was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import Attribute, field

from lash_hookspecs import _checks as checks
from lash_hookspecs.values import frozen

__all__ = ["ALLOW", "DENY", "AskPerson", "PersonAnswer", "PersonChoice", "PersonQuestion"]


def _word(instance: object, attribute: Attribute[str], value: str) -> None:
    checks.text(instance, attribute, value)
    if not value or value != value.strip():
        where = f"`{type(instance).__name__}.{attribute.name}`"
        raise ValueError(f"{where} must be text without blanks around it, and is {value!r}")


@frozen(kw_only=True)
class PersonChoice:
    """Something that a person may say: `choice_id` for programs, `text` for people; whether it `allows` the call."""

    choice_id: str = field(validator=_word)
    text: str = field(validator=checks.text)
    allows: bool = field(validator=checks.flag)


ALLOW = PersonChoice(choice_id="allow", text="allow this call", allows=True)
DENY = PersonChoice(choice_id="deny", text="don't", allows=False)


def _choices(value: tuple[PersonChoice, ...] | list[PersonChoice]) -> tuple[PersonChoice, ...]:
    return checks.as_tuple(value)


def _answerable(instance: AskPerson, attribute: Attribute[Any], value: tuple[PersonChoice, ...]) -> None:
    checks.tuple_of(PersonChoice)(instance, attribute, value)
    ids = [each.choice_id for each in value]
    if len({*ids}) < len(ids):
        raise ValueError(f"`AskPerson.choices` must differ in their ids, and these are {ids}")
    if all(each.allows for each in value):
        raise ValueError("`AskPerson.choices` must have one that doesn't allow the call: a person may say no")


def _seconds(instance: object, attribute: Attribute[Any], value: float | None) -> None:
    checks.optional_finite(instance, attribute, value)
    if value is not None and value <= 0:
        raise ValueError(f"`AskPerson.timeout_s` must be more than 0 seconds, and is {value}")


@frozen
class AskPerson:
    """Ask a person before the call is made. It waits, durably; who answers nothing in time has not allowed it.

    `memo` is shown to nobody, and comes back with the answer: what the plugin must know then, as it was when it asked.
    """

    tag: ClassVar[str] = "ask_person"
    question: str = field(validator=_word)
    choices: tuple[PersonChoice, ...] = field(default=(ALLOW, DENY), converter=_choices, validator=_answerable)
    timeout_s: float | None = field(default=None, validator=_seconds)
    memo: str = field(default="", validator=checks.text)


@frozen(kw_only=True)
class PersonQuestion:
    """A question as it is recorded: whose it is, and the call exactly as it would be made. It is answered by its `key`.

    The key follows from the call (`call_key` is its replay key), its arguments and what is asked: no answer to another
    question fits. `until_ms`: since 1970; after that it isn't allowed. `preview`: what the tool says that it would do.
    """

    key: str
    call_key: str
    plugin_id: str
    tool_name: str
    args: Mapping[str, Any]
    question: str
    choices: tuple[PersonChoice, ...]
    until_ms: int | None = None
    memo: str = ""
    preview: str | None = None

    def choice(self, choice_id: object) -> PersonChoice | None:
        """The choice with this id."""
        return next((each for each in self.choices if each.choice_id == choice_id), None)


@frozen(kw_only=True)
class PersonAnswer:
    """What a person said: the id of a choice, and perhaps a `note` for the model. No choice: nobody said it in time.

    `memo` is what the plugin gave along with its question.
    """

    choice: str | None = None
    note: str = ""
    allows: bool = False
    memo: str = ""
