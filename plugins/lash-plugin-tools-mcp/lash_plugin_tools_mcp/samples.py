"""What a model wrote for one call at a server: counted, and given again when the call is made again.

A call that waits for a person may be made again from its beginning, and asks for the same once more. So what was paid
goes from each step to the next, in its arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import anyio
import anyio.lowlevel

from lash_hookspecs.values import mutable

__all__ = ["Sample", "Samples"]


@mutable(eq=False, kw_only=True)
class Sample:
    """One request to the model. Without an `answer` nobody knows what came of it, and it may have been paid."""

    question: str
    tokens: int
    answer: Mapping[str, Any] | None = None


class Samples:
    """Those of one call, in order."""

    def __init__(self, known: Iterable[Mapping[str, Any]] = ()) -> None:
        self._made = [Sample(**each) for each in known]
        self._asked: Counter[str] = Counter()
        self._open = 0
        self._settled = anyio.Event()

    @property
    def open(self) -> int:
        """How many are being answered now."""
        return self._open

    @property
    def count(self) -> int:
        """How often the model was asked."""
        return len(self._made)

    @property
    def tokens(self) -> int:
        """What was read and written by that, or may have been."""
        return sum(each.tokens for each in self._made)

    def plain(self) -> list[dict[str, Any]]:
        """All of it, for the next step."""
        return [{"question": each.question, "tokens": each.tokens, "answer": each.answer} for each in self._made]

    def again(self, question: str) -> Mapping[str, Any] | None:
        """What was answered when this was asked before: the first answer to the first time, and so on."""
        at = self._asked[question]
        self._asked[question] += 1
        answered = [each.answer for each in self._made if each.question == question and each.answer is not None]
        return answered[at] if at < len(answered) else None

    def begin(self, question: str, tokens: int) -> tuple[str, Sample]:
        """The model is asked, which may take so many tokens; also the key that no other question of this call has."""
        number = sum(each.question == question for each in self._made)
        made = Sample(question=question, tokens=tokens)
        self._made.append(made)
        self._open += 1
        return f"{question}.{number}", made

    def end(self) -> None:
        """One that was begun is over, whatever came of it."""
        self._open -= 1
        settled, self._settled = self._settled, anyio.Event()
        settled.set()

    async def settled(self) -> None:
        """Until none is open. Others that are asked for at the same time are begun first."""
        await anyio.lowlevel.checkpoint()
        while self._open:
            await self._settled.wait()
