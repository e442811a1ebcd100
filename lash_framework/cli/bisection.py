"""Finding what must be on for something to fail: a pure search, which asks whoever runs it.

`search` is a generator: it yields a set of plugins to be on, is sent whether it failed so, and returns what it found.
With one culprit among n it asks about log2 n times, with k that only fail together k times as often.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

__all__ = ["Search", "search"]

Search = Generator[frozenset[str], bool, frozenset[str]]


def search(suspects: Sequence[str], kept: frozenset[str] = frozenset()) -> Search:
    """The smallest set of suspects with which it fails, found one by one.

    `kept` are on in every trial. Known is that it fails with all suspects on, and not with none. The last of the
    shortest failing list of suspects is a culprit: with one less it doesn't fail. If it fails with the culprits
    found so far alone, they are all.
    """
    found: frozenset[str] = frozenset()
    rest = list(suspects)
    while True:
        fails, passes = len(rest), 0
        while fails - passes > 1:
            middle = (fails + passes) // 2
            if (yield kept | found | frozenset(rest[:middle])):
                fails = middle
            else:
                passes = middle
        found |= {rest[fails - 1]}
        rest = rest[: fails - 1]
        if not rest or (yield kept | found):
            return found
