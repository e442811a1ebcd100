"""The model of the chaos run: it does what the last `do TURN PLAN` of the conversation says, step by step.

`do s0-7 pi,u` asks for two rounds of tools, `pure` and `idempotent` at once and then `unsafe`, and then for a text.
Every reply begins with `call N:`, where N is the number of the call in the server's log, and names its tool calls
`cN.0` and so on: so whatever is stored of a reply says which call paid for it. The usage is a function of N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

TOOLS = {"p": "pure", "i": "idempotent", "u": "unsafe", "w": "waiting"}
"""The tools by the letters of a plan; `waiting` is unsafe too, and after a crash waits for a person."""

WORDS = 8
"""In how many pieces a text comes."""


class Position(NamedTuple):
    """Where a conversation stands: `step` counts the model's replies behind the last `do`."""

    turn: str
    plan: Sequence[str]
    step: int


def position(request: bytes) -> Position:
    """Where the conversation of a request's body stands."""
    replies, first = 0, ""
    for message in reversed(orjson.loads(request)["messages"]):
        if message["role"] == "user":
            first = message["content"]
            if first.startswith("do "):
                _, turn, plan = first.split(" ", 2)
                return Position(turn, [] if plan == "-" else plan.split(","), replies)
        replies += message["role"] == "assistant"
    return Position(first, [], replies)  # somebody said something else before the first `do`


def usage(number: int) -> dict[str, int]:
    """What call N costs."""
    given, made = 100 + number % 899, 1 + number % 53
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def deltas(at: Position, number: int) -> list[dict[str, object]]:
    """The reply, in pieces."""
    said: list[dict[str, object]] = [{"role": "assistant", "content": ""}, {"content": f"call {number}:"}]
    if at.step >= len(at.plan):
        return [*said, *({"content": f" word-{each}"} for each in range(WORDS))]
    for index, letter in enumerate(at.plan[at.step]):
        name = {"id": f"c{number}.{index}", "type": "function"}
        told = {"name": TOOLS[letter], "arguments": orjson.dumps({"x": f"{at.turn}.{at.step}.{index}"}).decode()}
        said.append({"tool_calls": [{"index": index, **name, "function": told}]})
    return said
