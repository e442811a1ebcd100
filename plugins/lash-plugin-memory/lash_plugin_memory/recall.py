"""`recall`: which lines of the notes are about something, ranked as BM25 does.

The ranking is our own, since it is thirty lines: `bm25s` and `rank-bm25` bring numpy, for some hundred lines of text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from lash_hookspecs.constraints import Ge, Le, MaxLen, MinLen
from lash_hookspecs.toolkit import tool
from lash_hookspecs.tools import ToolCallContext
from lash_plugin_memory.standing import is_note

__all__ = ["ranked", "recall"]

# Words; of writings without blanks between words, each sign.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+", re.UNICODE)
_K, _B = 1.2, 0.75


@tool(effect="pure")
async def recall(
    ctx: ToolCallContext, query: Annotated[str, MinLen(1), MaxLen(400)], limit: Annotated[int, Ge(1), Le(50)] = 10
) -> list[str]:
    """Search the notes on earlier parts of this conversation, also those that aren't shown any more.

    Args:
        query: A few words that a note would have.
        limit: How many lines at most.
    """
    messages = (await ctx.sessions.snapshot_current()).messages
    lines = [line for each in filter(is_note, messages) for line in each.text.splitlines()[1:] if line.strip()]
    return [lines[at] for at in ranked(query, lines)[:limit]]


def ranked(query: str, lines: Sequence[str]) -> list[int]:
    """The places of the lines that have a word of the query, the best first, of equal ones the latest."""
    bags = [Counter(_words(each)) for each in lines]
    sizes = [bag.total() for bag in bags]
    usual = sum(sizes) / len(sizes) if sizes else 1.0
    scores = [0.0] * len(lines)
    for word in set(_words(query)):
        having = [at for at, bag in enumerate(bags) if word in bag]
        weight = math.log(1 + (len(lines) - len(having) + 0.5) / (len(having) + 0.5))
        for at in having:
            count = bags[at][word]
            scores[at] += weight * count * (_K + 1) / (count + _K * (1 - _B + _B * sizes[at] / usual))
    return sorted((at for at, score in enumerate(scores) if score), key=lambda at: (-scores[at], -at))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
