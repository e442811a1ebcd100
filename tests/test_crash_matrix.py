"""The crash matrix: one turn, killed at every place that it passes, and what has become of it each time.

The turn (`crash_kit`) has three tools at once, a tool that fails and is called again, a hook that gives guidance once,
an input that is queued meanwhile, and replies that are streamed. Its golden trace generates the places; the tables
below say, reviewed, what follows from a crash at each of them. A place without a row fails a test. Here the crash is
one of this process; `test_crash_processes` kills real ones, and holds them to the same tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from attrs import evolve
from crash_kit import (
    DEEDS,
    GUARDED,
    GUARDED_DEEDS,
    SECOND,
    SECOND_DEEDS,
    SUBJECT,
    Row,
    World,
    after_the_first,
    crash_agent,
    row_of,
    url_in,
)

from lash_framework.testing import CrashPoint, When
from lash_framework.testing.crash_matrix import Subject, golden_run
from lash_framework.testing.crash_points import Watch
from lash_framework.testing.crash_verdicts import Ending, judge

# `found` is what the survivor finds, `twice` and `never` are deeds that were done so (all others once), `unknown` the
# calls of which the model is told that nobody knows. The answer, what plugins remember, and the tokens that were
# counted are always those of the turn that nobody killed.
TABLE = """
place                                                      | found     | twice             | never  | unknown| usage
# nothing is accepted, so who asks again begins anew
before store load_session                                  | nothing   | -                 | -      | -      | exact
before store begin_turn                                    | "         | "                 | "      | "      | "
# the prompt is kept; whether the model was asked already, a survivor can't tell
after store begin_turn                                     | accepted  | -                 | -      | -      | at least
before effect turn_start                                   | "         | "                 | "      | "      | "
after effect turn_start                                    | "         | "                 | "      | "      | "
before effect llm_call 2 of iteration 0                    | "         | "                 | "      | "      | "
# paid, and lost with its record
after reply 1                                              | accepted  | model 1           | -      | -      | at least
after reply 1 (2)                                          | "         | "                 | "      | "      | "
after reply 1 (3)                                          | "         | "                 | "      | "      | "
after effect llm_call 2 of iteration 0                     | "         | "                 | "      | "      | "
before store append_journal                                | "         | "                 | "      | "      | "
# the batch's intents are durable: whether `charge` began, nobody can tell
after store append_journal                                 | accepted  | -                 | charge | charge | exact
before effect tool_call `look` (look)                      | "         | "                 | "      | "      | "
before effect tool_call `note` (note)                      | "         | "                 | "      | "      | "
before effect tool_call `charge` (charge)                  | "         | "                 | "      | "      | "
# `look` and `note` may run again, `charge` never does
after effect tool_call `look` (look)                       | accepted  | look, note        | -      | charge | exact
before store append_journal (2)                            | "         | "                 | "      | "      | "
# an outcome that is recorded is not run again
after store append_journal (2)                             | accepted  | note              | -      | charge | exact
after effect tool_call `note` (note)                       | "         | "                 | "      | "      | "
before store append_journal (3)                            | "         | "                 | "      | "      | "
# an outcome that is recorded is not run again
after store append_journal (3)                             | accepted  | -                 | -      | charge | exact
after effect tool_call `charge` (charge)                   | "         | "                 | "      | "      | "
before store append_journal (4)                            | "         | "                 | "      | "      | "
# nothing of the batch is uncertain any more
after store append_journal (4)                             | accepted  | -                 | -      | -      | at least
before effect checkpoint 4 of iteration 1                  | "         | "                 | "      | "      | "
before store has_pending                                   | "         | "                 | "      | "      | "
# the hook is called again, and its guidance is given once
after effect checkpoint 4 of iteration 1                   | accepted  | guidance          | -      | -      | at least
before effect sync_execution_environment 5 of iteration 1  | "         | "                 | "      | "      | "
after effect sync_execution_environment 5 of iteration 1   | "         | "                 | "      | "      | "
before effect llm_call 6 of iteration 1                    | "         | "                 | "      | "      | "
# the model's reply and the checkpoint before it are one record's distance away
before store enqueue                                       | accepted  | guidance, model 2 | -      | -      | at least
after store enqueue                                        | "         | "                 | "      | "      | "
after reply 2                                              | "         | "                 | "      | "      | "
after reply 2 (2)                                          | "         | "                 | "      | "      | "
after reply 2 (3)                                          | "         | "                 | "      | "      | "
after effect llm_call 6 of iteration 1                     | "         | "                 | "      | "      | "
before store append_journal (5)                            | "         | "                 | "      | "      | "
# killed after its record, the hook is not called again
after store append_journal (5)                             | accepted  | -                 | -      | -      | exact
before effect tool_call `fetch` (fetch-1)                  | "         | "                 | "      | "      | "
# idempotent: again, with the same key
after effect tool_call `fetch` (fetch-1)                   | accepted  | fetch 1           | -      | -      | exact
before store append_journal (6)                            | "         | "                 | "      | "      | "
# a failure is an outcome
after store append_journal (6)                             | accepted  | -                 | -      | -      | at least
before effect checkpoint 8 of iteration 2                  | "         | "                 | "      | "      | "
before store has_pending (2)                               | "         | "                 | "      | "      | "
before store list_inbox                                    | "         | "                 | "      | "      | "
after effect checkpoint 8 of iteration 2                   | "         | "                 | "      | "      | "
before store append_journal (7)                            | "         | "                 | "      | "      | "
after store append_journal (7)                             | "         | "                 | "      | "      | "
before effect sync_execution_environment 9 of iteration 2  | "         | "                 | "      | "      | "
after effect sync_execution_environment 9 of iteration 2   | "         | "                 | "      | "      | "
before effect llm_call 10 of iteration 2                   | "         | "                 | "      | "      | "
# the queued input is claimed with the checkpoint's record, once
after reply 3                                              | accepted  | model 3           | -      | -      | at least
after reply 3 (2)                                          | "         | "                 | "      | "      | "
after reply 3 (3)                                          | "         | "                 | "      | "      | "
after effect llm_call 10 of iteration 2                    | "         | "                 | "      | "      | "
before store append_journal (8)                            | "         | "                 | "      | "      | "
after store append_journal (8)                             | accepted  | -                 | -      | -      | exact
before effect tool_call `fetch` (fetch-2)                  | "         | "                 | "      | "      | "
after effect tool_call `fetch` (fetch-2)                   | accepted  | fetch 2           | -      | -      | exact
before store append_journal (9)                            | "         | "                 | "      | "      | "
after store append_journal (9)                             | accepted  | -                 | -      | -      | at least
before effect checkpoint 12 of iteration 3                 | "         | "                 | "      | "      | "
before store has_pending (3)                               | "         | "                 | "      | "      | "
after effect checkpoint 12 of iteration 3                  | "         | "                 | "      | "      | "
before effect sync_execution_environment 13 of iteration 3 | "         | "                 | "      | "      | "
after effect sync_execution_environment 13 of iteration 3  | "         | "                 | "      | "      | "
before effect llm_call 14 of iteration 3                   | "         | "                 | "      | "      | "
after reply 4                                              | accepted  | model 4           | -      | -      | at least
after reply 4 (2)                                          | "         | "                 | "      | "      | "
after reply 4 (3)                                          | "         | "                 | "      | "      | "
after effect llm_call 14 of iteration 3                    | "         | "                 | "      | "      | "
before effect checkpoint 15 of iteration 3                 | "         | "                 | "      | "      | "
before store has_pending (4)                               | "         | "                 | "      | "      | "
before store append_journal (10)                           | "         | "                 | "      | "      | "
# before its completion a turn has everything recorded
after store append_journal (10)                            | accepted  | -                 | -      | -      | exact
after effect checkpoint 15 of iteration 3                  | "         | "                 | "      | "      | "
before effect turn_end                                     | "         | "                 | "      | "      | "
after effect turn_end                                      | "         | "                 | "      | "      | "
before store commit                                        | "         | "                 | "      | "      | "
# committed, and only the answer is lost
after store commit                                         | committed | -                 | -      | -      | exact
"""

# Of a write only its COMMIT counts: killed after any other statement, it is as if killed before the call; after COMMIT,
# as if its answer was lost. What several writes have in common stands in `WRITES`, and as `=name` in their rows.
WRITES = """
=first  | BEGIN IMMEDIATE, SELECT sessions, SELECT tombstones, INSERT INTO sessions, SELECT sessions, INSERT INTO inbox,
        | UPDATE sessions, COMMIT
