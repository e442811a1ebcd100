"""The transition table itself, and the page that is drawn from it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import get_args

import pytest

from lash_framework.machine import CONTINUATIONS, TABLE, State, TurnMachine
from lash_hookspecs.turn_steps import Continuation

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def diagrams():
    spec = importlib.util.spec_from_file_location("make_diagrams", DOCS / "make_diagrams.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_has_its_handler():
    """Each row names a method of the machine, no method serves no row, and every state has its place."""
    handlers = {row.handler for rows in TABLE.values() for row in rows.values()}
    assert all(callable(getattr(TurnMachine, name, None)) for name in handlers)
    assert set(TABLE) == set(State)
    reachable = {State.START} | {to for rows in TABLE.values() for row in rows.values() for to in row.to}
    assert reachable == set(State)


def test_every_continuation_is_known():
    """What a step may say and what the table knows are the same."""
    assert set(CONTINUATIONS) == set(get_args(Continuation))


def test_the_last_state_has_no_way_out():
    """Nothing leads out of the end, and every other state can be ended by the host."""
    assert TABLE[State.DONE] == {}
    for state in set(State) - {State.DONE}:
        assert {"fail", "finish"} <= set(TABLE[state])


def test_the_page_shows_the_table(diagrams):
    """The committed page is what the table draws. To mend it: `python docs/make_diagrams.py`."""
    for page, pieces in diagrams.PIECES.items():
        text = (DOCS / page).read_text(encoding="utf-8")
        assert diagrams.rendered(text, pieces) == text
    assert diagrams.main(["--check"]) == 0


def test_a_stale_page_is_noticed(diagrams):
    """Any difference between the markers counts; a page without markers is an error."""
    pieces = diagrams.PIECES["reference/turn-machine.md"]
    text = (DOCS / "reference/turn-machine.md").read_text(encoding="utf-8")
    stale = text.replace("poll_ready", "poll_redy")
    assert stale != text
    assert diagrams.rendered(stale, pieces) == text
    with pytest.raises(ValueError, match="`diagram`"):
        diagrams.rendered("nothing", pieces)
