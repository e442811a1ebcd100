"""What the contract has for plugins to use: checks of options, conversations as text, the ends of programs."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from attrs import field, make_class

from lash_hookspecs import (
    Message,
    MessageRole,
    Part,
    PartKind,
    end_leftovers,
    leftovers,
    processes_below,
    text_message,
)
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.option_checks import OptionCheck, above, at_least, between
from lash_hookspecs.texts import without_controls
from lash_hookspecs.transcripts import cut_in_the_middle, estimated_tokens, message_as_text


@pytest.mark.parametrize(
    ("check", "fits", "doesnt", "wanted"),
    [
        (above(0), [0.1, 1, math.inf, None], [0, -1, math.nan], "use a number above 0"),
        (at_least(1), [1, 1.5, None], [0, 0.99, math.nan], "use a number of at least 1"),
        (between(0, 1), [0, 0.5, 1, None], [-0.1, 1.1, math.nan], "use a number from 0 to 1"),
        (between(1, 2**30), [1, 2**30], [0], "use a number from 1 to 1073741824"),
    ],
    ids=["above", "at least", "between", "a large limit"],
)
def test_an_option_that_doesnt_fit_is_refused_with_what_would(
    check: OptionCheck, fits: list[Any], doesnt: list[Any], wanted: str
) -> None:
    options = make_class("Options", {"size": field(validator=check)})
    for value in fits:
        assert options(value).size == value
    for value in doesnt:
        with pytest.raises(ValueError, match=f"`size` is {value}: {wanted}"):
            options(value)


def test_a_message_as_text_has_no_reasoning_and_long_parts_are_cut_in_the_middle() -> None:
    parts = (
        Part(id="0", kind=PartKind.REASONING, content="hm"),
        Part(id="1", kind=PartKind.PROSE, content="I look."),
        Part(id="2", kind=PartKind.TOOL_CALL, content='{"a": 1}', tool_name="look"),
    )
    result = Part(id="3", kind=PartKind.TOOL_RESULT, content="a" * 50 + "z" * 50, tool_name="look")
    picture = Part(id="4", kind=PartKind.IMAGE, content="", attachment=AttachmentRef("sha256:x", "image/png", 9))
    message = Message(id="m", role=MessageRole.ASSISTANT, parts=parts)
    assert message_as_text(message, 30) == 'assistant:\nI look.\n(calls look with {"a": 1})'
    seen = Message(id="r", role=MessageRole.USER, parts=(result, picture))
    cut = f"{'a' * 20} […70 characters…] {'z' * 10}"
    assert message_as_text(seen, 30) == f"user:\n(result of look: {cut})\n(an attachment: image/png)"
    assert message_as_text(Message(id="e", role=MessageRole.ASSISTANT, parts=parts[:1]), 30) == ""
    assert cut_in_the_middle("abc", 3) == "abc"
    assert estimated_tokens(seen) == 1_026


def test_tokens_are_estimated_once() -> None:
    message = text_message("a", MessageRole.USER, "x" * 36)
    assert estimated_tokens(message) == 10
    assert 10 in message.memo.values()


def test_controls_go_and_lines_stay() -> None:
    assert without_controls("a\tb\r\nc\x1b[31m\x00\x07\u009bd\n") == "a\tb\nc[31md\n"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("has_pidfd", [True, False], ids=["", "without pidfd"])
def test_what_a_program_left_is_found_by_session_environment_and_parents_and_nobody_else_is(
    has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some builds of Python, conda's among them, have no `os.pidfd_open`: there nothing was ended."""
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    sleep = [sys.executable, "-S", "-c", "import time; print(flush=True); time.sleep(600)"]
    lives: dict[str, Any] = {"stdout": subprocess.PIPE, "start_new_session": True}
    bystander = subprocess.Popen(sleep, **lives)
    marked = subprocess.Popen(sleep, env={**os.environ, "LASH_TEST_LEFT": "x1"}, **lives)
    leader = subprocess.Popen(sleep, **lives)
    known = subprocess.Popen(sleep, **lives)
    started = (bystander, marked, leader, known)
    try:
        for each in started:
            each.stdout.readline()
        below = {each.pid: each for each in processes_below(os.getpid())}
        assert {each.pid for each in started} <= set(below)
        assert end_leftovers("LASH_TEST_LEFT", "x1", session=leader.pid, known=[below[known.pid]]) >= 2
        assert [each.wait(10) for each in started[1:]] == [-9, -9, -9]
        assert end_leftovers("LASH_TEST_LEFT", "x1") == 0
        assert bystander.poll() is None
    finally:
        for each in started:
            each.kill()
            each.wait()
            each.stdout.close()


@pytest.mark.parametrize(
    ("looks", "patience_s", "looked"),
    [({7: 1, 8: 4}, 60.0, {7: 1, 8: 4}), ({7: math.inf, 8: 1}, 0.0, {7: 1})],
    ids=["one ends later", "one doesn't end"],
)
def test_all_that_was_killed_is_waited_for_until_the_time_is_over(
    looks: dict[int, float], patience_s: float, looked: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one that ended counted for another: so the next look found that one alive, and killed it again."""
    seen = dict.fromkeys(looks, 0)

    def runs(one: leftovers.Leftover) -> bool:
        seen[one.pid] += 1
        return seen[one.pid] < looks[one.pid]

    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *given: killed.append(given))
    monkeypatch.setattr(leftovers, "_runs", runs)
    monkeypatch.setattr(leftovers, "_PATIENCE_S", patience_s)
    leftovers._kill([leftovers.Leftover(pid, 0) for pid in looks])
    assert killed == [(7, signal.SIGKILL), (8, signal.SIGKILL)]
    assert all(seen[pid] >= least for pid, least in looked.items())
