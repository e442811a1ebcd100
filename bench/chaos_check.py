"""The checker of the chaos run: `python bench/chaos_check.py FOLDER` prints what it found as JSON.

It imports nothing of lash: it reads the database with sqlite3, the nodes' JSON, and four logs. The server's has every
call that was asked and answered, the tools' what began and was done, the workers' what they were told is committed or
accepted, the killer's what the database held of a worker's open turns after each kill.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

CALL = re.compile(r"call (\d+):")
UNKNOWN = "it may or may not have happened"
LATE_S = 5.0
"""So much later than it was sent the server may read a request; so soon no process's number comes again."""


def lines(path: Path) -> list[dict[str, Any]]:
    """A log; its last line may be half written."""
    if not path.exists():
        return []
    return [json.loads(each) for each in path.read_bytes().split(b"\n")[:-1]]


class Logs:
    """What everybody but the database says, by what it is about."""

    def __init__(self, folder: Path) -> None:
        self.tools = lines(folder / "tools.jsonl")
        self.acks = lines(folder / "acks.jsonl")
        self.kills = lines(folder / "kills.jsonl")
        self.asked: dict[int, dict[str, Any]] = {}
        self.answered: dict[int, dict[str, Any]] = {}
        for each in lines(folder / "server.jsonl"):
            if "path" in each or (each["call"] not in self.asked and each["event"] == "answered"):
                continue  # somebody warmed up
            (self.asked if each["event"] == "asked" else self.answered)[each["call"]] = each
        self.at_position: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        for each in self.asked.values():
            self.at_position[each["turn"], each["step"]].append(each)
        self.began: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.done: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for each in self.tools:
            (self.began if each["event"] == "began" else self.done)[each["x"]].append(each)
        self._deaths: dict[int, list[float]] = defaultdict(list)
        for each in self.kills:
            self._deaths[each["killed"]].append(each["died"])

    def death(self, pid: int, at: float) -> float:
        """When the process died that had this number at that time: the system gives numbers out again."""
        return min((each for each in self._deaths[pid] if each > at), default=float("inf"))

    def died(self, asked: Mapping[str, Any], before: float) -> bool:
        """Whether who asked for something died by then: perhaps before the server came to read what was asked."""
        return any(asked["at"] - LATE_S < each < before for each in self._deaths[asked["asker"]])

    def was_late(self, asked: Mapping[str, Any]) -> bool:
        """Whether who asked for something was dead when the server came to read it."""
        return "asker" in asked and self.died(asked, asked["at"])


class Turn:
    """A committed turn with its messages."""

    def __init__(self, session: str, row: Sequence[Any], messages: list[dict[str, Any]]) -> None:
        _, self.turn_id, self.intent, self.first, self.count, result = row
        self.session = session
        self.result = json.loads(result)
        self.messages = messages

    @property
    def name(self) -> str:
        """For people."""
        return f"session {self.session}, turn {self.turn_id}"


class Database:
    """The database, read with sqlite3."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.sessions: dict[str, int] = dict(self.db.execute("SELECT session_id, no FROM sessions ORDER BY no"))

    def nodes(self, no: int) -> list[tuple[Any, ...]]:
        """A session's nodes, in order."""
        sql = "SELECT key & 0xffffffff, node_id, parent, kind, body FROM nodes WHERE key >> 32 = ? ORDER BY key"
        return self.db.execute(sql, (no,)).fetchall()

    def receipts(self, no: int) -> list[tuple[Any, ...]]:
        """A session's receipts, in order."""
        sql = (
            "SELECT key & 0xffffffff, op_key, hex(intent_hash), first_generation, node_count, result FROM receipts "
            "WHERE key >> 32 = ? ORDER BY key"
        )
        return self.db.execute(sql, (no,)).fetchall()


