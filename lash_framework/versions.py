"""The part of PEP 440 that a plugin needs to say which hook APIs it is made for: release numbers and comparisons."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

__all__ = ["satisfies"]

Release = tuple[int, ...]

_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*(\d+(?:\.\d+)*)(\.\*)?")

_COMPARISONS: dict[str, Callable[[Release, Release], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}


def satisfies(version: Release, specifier: str) -> bool:
    """Whether a release fits all clauses of a specifier such as `>=0.1,<1`; an empty one is fit by all.

    Raises `ValueError` for everything that isn't a comparison with a plain release (pre-releases, `===`, blanks).
    """
    clauses = [clause.strip() for clause in specifier.split(",")] if specifier.strip() else []
    answers = [_fits(version, clause) for clause in clauses]  # all of them, so that no faulty clause goes unread
    return all(answers)


def _fits(version: Release, clause: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        raise ValueError(f"`{clause}` is no version clause; write one such as `>=0.1`")
    comparison, number, wildcard = match.groups()
    release = tuple(int(part) for part in number.split("."))
    if wildcard:
        if comparison not in ("==", "!="):
            raise ValueError(f"`{clause}`: only `==` and `!=` may end in `.*`")
        return _COMPARISONS[comparison](_padded(version, len(release))[: len(release)], release)
    if comparison == "~=":
        if len(release) < 2:
            raise ValueError(f"`{clause}`: `~=` needs at least two numbers")
        prefix = release[:-1]
        return version >= release and _padded(version, len(prefix))[: len(prefix)] == prefix
    # 1.0 and 1 are the same release.
    length = max(len(version), len(release))
    return _COMPARISONS[comparison](_padded(version, length), _padded(release, length))


def _padded(release: Release, length: int) -> Release:
    return release + (0,) * (length - len(release))