=append | BEGIN IMMEDIATE, SELECT sessions, INSERT INTO journal, COMMIT
=commit | BEGIN IMMEDIATE, SELECT sessions, SELECT receipts, SELECT refs, SELECT nodes, SELECT usage, SELECT blobs,
        | SELECT inbox, UPDATE sessions, INSERT INTO nodes, INSERT INTO receipts
"""

STATEMENTS = """
begin_turn 1        | =first
append_journal 1-4  | =append
enqueue 1           | BEGIN IMMEDIATE, SELECT sessions, SELECT inbox, SELECT receipts, INSERT INTO inbox, COMMIT
append_journal 5-6  | =append
append_journal 7    | BEGIN IMMEDIATE, SELECT sessions, UPDATE inbox, INSERT INTO journal, COMMIT
append_journal 8-10 | =append
commit 1            | =commit, INSERT INTO blobs x3, INSERT INTO refs x3, INSERT INTO usage, DELETE FROM inbox,
                    | UPDATE inbox, DELETE FROM journal, COMMIT
"""

# A session's second turn, of one round: what the session holds is replaced, and what nobody uses then goes.
SECOND_TABLE = """
place                                                      | found     | twice             | never  | unknown| usage
before store load_session                                  | nothing   | -                 | -      | -      | exact
before store begin_turn                                    | "         | "                 | "      | "      | "
after store begin_turn                                     | accepted  | -                 | -      | -      | at least
before effect turn_start                                   | "         | "                 | "      | "      | "
after effect turn_start                                    | "         | "                 | "      | "      | "
before effect llm_call 2 of iteration 0                    | "         | "                 | "      | "      | "
after reply 3                                              | accepted  | model 1           | -      | -      | at least
after reply 3 (2)                                          | "         | "                 | "      | "      | "
after reply 3 (3)                                          | "         | "                 | "      | "      | "
after effect llm_call 2 of iteration 0                     | "         | "                 | "      | "      | "
before store append_journal                                | "         | "                 | "      | "      | "
after store append_journal                                 | accepted  | -                 | -      | -      | exact
before effect tool_call `fetch` (fetch-2)                  | "         | "                 | "      | "      | "
after effect tool_call `fetch` (fetch-2)                   | accepted  | fetch             | -      | -      | exact
before store append_journal (2)                            | "         | "                 | "      | "      | "
after store append_journal (2)                             | accepted  | -                 | -      | -      | at least
before effect checkpoint 4 of iteration 1                  | "         | "                 | "      | "      | "
before store has_pending                                   | "         | "                 | "      | "      | "
after effect checkpoint 4 of iteration 1                   | "         | "                 | "      | "      | "
before effect sync_execution_environment 5 of iteration 1  | "         | "                 | "      | "      | "
after effect sync_execution_environment 5 of iteration 1   | "         | "                 | "      | "      | "
before effect llm_call 6 of iteration 1                    | "         | "                 | "      | "      | "
after reply 4                                              | accepted  | model 2           | -      | -      | at least
after reply 4 (2)                                          | "         | "                 | "      | "      | "
after reply 4 (3)                                          | "         | "                 | "      | "      | "
after effect llm_call 6 of iteration 1                     | "         | "                 | "      | "      | "
before effect checkpoint 7 of iteration 1                  | "         | "                 | "      | "      | "
before store has_pending (2)                               | "         | "                 | "      | "      | "
before store append_journal (3)                            | "         | "                 | "      | "      | "
after store append_journal (3)                             | accepted  | -                 | -      | -      | exact
after effect checkpoint 7 of iteration 1                   | "         | "                 | "      | "      | "
before effect turn_end                                     | "         | "                 | "      | "      | "
after effect turn_end                                      | "         | "                 | "      | "      | "
before store commit                                        | "         | "                 | "      | "      | "
after store commit                                         | committed | -                 | -      | -      | exact
"""

SECOND_STATEMENTS = """
begin_turn 1        | BEGIN IMMEDIATE, SELECT sessions, SELECT EXISTS OR EXISTS OR EXISTS, INSERT INTO inbox,
                    | UPDATE sessions, COMMIT