def check(folder: Path) -> tuple[dict[str, int], list[str]]:
    """What was found, in numbers, and what is wrong."""
    logs, database = Logs(folder), Database(folder / "chaos.db")
    wrong: list[str] = []
    turns: dict[tuple[str, str], Turn] = {}
    heard: dict[str, Counter[str]] = {}
    for session, no in database.sessions.items():
        wrong += _graph(database, session, no)
        found = _turns(database, session, no)
        for turn in found:
            if (session, turn.turn_id) in turns:
                wrong.append(f"{turn.name}: committed twice")
            turns[session, turn.turn_id] = turn
            wrong += _messages(turn, logs)
            wrong += _usage(turn, logs)
        wrong += _totals(database, session, no, found)
        said = (
            _text(each) for turn in found for each in turn.messages if each["role"] == "user" and not _results(each)
        )
        heard[session] = Counter(each for each in said if each)
    wrong += _integrity(database)
    wrong += _kept(turns, logs)
    wrong += _inputs(database, turns, heard, logs)
    wrong += _not_again(logs)
    wrong += _tools(logs)
    wrong += [
        f"session {each['session']}, turn {each['turn']} was blocked: {each['why']}"
        for each in logs.acks
        if each["event"] == "blocked" and "its process died" not in each["why"]
    ]
    return _numbers(database, turns, logs), wrong


# ---- the graph ------------------------------------------------------------------------------------------------------


def _graph(database: Database, session: str, no: int) -> Iterator[str]:
    """Nodes are one path without gaps, and receipts cover them, in order, each once."""
    nodes, receipts = database.nodes(no), database.receipts(no)
    if [each[0] for each in nodes] != list(range(len(nodes))):
        yield f"session {session}: the nodes' generations have gaps: {[each[0] for each in nodes]}"
    for before, after in pairwise(nodes):
        if after[2] != before[1]:
            yield f"session {session}, node {after[0]}: its parent isn't the node before it"
    if nodes and (nodes[0][3] != "frame_open" or nodes[0][2] is not None):
        yield f"session {session}: its first node is {nodes[0][3]}"
    place = 0
    for number, (revision, turn, _, first, count, _) in enumerate(receipts, 1):
        if revision != number or first != place:
            due = f"revision {number} with nodes from {place} is due"
            yield f"session {session}, turn {turn}: revision {revision} with nodes from {first}; {due}"
        place += count
    if place != len(nodes):
        yield f"session {session}: {len(nodes)} nodes, {place} of them in receipts"
    revision, leaf = database.db.execute("SELECT head_revision, leaf FROM sessions WHERE no = ?", (no,)).fetchone()
    if revision != len(receipts) or leaf != (nodes[-1][1] if nodes else None):
        yield f"session {session}: its head is at revision {revision}, and it has {len(receipts)} receipts"


def _turns(database: Database, session: str, no: int) -> list[Turn]:
    bodies = [(kind, json.loads(body)) for _, _, _, kind, body in database.nodes(no)]
    return [
        Turn(session, row, [body for kind, body in bodies[row[3] : row[3] + row[4]] if kind == "message"])
        for row in database.receipts(no)
    ]


