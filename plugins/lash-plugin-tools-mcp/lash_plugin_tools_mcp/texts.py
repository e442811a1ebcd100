"""What may be shown of a server's words: no secrets, nothing that a person couldn't see, and not too much. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Redactor", "brief", "failure_leaf", "visible"]

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn"}

MOST_OF_A_REASON = 500


class Redactor:
    """Takes secrets out of texts and values."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(secrets)

    def text(self, text: str) -> str:
        """The text with `***` in the place of each."""
        for each in self._secrets:
            if each in text:
                text = text.replace(each, "***")
        return text

    def value(self, value: Any) -> Any:
        """The same for all texts in a JSON value."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name): self.value(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.value(each) for each in value]
        return value


def visible(text: str, limit: int) -> str:
    """What a person would see of it, cut off: invisible characters can hide orders to a model from who reads them."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(each for each in text if each in "\n\t" or unicodedata.category(each) not in _INVISIBLE)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def brief(text: str, limit: int = MOST_OF_A_REASON) -> str:
    """One line of it."""
    return visible(" ".join(text.split()), limit)


def failure_leaf(error: BaseException) -> BaseException:
    """The one that says most of what is in a group: that which isn't about a stream that was closed by it."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [failure_leaf(each) for each in error.exceptions]
    return next((each for each in found if type(each).__module__.partition(".")[0] != "anyio"), found[0])
