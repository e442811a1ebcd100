"""What a command printed: the end of it, as text that a model can read. Pure."""

from __future__ import annotations

import re

from lash_hookspecs.texts import without_controls

__all__ = ["Tail", "readable"]

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # titles and links
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"  # strings for the terminal
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, the cursor
    r"|\x1b[ -/]*[0-~]"
)


class Tail:
    """The last bytes of an output, at most `most`, and how many there were."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces = bytearray()
        self.total = 0

    def take(self, data: bytes) -> None:
        """More output."""
        self.total += len(data)
        self._pieces += data
        if len(self._pieces) > 2 * self._most:  # not at every piece, since each time all is moved
            del self._pieces[: -self._most]

    def after(self, offset: int) -> tuple[bytes, int]:
        """What is kept from there on, and where that begins."""
        kept = bytes(self._pieces[-self._most :])
        begins = self.total - len(kept)
        if offset > begins:
            kept = kept[min(offset, self.total) - begins :]
            begins = min(offset, self.total)
        return kept, begins


def readable(data: bytes) -> str:
    """Text without what is meant for a terminal: colours, what was written over, bytes that are none."""
    text = data.decode(errors="replace").replace("\r\n", "\n")
    if "\x1b" in text or "\x9b" in text:
        text = _ESCAPES.sub("", text)
    if "\x08" in text:
        text = _struck_over(text)
    if "\r" in text:
        text = "\n".join(_last_written(line) for line in text.split("\n"))
    return without_controls(text)


def _struck_over(text: str) -> str:
    """Without what a backspace takes away, in one pass: a command may print any number of them."""
    kept: list[str] = []
    for each in text:
        if each != "\x08":
            kept.append(each)
        elif kept and kept[-1] != "\n":
            kept.pop()
    return "".join(kept)


def _last_written(line: str) -> str:
    """What a terminal would show of a line that is written again and again, as bars of progress are."""
    return next((part for part in reversed(line.split("\r")) if part), "")
