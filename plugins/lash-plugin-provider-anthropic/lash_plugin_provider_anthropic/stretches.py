"""A conversation in stretches: runs of messages joined to wire messages, kept with the run, and joined to a request.

The service wants the roles to alternate, so neighbours of one role become one message. A stretch is therefore open at
both ends: its bytes begin and end with the blocks of a message whose head and tail whoever joins the stretches writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
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


_role = attrgetter("role")


def glue(role: bytes) -> bytes:
    """What ends a message and begins the next one."""
    return b']},{"role":"%b","content":[' % role


def joined(messages: Iterable[Encoded]) -> Stretch | None:
    """The messages as one stretch; None if there is nothing to send of them."""
    parts: list[bytes] = []
    marks: list[int] = []
    size, user_end = 0, -1
    first = last = b""
    opens = closes = False
    for role, group in groupby((each for each in messages if each.results or each.rest), _role):
        if last:
            parts.append(glue(role))
            size += len(parts[-1])
        said = list(group)
        blocks = [each.results for each in said if each.results]
        if not last:
            first, opens = role, bool(blocks)
        rest = [each for each in said if each.rest]
        at = size + sum(map(len, blocks)) + len(blocks)
        for each in rest:  # the marks move with what they are in
            if each.marks:
                marks += [at + mark for mark in each.marks]
            blocks.append(each.rest)
            at += len(each.rest) + 1
        size = at - 1
        parts.append(b",".join(blocks) if len(blocks) > 1 else blocks[0])
        if role is USER:
            user_end = size - 1
        last, closes = role, bool(rest)
    return Stretch(first, last, b"".join(parts), tuple(marks), user_end, opens, closes) if last else None


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
