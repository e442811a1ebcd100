"""Where a prompt comes from: arguments, files named as `@file`, standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import click

__all__ = ["read_instructions", "read_prompt"]


def read_prompt(pieces: Sequence[str]) -> str:
    """The prompt that the arguments mean: text as it stands, `@file` a file's content, `-` (or nothing) standard input.

    What is piped in without a `-` comes last. Plain words are joined by blanks, files and input stand in paragraphs of
    their own; `@@x` is the text `@x`. Raises `click.UsageError` that names what is wrong, for bytes that are no text
    with their offset.
    """
    if not pieces:
        if sys.stdin is None or sys.stdin.isatty():
            raise click.UsageError(
                "no prompt: give it as an argument, as `@file`, or pipe it in", click.get_current_context(silent=True)
            )
        pieces = ("-",)
    parts: list[str] = []
    words: list[str] = []
    for piece in pieces:
        if piece == "-" or (piece.startswith("@") and not piece.startswith("@@") and len(piece) > 1):
            if words:
                parts.append(" ".join(words))
                words = []
            parts.append(_standard_input() if piece == "-" else _file(piece[1:]))
        else:
            words.append(_argument(piece))
    if words:
        parts.append(" ".join(words))
    if "-" not in pieces and _is_piped():
        parts.append(_standard_input())
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise click.UsageError("the prompt is empty", click.get_current_context(silent=True))
    return prompt


def read_instructions(text: str) -> str:
    """What `--system` means: text as it stands, or `@file`. Raises `click.UsageError`."""
    if not text.startswith("@") or text.startswith("@@"):
        return text.removeprefix("@")
    try:
        return decoded(Path(text[1:]).expanduser().read_bytes(), f"`{text[1:]}`")
    except OSError as error:
        raise click.UsageError(f"--system {text}: {error.strerror or error}") from error


def _is_piped() -> bool:
    """Whether somebody sent us a file or the output of a program: not a terminal, not whatever a service inherits."""
    if sys.stdin is None or sys.stdin.isatty():
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return True  # a stand-in, which somebody filled
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _standard_input() -> str:
    stream = getattr(sys.stdin, "buffer", None)
    return decoded(sys.stdin.read().encode() if stream is None else stream.read(), "standard input")


def _file(name: str) -> str:
    try:
        return decoded(Path(name).expanduser().read_bytes(), f"`{name}`")
    except OSError as error:
        raise click.UsageError(
            f"`@{name}` can't be read: {error.strerror or error} (for a text that begins with @ write `@@{name}`)"
        ) from error


def _argument(piece: str) -> str:
    try:
        piece.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError(f"the prompt is no valid text: character {error.start} can't be decoded") from None
    return piece[1:] if piece.startswith("@@") else piece


def decoded(data: bytes, where: str) -> str:
    """UTF-8 text. Raises `click.UsageError` naming the first byte that isn't text."""
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"{where} is no UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}; "
            "convert it, or describe it instead"
        ) from None
    if (offset := data.find(b"\0")) >= 0:
        raise click.UsageError(f"{where} looks binary: byte 0x00 at offset {offset}; convert it to text first")
    return text