def _integrity(database: Database) -> Iterator[str]:
    """Nothing is left open, nothing is left behind, and SQLite finds its file sound."""
    found = [each for (each,) in database.db.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        yield f"integrity_check: {found}"
    for row in database.db.execute("SELECT * FROM journal LIMIT 20"):
        yield f"a row of the journal was left behind: {row}"
    for row in database.db.execute("SELECT * FROM inbox WHERE settled_at_ms IS NULL LIMIT 20"):
        yield f"an item of the inbox was left open: {row}"
    for row in database.db.execute(
        "SELECT session_id, lease_holder FROM sessions WHERE lease_token IS NOT NULL LIMIT 20"
    ):
        yield f"a lease was left: {row}"


# ---- messages -------------------------------------------------------------------------------------------------------


def _text(message: Mapping[str, Any]) -> str:
    return "".join(each["content"] for each in message["parts"] if each["kind"] in ("text", "prose"))


def _calls(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in message["parts"] if each["kind"] == "tool_call"]


def _results(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in message["parts"] if each["kind"] == "tool_result"]


def _expected(call: Mapping[str, Any]) -> tuple[str, str, str]:
    return call["tool_call_id"], json.loads(call["content"])["x"], call["tool_name"]


def _messages(turn: Turn, logs: Logs) -> Iterator[str]:
    """The turn is what its `do` asked for, step by step, each call with its one result, and nothing else."""
    if turn.result["outcome"]["type"] != "finished" or not turn.result["durable"]:
        yield f"{turn.name}: ended as {turn.result['outcome']}, durable {turn.result['durable']}"
    first, *rest = turn.messages or [{"role": "nobody", "parts": []}]
    asked = _text(first)
    if first["role"] != "user" or not asked.startswith(("do ", "note ")):
        yield f"{turn.name}: begins with {first}"
        return
    plan = asked.split(" ")[2].split(",") if asked.startswith("do ") and not asked.endswith(" -") else []
    step, waits = 0, False
    expected: list[tuple[str, str, str]] = []
    for message in rest:
        if message["role"] == "assistant":
            said = CALL.match(_text(message))
            letters = plan[step] if step < len(plan) else ""
            expected = [_expected(each) for each in _calls(message)]
            xs = [x for _, x, _ in expected]
            if said is None or waits or xs != [f"{asked.split(' ')[1]}.{step}.{n}" for n in range(len(letters))]:
                yield f"{turn.name}, step {step} of {plan}: the model's reply is {message}"
            waits, step = bool(xs), step + 1
            expected = [
                (each["tool_call_id"], json.loads(each["content"])["x"], each["tool_name"]) for each in _calls(message)
            ]
        elif _results(message):
            got = [(each["tool_call_id"], each["tool_name"]) for each in _results(message)]
            if not waits or got != [(id, name) for id, _, name in expected]:
                yield f"{turn.name}, step {step}: asked for {expected}, got {got}"
            waits = False
            for part, (_, x, name) in zip(_results(message), expected, strict=False):
                yield from _result(turn, x, name, part["content"], logs)
        elif not _text(message).startswith("note "):
            yield f"{turn.name}: somebody said {message}"
    if waits or step <= len(plan) - (not plan) or (rest and rest[-1]["role"] != "assistant"):
        yield f"{turn.name}: ended after step {step} of {plan}, with {turn.messages[-1]}"


def _result(turn: Turn, x: str, name: str, content: str, logs: Logs) -> Iterator[str]:
    """A result is what the tool did; unknown only if it began and its process died."""
    done = logs.done[x]
    if content == f"{name} did {x}":
        if not done:
            yield f"{turn.name}: the result of {x} says it was done, and the tools' log doesn't"
        return
    if name == "waiting" and "it did not happen" in content:
        if done:
            yield f"{turn.name}: {x} happened, and its result says that it didn't: {done}"
    elif name == "unsafe" and UNKNOWN in content:
        if not any(logs.death(each["pid"], each["at"]) < float("inf") for each in logs.began[x]) and logs.began[x]:
            yield f"{turn.name}: {x} is unknown, and nobody died in it: {logs.began[x]}"
    else:
        yield f"{turn.name}: the result of {x} is {content!r}"


# ---- usage ----------------------------------------------------------------------------------------------------------


def _paid(turn: Turn) -> list[int]:
    found = (CALL.match(_text(each)) for each in turn.messages if each["role"] == "assistant")
    return [int(each[1]) for each in found if each]


def _usage(turn: Turn, logs: Logs) -> Iterator[str]:
    """The turn's usage is the server's for the calls in its history; other calls for it make it an `at least`."""
    paid, usage = _paid(turn), turn.result["token_usage"]
    missing = [each for each in paid if each not in logs.answered]
    if missing or len(set(paid)) != len(paid):
        yield f"{turn.name}: holds the replies of calls {paid}, of which {missing} were never answered to their end"
        return
    for mine, theirs in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        reported = sum(logs.answered[each]["usage"][theirs] for each in paid)
        if usage[mine] != reported:
            yield f"{turn.name}: {mine} {usage[mine]}, and the server reported {reported} for calls {paid}"
    positions = {(logs.asked[each]["turn"], logs.asked[each]["step"]) for each in paid}
    lost = {each["call"] for at in positions for each in logs.at_position[at]} - set(paid)
    if any(each in logs.answered for each in lost) and not usage.get("at_least"):
        yield f"{turn.name}: calls {sorted(lost)} were answered for it too, and its usage isn't an `at least`"


def _totals(database: Database, session: str, no: int, turns: Sequence[Turn]) -> Iterator[str]:
    sql = "SELECT coalesce(sum(input), 0), coalesce(sum(output), 0) FROM usage WHERE session_no = ?"
    total = database.db.execute(sql, (no,)).fetchone()
    summed = tuple(sum(each.result["token_usage"][name] for each in turns) for name in ("input", "output"))
    if total != summed:
        yield f"session {session}: its usage is {total}, its turns' {summed}"


# ---- what was promised ----------------------------------------------------------------------------------------------


def _kept(turns: Mapping[tuple[str, str], Turn], logs: Logs) -> Iterator[str]:
    """What a worker was told is committed, and what the killer saw committed, is there."""
    for each in logs.acks:
        if each["event"] == "answered":
            turn = turns.get((each["session"], each["turn"]))
            if turn is None or _text(turn.messages[-1]) != each["text"]:
                yield f"session {each['session']}, turn {each['turn']}: was answered with {each['text']!r}, and is lost"
        elif each["event"] == "recovered" and (each["session"], each["turn"]) not in turns:
            yield f"session {each['session']}, turn {each['turn']}: was recovered, and is lost"
    for kill in logs.kills:
        for session, turn_id, intent in kill["committed"]:
            found = turns.get((session, turn_id))
            if found is None or found.intent != intent:
                yield f"kill {kill['kill']}: session {session}, turn {turn_id} was committed, and is lost or another"


def _inputs(
    database: Database, turns: Mapping[tuple[str, str], Turn], heard: Mapping[str, Counter[str]], logs: Logs
) -> Iterator[str]:
    """Every input that was accepted is in the history once."""
    for session, texts in heard.items():
        for text, times in texts.items():
            if times > 1:
                yield f"session {session}: {text!r} was answered {times} times"
    for each in logs.acks:
        if each["event"] == "accepted" and heard[each["session"]][each["note"]] != 1:
            yield f"session {each['session']}: {each['note']!r} was accepted, and isn't answered"
    for kill in logs.kills:
        for session, no, source_key, turn_id, state in kill["open"]:
            is_note = source_key.startswith("note ")
            if heard[session][source_key] != 1 if is_note else (session, turn_id) not in turns:
                yield f"kill {kill['kill']}: session {session}, item {no} `{source_key}` ({state}) isn't answered"
    for session, source_key, state, turn_id in database.db.execute(
        "SELECT session_id, source_key, state, turn_id FROM inbox JOIN sessions ON sessions.no = session_no"
    ):
        if state != "completed" or (session, turn_id) not in turns:
            yield f"session {session}, item `{source_key}`: {state}, by turn {turn_id}, which isn't committed"


def _not_again(logs: Logs) -> Iterator[str]:
    """An effect whose outcome was in the journal when a worker was dead is never asked for afterwards.

    And the outcome stays there until its turn is committed.
    """
    calls = {each["call"]: (each["turn"], each["step"]) for each in logs.asked.values()}
    recorded: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for kill in logs.kills:
        there = set(kill["there"])
        committed = {(session, turn_id) for session, turn_id, _ in kill["committed"]}
        sessions = set(kill["slot"])
        for session, turn_id in [each for each in recorded if each[0] in sessions]:
            if (session, turn_id) in committed:
                del recorded[session, turn_id]
                continue
            for key, label in recorded[session, turn_id].items():
                if key not in there:
                    yield f"kill {kill['kill']}: session {session}, turn {turn_id}: the record of {label} is lost"
        for key, session, turn_id, kind, label, body in kill["rows"]:
            recorded[session, turn_id][key] = label
            again: list[dict[str, Any]] = []
            if kind == "llm_call" and (said := CALL.search(body)):
                again = logs.at_position[calls[int(said[1])]]
            elif kind == "tool_call":
                for x in set(re.findall(r'"x":"([^"]+)"', body)):
                    again += logs.began[x]
            late = [each for each in again if each["at"] > kill["at"] and not logs.was_late(each)]
            if late:
                where = f"kill {kill['kill']}: session {session}, turn {turn_id}"
                yield f"{where}: {label} was recorded, and ran again: {late}"


def _tools(logs: Logs) -> Iterator[str]:
    """Unsafe tools begin once; the others again only after their process died, with the same key."""
    for x, began in logs.began.items():
        if len(began) > 1 and began[0]["tool"] in ("unsafe", "waiting"):
            yield f"{began[0]['tool']} tool {x} began {len(began)} times: {began}"
        if len({each["key"] for each in began}) > 1:
            yield f"tool {x} was given several keys: {began}"
        for before, after in pairwise(began):
            if not logs.death(before["pid"], before["at"]) < after["at"]:
                yield f"tool {x} began again while the process that ran it lived: {before}, {after}"
    for (turn, step), asked in logs.at_position.items():
        for before, after in pairwise(asked):
            if not logs.died(before, after["at"]) and not logs.was_late(after):
                yield f"turn {turn}, step {step} was asked again while who had asked lived: {before}, {after}"


# ---- in numbers -----------------------------------------------------------------------------------------------------


def _numbers(database: Database, turns: Mapping[tuple[str, str], Turn], logs: Logs) -> dict[str, int]:
    paid = {call for turn in turns.values() for call in _paid(turn)}
    messages = [each for turn in turns.values() for each in turn.messages]
    results = [part["content"] for each in messages for part in _results(each)]
    events = Counter(each["event"] for each in logs.acks)
    return {
        "sessions": len(database.sessions),
        "turns committed": len(turns),
        "of them gone on with after a kill": events["recovered"],
        "of them in sessions that all workers wanted": sum(session.startswith("x.") for session, _ in turns),
        "times that such a session was busy for who didn't wait": events["busy"],
        "inputs said while a turn ran": sum(
            _text(each).startswith("note ") for t in turns.values() for each in t.messages
        ),
        "model calls in the history": len(paid),
        "model calls answered for a worker that died before the record": len(logs.answered.keys() - paid),
        "model calls cut off": len(logs.asked.keys() - logs.answered.keys()),
        "tools that ran": sum(map(len, logs.began.values())),
        "tools that ran again (pure, idempotent)": sum(len(each) - 1 for each in logs.began.values()),
        "unsafe calls left unknown": sum(UNKNOWN in each for each in results),
        "unsafe calls that a person decided on": events["resolved"],
        "recorded outcomes seen after a kill": sum(len(each["rows"]) for each in logs.kills),
        "turns that died three times without progress": events["blocked"],
        "bytes of the database": _size(database),
    }


def _size(database: Database) -> int:
    (pages,), (size,) = (database.db.execute(f"PRAGMA {each}").fetchone() for each in ("page_count", "page_size"))
    return int(pages * size)


if __name__ == "__main__":
    numbers, violations = check(Path(sys.argv[1]))
    print(json.dumps({"found": numbers, "violations": violations}))
