"""A bounded number of kills of the chaos run, and what its checker sees: `python -m bench.chaos` does any number."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("LASH_CHAOS_KILLS", "200"))
"""A kill costs a tenth of a second of one core."""

pytestmark = [
    pytest.mark.costly,
    pytest.mark.chaos,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked"),
]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that found nothing: one for all of xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "chaos"
    with (folder.with_suffix(".lock")).open("w") as lock:
        flock(lock, LOCK_EX)
        if not folder.exists():
            ran = python("-m", "bench.chaos", f"--kills={KILLS}", f"--dir={folder}")
            assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return folder


def found(folder: Path) -> dict[str, Any]:
    ran = python("bench/chaos_check.py", str(folder))
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def test_workers_that_are_killed_lose_nothing_and_pay_nothing_twice(folder: Path) -> None:
    result = found(folder)
    assert result["violations"] == []
    assert result["found"]["turns committed"]
    assert result["found"]["recorded outcomes seen after a kill"]


def test_workers_contend_for_a_session(folder: Path) -> None:
    """Turns of several are in it, by turns, and those who didn't wait were sent away."""
    result = found(folder)["found"]
    assert result["times that such a session was busy for who didn't wait"]
    db = sqlite3.connect(folder / "chaos.db")
    sql = "SELECT op_key FROM receipts JOIN sessions ON sessions.no = receipts.key >> 32 WHERE session_id = 'x.0'"
    turns = [turn for (turn,) in db.execute(f"{sql} ORDER BY receipts.key") if turn.startswith("x.0-")]
    db.close()
    slots = [turn.removeprefix("x.0-").partition(".")[0] for turn in turns]
    assert len(set(slots)) > 1
    assert sum(before != after for before, after in pairwise(slots)) > 1


def test_a_run_that_is_stopped_tells_of_what_it_did() -> None:
    command = [sys.executable, "-m", "bench.chaos", "--kills=1000000"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    assert any(" of 1000000 kills" in line for line in run.stderr)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate()
    assert "| **violations** | **0** |" in out, f"{out}\n{err}"


def test_the_checker_imports_nothing_of_what_it_checks() -> None:
    ran = python("-c", "import sys; sys.path.insert(0, 'bench'); import chaos_check; print(*sys.modules)")
    assert not [name for name in ran.stdout.split() if name.partition(".")[0].startswith(("lash", "orjson", "attr"))]


def damaged(sql: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        db = sqlite3.connect(folder / "chaos.db")
        assert db.execute(sql).rowcount > 0
        db.commit()
        db.close()

    return damage


def without_an_answered_turn(folder: Path) -> None:
    """The last turn of all may be one of which nobody was told any more, so one that was told of is taken away."""
    told = map(json.loads, (folder / "acks.jsonl").read_text().splitlines())
    turn_id = next(each["turn"] for each in told if each["event"] == "answered")
    damaged(f"DELETE FROM receipts WHERE scope = 'turn' AND op_key = '{turn_id}'")(folder)


def without_a_record(folder: Path) -> None:
    """A kill that finds less in the journal than the kill before did, although nothing was committed in between."""
    path = folder / "kills.jsonl"
    kills = [json.loads(each) for each in path.read_text().splitlines()]
    slots: dict[str, dict[str, Any]] = {}
    for kill in kills:
        before = slots.get(kill["slot"][0])
        if before and before["there"] and before["committed"] == kill["committed"]:
            kill["there"] = []
            break
        slots[kill["slot"][0]] = kill
    path.write_text("".join(f"{json.dumps(each)}\n" for each in kills))


def line(
    name: str, pick: Callable[[dict[str, Any]], bool], after_s: float = 1e9, **changes: Any
) -> Callable[[Path], None]:
    """Write a line of a log once more, as if it had happened again, so much later, or otherwise."""

    def damage(folder: Path) -> None:
        path = folder / name
        known = next(each for each in map(json.loads, path.read_text().splitlines()) if pick(each))
        with path.open("a") as file:
            file.write(json.dumps({**known, "at": known["at"] + after_s, **changes}) + "\n")

    return damage


LAST_TURN = "(SELECT max(key) FROM receipts)"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a lost turn": (without_an_answered_turn, "is lost"),
    "a lost record": (without_a_record, "the record of"),
    "another result": (
        damaged(f"UPDATE receipts SET result = replace(result, '\"input\":', '\"input\":1') WHERE key = {LAST_TURN}"),
        "the server reported",
    ),
    "a lost node": (damaged("DELETE FROM nodes WHERE key = (SELECT min(key) + 1 FROM nodes)"), "have gaps"),
    "a tool that ran again": (
        line("tools.jsonl", lambda each: each["event"] == "began" and each["tool"] == "unsafe"),
        "began 2 times",
    ),
    "a tool that its process ran twice": (
        line("tools.jsonl", lambda each: each["event"] == "began" and each["tool"] == "pure", after_s=1e-6),
        "while the process that ran it lived",
    ),
    "a model call that its process made twice": (
        line("server.jsonl", lambda each: "asker" in each, after_s=1e-6, call=1_000_000),
        "while who had asked lived",
    ),
    "an input that nobody answered": (
        line("acks.jsonl", lambda each: each["event"] == "answered", event="accepted", note="note lost"),
        "isn't answered",
    ),
    "usage of nobody": (damaged("UPDATE usage SET input = input + 1"), "its turns'"),
    "a lease that stays": (damaged("UPDATE sessions SET lease_token = 'x'"), "a lease was left"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_checker_sees(name: str, folder: Path, tmp_path: Path) -> None:
    damage, seen = DAMAGES[name]
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    assert any(seen in each for each in found(copy)["violations"])


def test_a_request_that_is_read_when_its_sender_is_dead_is_no_second_one(folder: Path, tmp_path: Path) -> None:
    """On a busy machine the server reads it late, and so notes it after the kill."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    deaths = {each["killed"]: each["died"] for each in map(json.loads, (copy / "kills.jsonl").read_text().splitlines())}
    server = [json.loads(each) for each in (copy / "server.jsonl").read_text().splitlines()]
    answered = {each["call"] for each in server if each["event"] == "answered"}
    late = [each for each in server if each["event"] == "asked" and each["call"] not in answered]
    assert late
    for each in late:
        each["at"] = max(each["at"], deaths[each["asker"]] + 1e-4)
    (copy / "server.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in server))
    assert found(copy)["violations"] == []


def test_the_readme_shows_the_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.chaos import PHASES, told

    result = json.loads((ROOT / "bench" / "chaos.json").read_text(encoding="utf-8"))
    readme = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    shown = "\n".join(told(result))
    assert f"<!-- chaos -->\n{shown}\n<!-- end of chaos -->" in readme
    assert result["violations"] == []
    assert result["kills"] >= 10_000
    assert all(result["hits"][phase] >= result["kills"] / 10 for phase in PHASES)