append_journal 1-3  | =append
commit 1            | =commit, INSERT INTO blobs x2, INSERT INTO refs x2, DELETE FROM blobs, INSERT INTO usage,
                    | DELETE FROM inbox, DELETE FROM journal, COMMIT
"""

# Hooks around calls: one call that they change, and see, and one that they deny.
GUARDED_TABLE = """
place                                                      | found     | twice             | never  | unknown | usage
before store load_session                                  | nothing   | -                 | -      | -       | exact
before store begin_turn                                    | "         | "                 | "      | "       | "
after store begin_turn                                     | accepted  | -                 | -      | -       | at least
before effect turn_start                                   | "         | "                 | "      | "       | "
after effect turn_start                                    | "         | "                 | "      | "       | "
before effect llm_call 2 of iteration 0                    | "         | "                 | "      | "       | "
after reply 1                                              | accepted  | model 1           | -      | -       | at least
after reply 1 (2)                                          | "         | "                 | "      | "       | "
after reply 1 (3)                                          | "         | "                 | "      | "       | "
after effect llm_call 2 of iteration 0                     | "         | "                 | "      | "       | "
# the hook waits for the reply's record, which it asks for
before effect tool_hooks before `fetch` (1)                | accepted  | model 1           | -      | -       | at least
before store append_journal                                | "         | "                 | "      | "       | "
# a paid reply is durable before a hook runs
after store append_journal                                 | accepted  | -                 | -      | -       | exact
# decisions that aren't recorded are made again, and no tool has begun
after effect tool_hooks before `fetch` (1)                 | accepted  | guard 1           | -      | -       | exact
before effect tool_hooks before `fetch` (2)                | "         | "                 | "      | "       | "
after effect tool_hooks before `fetch` (2)                 | accepted  | guard 1, guard 2  | -      | -       | exact
before store append_journal (2)                            | "         | "                 | "      | "       | "
# recorded, with the intents: nobody is asked again
after store append_journal (2)                             | accepted  | -                 | -      | -       | exact
before effect tool_call `fetch` (1)                        | "         | "                 | "      | "       | "
# idempotent: again, with the arguments that were decided
after effect tool_call `fetch` (1)                         | accepted  | fetch 3           | -      | -       | exact
before store append_journal (3)                            | "         | "                 | "      | "       | "
# the outcome is recorded raw, and its hooks' record is to follow
after store append_journal (3)                             | accepted  | -                 | -      | -       | at least
before effect tool_hooks after `fetch` (1)                 | "         | "                 | "      | "       | "
# only the hooks run again, and what they count is counted once
after effect tool_hooks after `fetch` (1)                  | accepted  | see               | -      | -       | at least
before effect tool_hooks after `fetch` (2)                 | "         | "                 | "      | "       | "
after effect tool_hooks after `fetch` (2)                  | "         | "                 | "      | "       | "
before effect checkpoint 4 of iteration 1                  | "         | "                 | "      | "       | "
before store has_pending                                   | "         | "                 | "      | "       | "
after effect checkpoint 4 of iteration 1                   | "         | "                 | "      | "       | "
before effect sync_execution_environment 5 of iteration 1  | "         | "                 | "      | "       | "
after effect sync_execution_environment 5 of iteration 1   | "         | "                 | "      | "       | "
before effect llm_call 6 of iteration 1                    | "         | "                 | "      | "       | "
after reply 2                                              | accepted  | see, model 2      | -      | -       | at least
after reply 2 (2)                                          | "         | "                 | "      | "       | "
after reply 2 (3)                                          | "         | "                 | "      | "       | "
after reply 2 (4)                                          | "         | "                 | "      | "       | "
after effect llm_call 6 of iteration 1                     | "         | "                 | "      | "       | "
before effect checkpoint 7 of iteration 1                  | "         | "                 | "      | "       | "
before store has_pending (2)                               | "         | "                 | "      | "       | "
after effect checkpoint 7 of iteration 1                   | "         | "                 | "      | "       | "
before effect turn_end                                     | "         | "                 | "      | "       | "
after effect turn_end                                      | "         | "                 | "      | "       | "
before store commit                                        | "         | "                 | "      | "       | "
# committed, and only the answer is lost
after store commit                                         | committed | -                 | -      | -       | exact
"""

GUARDED_STATEMENTS = """
begin_turn 1        | =first
append_journal 1-3  | =append
commit 1            | =commit, INSERT INTO blobs x3, INSERT INTO refs x3, INSERT INTO usage, DELETE FROM inbox,
                    | DELETE FROM journal, COMMIT
