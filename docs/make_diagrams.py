"""Draws the diagrams and tables of the documentation from the tables that the code runs on.

    python docs/make_diagrams.py            write them into the pages
    python docs/make_diagrams.py --check    say which pages are out of date, and fail if one is

A page holds a pair of markers for each generated piece; only what is between them is touched. The transition table
knows every transition of the turn machine. It can't show how a response is classified into a trigger; the page says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from lash_framework.machine.table import CONTINUATIONS, TABLE, State

DOCS = Path(__file__).resolve().parent

_HOST = {"fail", "finish"}


def turn_machine_diagram() -> str:
    """The turn machine's states and transitions, as a mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.START}"]
    for state, rows in TABLE.items():
        for target in State:
            triggers = [trigger for trigger, row in rows.items() if target in row.to and trigger not in _HOST]
            if triggers:
                lines.append(f"    {state} --> {target} : {', '.join(triggers)}")
    ended = [state for state, rows in TABLE.items() if set(rows) >= _HOST]
    lines += [f"    {state} --> {State.DONE} : {', '.join(sorted(_HOST))}" for state in ended]
    return "\n".join([*lines, f"    {State.DONE} --> [*]", "```"])


def turn_machine_table() -> str:
    """The turn machine's transitions, one row each."""
    lines = ["| state | trigger | leads to | what happens |", "| --- | --- | --- | --- |"]
    for state, rows in TABLE.items():
        for trigger, row in rows.items():
            targets = ", ".join(f"`{each}`" for each in row.to)
            lines.append(f"| `{state}` | `{trigger}` | {targets} | {row.note} |")
    return "\n".join(lines)


def turn_machine_continuations() -> str:
    """Where each of a driver's answers leads."""
    lines = ["| `Step.next` | state |", "| --- | --- |"]
    lines += [f"| `{kind.__name__}` | `{state}` |" for kind, state in CONTINUATIONS.items()]
    return "\n".join(lines)


PIECES: dict[str, dict[str, Callable[[], str]]] = {
    "reference/turn-machine.md": {
        "diagram": turn_machine_diagram,
        "table": turn_machine_table,
        "continuations": turn_machine_continuations,
    },
}


def rendered(text: str, pieces: dict[str, Callable[[], str]]) -> str:
    """`text` with what is between each pair of markers made anew. Raises `ValueError` if a marker is missing."""
    for name, make in pieces.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of generated: {name} -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"markers of `{name}` are missing")
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    stale = []
    for page, pieces in PIECES.items():
        path = DOCS / page
        old = path.read_text(encoding="utf-8")
        new = rendered(old, pieces)
        if new != old:
            stale.append(page)
            if "--check" not in arguments:
                path.write_text(new, encoding="utf-8")
    for page in stale:
        print(f"{page}: {'out of date, run docs/make_diagrams.py' if '--check' in arguments else 'written'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
