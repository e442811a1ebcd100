"""Texts of programs and services as a person, or a terminal, should get them."""

from __future__ import annotations

import re

__all__ = ["without_controls"]

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def without_controls(text: str) -> str:
    """The text without control characters, so that nothing in it steers a terminal; tabs and line ends stay."""
    return _CONTROLS.sub("", text.replace("\r\n", "\n"))