"""


class Tables(NamedTuple):
    """A turn's two tables, as they stand above."""

    places: str
    statements: str


FIRST_TURN, SECOND_TURN = Tables(TABLE, STATEMENTS), Tables(SECOND_TABLE, SECOND_STATEMENTS)
GUARDED_TURN = Tables(GUARDED_TABLE, GUARDED_STATEMENTS)


def reviewed(tables: Tables = FIRST_TURN) -> dict[str, Row]:
    """The row of each place that isn't a statement, in the order of the trace."""
    found: dict[str, Row] = {}
    for line in tables.places.splitlines()[2:]:
        if not line.startswith("#"):
            place, *cells = (cell.strip() for cell in line.split("|"))
            found[place] = Row(*cells) if cells[0] != '"' else found[list(found)[-1]]
    return found


def statements(tables: Tables = FIRST_TURN) -> dict[str, list[str]]:
    """The statements of each write."""
    common = _listed(WRITES, {})
    found: dict[str, list[str]] = {}
    for calls, listed in _listed(tables.statements, common).items():
        name, _, numbers = calls.rpartition(" ")
        first, _, last = numbers.partition("-")
        found |= {f"{name} {number}": listed for number in range(int(first), int(last or first) + 1)}
    return found


def _listed(table: str, common: dict[str, list[str]]) -> dict[str, list[str]]:
    """The rows of a table, by their first column."""
    found: dict[str, list[str]] = {}
    for line in table.strip().splitlines():
        call, _, listed = (part.strip() for part in line.partition("|"))
        for each in filter(None, map(str.strip, listed.split(","))):
            what, _, times = each.partition(" x")
            found.setdefault(call or list(found)[-1], []).extend(common.get(what, [what]) * int(times or 1))
    return found


