"""The arguments of a call, read widely, as lines that the patterns of a rule are held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from lash_plugin_approval.calls import parts_of
from lash_plugin_approval.patterns import fits_plain, name_matcher, plain

__all__ = ["LONGEST_COMMAND", "MOST_MEMBERS", "Lines"]

MOST_MEMBERS = 6
"""Of so many members of a table any two are looked at as the first ones; where it has more, those that are."""

LONGEST_COMMAND = 4096
"""A table that says more is read in its own order only: each order costs a pass."""


class Lines:
    """What arguments may say, read widely, by the leaves of a call; each is looked at once for all rules.

    An argument of a name is each leaf of it at any depth, each one in a table or array of it, and what is in that as
    one line: a command is the same whether it is a text, an array of words, or a table. The members of a table have no
    order but the one that the model wrote: any of them may be the program, and any other what it is told.
    """

    def __init__(self, found: Mapping[str, str]) -> None:
        rows: dict[str, dict[str, list[str]]] = {}
        for leaf, text in found.items():
            parts = parts_of(leaf) or [""]
            for size, member in enumerate([*parts[1:], ""], 1):
                rows.setdefault(".".join(parts[:size]), {}).setdefault(member, []).append(text)
        self._rows = [(plain(name.replace("\\", "")), members) for name, members in rows.items()]
        self._lines: dict[int, tuple[str, ...]] = {}

    def fit(self, name: str, pattern: str) -> bool:
        """Whether an argument of this name, which is a pattern, fits a pattern."""
        names = name_matcher(plain(name))
        return any(
            fits_plain(pattern, line)
            for no, (at, _) in enumerate(self._rows)
            if names.fits(at)
            for line in self._of_row(no)
        )

    def _of_row(self, no: int) -> tuple[str, ...]:
        lines = self._lines.get(no)
        if lines is None:
            lines = self._lines[no] = tuple(_lines_of(self._rows[no][1]))
        return lines


def _lines_of(members: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What is in a table or an array as one line, of a table as several: each begins with two other members."""
    words = [line for texts in members.values() if (line := plain(" ".join(texts)))]
    line = " ".join(words)
    yield line
    is_array = all(member == str(at) for at, member in enumerate(members))
    if is_array or len(words) > MOST_MEMBERS or len(line) > LONGEST_COMMAND:
        return
    for first in permutations(range(len(words)), 2):
        rest = (each for at, each in enumerate(words) if at not in first)
        yield " ".join((*(words[at] for at in first), *rest))
