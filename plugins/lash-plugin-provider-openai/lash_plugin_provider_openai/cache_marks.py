"""Cache marks in Chat Completions, as gateways to Anthropic's and Google's models take them: at the end of texts.

Messages are kept without marks, which belong to a request: it cuts the kept bytes at the places that are noted with
them, and puts a marker there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lash_provider_kit.wire_json import dumps

__all__ = ["MARKED", "MARKERS", "Piece", "Place", "chosen", "cut", "joined", "spoken"]

MARKED = ("anthropic", "gemini")
"""The dialects of a cache that have marks."""
MARKERS = {
    "short": b',"cache_control":{"type":"ephemeral"}',
    "long": b',"cache_control":{"type":"ephemeral","ttl":"1h"}',
}
_MOST = {"anthropic": 4, "gemini": 1}

Place = tuple[int, int]
"""A piece's number, and where in its body."""


class Piece(NamedTuple):
    """Messages with commas between them. Places are just before the brace that closes a text; -1: there is none."""

    body: bytes
    asked: tuple[int, ...] = ()
    """Where a mark was asked for."""
    system: int = -1
    """The end of the last text of the first message that the system says."""
    last: int = -1
    """The end of the last text that a user says."""


def spoken(role: str, before: bytes, parts: Sequence[tuple[bytes, bool, bool]]) -> Piece:
    """A message of parts, behind whole ones; of each part whether it can be marked, and whether that was asked for.

    Where a part can't (the services refuse marks on blank texts), the one before it is marked, if there is one.
    """
    body = b'{"role":%b,"content":[' % dumps(role)
    body = b"%b,%b" % (before, body) if before else body
    asked: list[int] = []
    end = -1
    for number, (part, can_be, is_asked) in enumerate(parts):
        body += b",%b" % part if number else part
        if can_be:
            end = len(body) - 1
        if is_asked and end >= 0 and end not in asked[-1:]:
            asked.append(end)
    return Piece(body + b"]}", tuple(asked), *((end, -1) if role == "system" else (-1, end)))


def joined(pieces: Iterable[Piece]) -> Piece:
    """Several pieces as one."""
    body = bytearray()
    asked: list[int] = []
    system = last = -1
    for piece in pieces:
        start = len(body) + 1 if body else 0
        body += b",%b" % piece.body if body else piece.body
        asked += (start + each for each in piece.asked)
        if system < 0 <= piece.system:
            system = start + piece.system
        if piece.last >= 0:
            last = start + piece.last
    return Piece(bytes(body), tuple(asked), system, last)


def chosen(dialect: str, pieces: Sequence[Piece], *, tools: bool) -> tuple[bool, list[Place]]:
    """Whether the last tool is marked, and the places that are, in their order.

    Anthropic's way is that of its own wire, but for what isn't text, which has no marks here: tools, system, and what
    was asked for, or else the user's last text. For Gemini one mark counts, and each new one makes a cache that is paid
    for: so it is where nothing changes.
    """
    asked = [(number, at) for number, piece in enumerate(pieces) for at in piece.asked]
    system = [(number, piece.system) for number, piece in enumerate(pieces) if piece.system >= 0][:1]
    last = [(number, piece.last) for number, piece in enumerate(pieces) if piece.last >= 0][-1:]
    if dialect == "gemini":
        return False, asked[-1:] or system or last
    room = _MOST[dialect] - len(system) - tools
    return tools, sorted({*system, *(asked or last)[-room:]})


def cut(pieces: Sequence[Piece], places: Sequence[Place], marker: bytes) -> list[list[bytes]]:
    """The bodies of the pieces, with a marker at each place."""
    bodies = [[piece.body] for piece in pieces]
    for number, at in reversed(places):
        whole = bodies[number][0]
        bodies[number][:1] = [whole[:at], marker, whole[at:]]
    return bodies