def row_for(point: CrashPoint, tables: Tables = FIRST_TURN) -> Row:
    """What the tables say of a place."""
    if point.kind != "sql":
        return reviewed(tables)[str(point)]
    call, _, statement = point.name.removeprefix("sql ").partition(": ")
    name, _, nth = call.partition(" ")
    when = When.AFTER if statement == "COMMIT" else When.BEFORE
    return reviewed(tables)[str(CrashPoint(f"store {name}", when, int(nth)))]


def drift(trace: Sequence[CrashPoint], tables: Tables = FIRST_TURN) -> list[str]:
    """How a trace differs from the tables."""
    places = [str(each) for each in trace if each.kind != "sql"]
    seen: dict[str, list[str]] = {}
    for each in trace:
        if each.kind == "sql":
            call, _, statement = each.name.removeprefix("sql ").partition(": ")
            seen.setdefault(call, []).append(statement)
    rows, writes = list(reviewed(tables)), statements(tables)
    found = [f"no row for `{each}`" for each in places if each not in rows]
    found += [f"nothing passes `{each}`" for each in rows if each not in places]
    if not found and places != rows:
        found.append("the places are passed in another order")
    for call in {**writes, **seen}:
        before, now = Counter(writes.get(call, ())), Counter(seen.get(call, ()))
        found += [f"no statement `{each}` in the row of `{call}`" for each in now - before]
        found += [f"`{call}` has no statement `{each}`" for each in before - now]
    return found


pytestmark = pytest.mark.costly
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio runs tasks in a new order each time
SHARDS = 6


@on_asyncio
async def test_the_trace_is_the_reviewed_one(tmp_path: Path) -> None:
    """Whoever adds a call of the store, a statement or an effect says here what a crash there leaves."""
    golden, trace = await golden_run(SUBJECT, url_in(tmp_path / "golden"))
    assert drift(trace) == []
    assert len(trace) > 140
    assert golden.turn.text == "All is done: {'Be brief.': 1, 'And hurry.': 1}"
    assert golden.turn.durable


@on_asyncio
async def test_trace_drift_is_noticed(tmp_path: Path) -> None:
    """A hook that asks the store for something, as a kernel might that has learnt to."""

    def open_host(url: str) -> object:
        return crash_agent(url, after_guidance=lambda lash: lash.store.put_blob(b"new", "text/plain"))

    subject = evolve(SUBJECT, open_host=open_host)
    _, trace = await golden_run(subject, url_in(tmp_path / "golden"))
    assert drift(trace) == [
        "no row for `before store put_blob`",
        "no row for `after store put_blob`",
        "no statement `BEGIN IMMEDIATE` in the row of `put_blob 1`",
        "no statement `INSERT INTO blobs` in the row of `put_blob 1`",
        "no statement `SELECT blobs` in the row of `put_blob 1`",
        "no statement `COMMIT` in the row of `put_blob 1`",
    ]


@on_asyncio
@pytest.mark.chaos
@pytest.mark.parametrize("shard", range(SHARDS))
async def test_a_turn_that_is_killed_anywhere_ends_as_reviewed(shard: int, tmp_path: Path) -> None:
    """Law 2, at every place, by an error that stops the world: the kit's verdict, and what the outside remembers."""
    golden, trace = await golden_run(SUBJECT, url_in(tmp_path / "golden"))
    for number, point in list(enumerate(trace))[shard::SHARDS]:
        await ends_as_reviewed(SUBJECT, url_in(tmp_path / str(number)), point, golden)


