"""A conversation in stretches: runs of messages joined to wire messages, kept with the run, and joined to a request.

The service wants the roles to alternate, so neighbours of one role become one message. A stretch is therefore open at
both ends: its bytes begin and end with the blocks of a message whose head and tail whoever joins the stretches writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lash_plugin_provider_anthropic.blocks import USER, Encoded

__all__ = ["Stretch", "glue", "joined", "marked"]


class Stretch(NamedTuple):
    """Consecutive wire messages. `user_end` is where the last block of a user ends, just before its brace; or -1.

    `marks` are the places where a cache marker was asked for. `opens` says that the first message begins with tool
    results, `closes` that the last one has something else than results.
    """

    first: bytes
    last: bytes
    body: bytes
    marks: tuple[int, ...]
    user_end: int
    opens: bool
    closes: bool

    def fits(self, after: Stretch) -> bool:
        """Whether this one can follow `after` as it is: results must not come behind anything else of a message."""
        return not (self.opens and after.closes and self.first is after.last)


def glue(role: bytes) -> bytes:
    """What ends a message and begins the next one."""
    return b']},{"role":"%b","content":[' % role


def joined(messages: Iterable[Encoded]) -> Stretch | None:
    """The messages as one stretch; None if there is nothing to send of them."""
    pieces: list[bytes] = []
    marks: list[int] = []
    size, user_end = 0, -1
    first = role = b""
    opens = closes = False
    results: list[bytes] = []
    rest: list[Encoded] = []

    def close() -> None:
        # All results of a message, then all else; the marks move with what they are in.
        nonlocal size, user_end
        start = size
        for text in results:
            pieces.append(text)
            size += len(text) + 1
        for each in rest:
            marks.extend(size + mark for mark in each.marks)
            pieces.append(each.rest)
            size += len(each.rest) + 1
        size -= 1
        if start < size and role is USER:
            user_end = size - 1

    parts: list[bytes] = []
    for each in messages:
        if not each.results and not each.rest:
            continue
        if each.role is not role:
            if role:
                close()
                parts.append(b",".join(pieces))
                pieces.clear()
                between = glue(each.role)
                parts.append(between)
                size += len(between)
            else:
                first = each.role
            role = each.role
            results.clear()
            rest.clear()
        if each.results:
            results.append(each.results)
        if each.rest:
            rest.append(each)
        if len(parts) == 0 and results:
            opens = True
    if not role:
        return None
    close()
    closes = bool(rest)
    parts.append(b",".join(pieces))
    return Stretch(first, role, b"".join(parts), tuple(marks), user_end, opens, closes)


def marked(stretches: Sequence[Stretch], marker: bytes, room: int) -> list[list[bytes]]:
    """The bodies, each in pieces, with cache markers at the last `room` places that were asked for.

    Where none was asked for, the last block of the user is marked.
    """
    places = [(number, mark) for number, each in enumerate(stretches) for mark in each.marks][-room:] if room else []
    if not places and room:
        ends = [(number, each.user_end) for number, each in enumerate(stretches) if each.user_end >= 0]
        places = ends[-1:]
    bodies = [[each.body] for each in stretches]
    for number, at in reversed(places):
        whole = bodies[number][0]
        bodies[number][:1] = [whole[:at], marker, whole[at:]]
    return bodies