async def ends_as_reviewed(
    subject: Subject,
    url: str,
    point: CrashPoint,
    golden: Ending,
    tables: Tables = FIRST_TURN,
    deeds: Sequence[str] = DEEDS,
) -> None:
    watch = Watch(point)
    await subject.live(url, watch)
    assert watch.dead, f"{point} was not passed again"
    ending = await subject.survive(url)
    judge(point, golden, ending, watch.started)
    assert row_of(ending, World(url), deeds) == row_for(point, tables), str(point)
    assert ending.turn.text == golden.turn.text, str(point)
    assert ending.components == golden.components, str(point)


@pytest.mark.chaos
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_it_ends_so_on_trio_too(tmp_path: Path) -> None:
    """A sample: before and after the tools that run at once, whose order is trio's, as any order may be."""
    golden, trace = await golden_run(SUBJECT, url_in(tmp_path / "golden"))
    places = [str(each) for each in trace]
    begin, end = places.index("after store append_journal"), places.index("after store append_journal (4)")
    for number, point in list(enumerate([*trace[: begin + 1], *trace[end:]]))[::6]:
        await ends_as_reviewed(SUBJECT, url_in(tmp_path / str(number)), point, golden)


@on_asyncio
@pytest.mark.chaos
async def test_a_sessions_second_turn_ends_as_reviewed(tmp_path: Path) -> None:
    """It finds what the first one left, and replaces some of it: other statements, and the same law."""
    url = await after_the_first(tmp_path)
    golden, trace = await golden_run(SECOND, url("golden"))
    assert drift(trace, SECOND_TURN) == []
    assert golden.turn.text == "Fetched 2."
    for number, point in enumerate(trace):
        await ends_as_reviewed(SECOND, url(str(number)), point, golden, SECOND_TURN, SECOND_DEEDS)


@on_asyncio
@pytest.mark.chaos
async def test_a_turn_with_hooks_around_its_calls_ends_as_reviewed(tmp_path: Path) -> None:
    """Killed between an outcome and the record of its hooks, only the hooks run again; a recorded decision stands."""
    golden, trace = await golden_run(GUARDED, url_in(tmp_path / "golden"))
    assert drift(trace, GUARDED_TURN) == []
    assert golden.turn.text == "Told 1 time."
    for number, point in enumerate(trace):
        if point.kind == "sql":
            continue  # each write has the same statements as in the other turns
        await ends_as_reviewed(GUARDED, url_in(tmp_path / str(number)), point, golden, GUARDED_TURN, GUARDED_DEEDS)


# The reference's list (group M): each of its operations, and a place of ours that is the same one, before or after it.
# It asks for the lease, the inputs and the head one by one, which is one call here; a lease is renewed beside the turn.
CATALOGUE = {
    "claim lease": "store begin_turn",
    "claim next inputs": "store begin_turn",
    "head read": "store load_session",
    "first request": "effect llm_call 2 of iteration 0",
    "first mid-stream": "reply 1",
    "tool batch": "store append_journal",
    "tool attempt": "effect tool_call `charge` (charge)",
    "checkpoint claim after work": "store append_journal (7)",
    "second request": "effect llm_call 6 of iteration 1",
    "second mid-stream": "reply 2",
    "checkpoint claim before completion": "store has_pending (4)",
    "final commit": "store commit",
}
SCENARIOS = {
    "renew lease": "test_crash_promises.test_a_process_that_dies_while_it_renews_its_lease_is_survived",
    "checkpoint executed but not finalised": "test_crash_promises.test_a_hook_that_injects_guidance_once_injects_once",
    "authority replaced then second crash": "test_crash_promises.test_whoever_goes_on_may_be_killed_too",
    "active input pinned": "test_crash_promises.test_a_queued_input_stays_with_the_turn_that_took_it",
    "peer re-claimed row left untouched": (
        "test_crash_processes.test_a_paused_first_owner_that_wakes_up_cannot_commit_over_its_successor"
    ),
}


@pytest.mark.parametrize("operation", CATALOGUE)
def test_every_operation_of_the_catalogue_is_a_place(operation: str) -> None:
    places = {place.partition(" ")[2] for place in reviewed()}
    assert CATALOGUE[operation] in places


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_of_the_catalogue_is_a_test(scenario: str) -> None:
    module, _, name = SCENARIOS[scenario].partition(".")
    assert f"async def {name}(" in Path(__file__).with_name(f"{module}.py").read_text()
