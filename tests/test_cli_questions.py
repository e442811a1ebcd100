"""How a question is shown and answered: what arguments say is read, and nothing in them looks like what lash says."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given, strategies as st

from lash_framework.cli.asking import chosen, shown
from lash_framework.cli.questions import MOST_ROWS, wrapped
from lash_framework.pending import PendingCall
from lash_hookspecs.questions import ALLOW, DENY, PersonChoice, PersonQuestion

EDITS = PersonChoice(choice_id="edits", text="every call", allows=True)
WIDTH = 60


def asked(question: str = "May it?", /, **args: Any) -> PendingCall:
    made = PersonQuestion(
        key="k" * 64,
        call_key="c",
        plugin_id="approval",
        tool_name="edit",
        args=args,
        question=question,
        choices=(ALLOW, EDITS, DENY),
    )
    return PendingCall(
        key=made.key, session_id="s", turn_id="t", item=1, tool_name="edit", call_id="c", args=args, question=made
    )


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


END = """\
approval asks: May it?
  1  allow: allow this call
  2  edits: every call
  3  deny: don't"""

READABLE: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "  (no arguments)"),
    "plain": ({"path": "a b ", "n": 3, "on": True, "x": None}, '  path: "a b "\n  n: 3\n  on: true\n  x: null'),
    "lines": ({"content": "one\n\n\ttwo\n"}, "  content: 4 lines\n  │ one\n  │ \n  │ ⟨TAB⟩two\n  │ "),
    "edit": (
        {"path": "a", "old_string": "a\nb\nc", "new_string": "a\nB\nc"},
        '  path: "a"\n  old_string → new_string:\n  │   a\n  │ - b\n  │ + B\n  │   c',
    ),
    "edits of an MCP server": (
        {"edits": [{"oldText": "a", "newText": "b"}, {"oldText": "c", "newText": ""}]},
        "  edits.0.oldText → newText:\n  │ - a\n  │ + b\n  edits.1.oldText → newText:\n  │ - c\n  │ + ",
    ),
    "old without new": ({"old": "a", "new": 1}, '  old: "a"\n  new: 1'),
    "within": ({"of": {"a": ["x", "y"], "b": [{"c": 1}]}}, '  of.a: ["x", "y"]\n  of.b.0.c: 1'),
}


@pytest.mark.parametrize("name", READABLE)
def test_arguments_are_shown_so_that_they_can_be_read(name: str) -> None:
    args, expected = READABLE[name]
    assert shown(asked(**args)) == f"edit\n{expected}\n{END}"


FORGED = "approval asks: May `read_file` be called?\n  1  allow: allow this call"
PAINTED: dict[str, dict[str, Any]] = {
    "lines": {"content": f"x\n{FORGED}"},
    "lines that go back": {"content": f"x\r{FORGED}\r"},
    "a line that wraps": {"content": "x" * (WIDTH - 4) + FORGED},
    "a line of text that wraps": {"content": "x\n" + " " * (WIDTH - 4) + FORGED},
    "wide letters that wrap": {"content": "界" * (WIDTH // 2) + FORGED},
    "letters of either width": {"content": "α" * WIDTH + FORGED},
    "a colour, a title, a cursor": {"content": f"\x1b[31m\x1b]0;t\x07\x1b[2J\x1b[1;1H{FORGED}"},
    "one-byte controls": {"content": f"\x9b2J\x85{FORGED}"},
    "backspaces": {"content": "\b" * 80 + FORGED},
    "the other way round": {"content": f"\u202e{FORGED}"},
    "line separators": {"content": f"\u2028{FORGED}\u2029{FORGED}\x0b\x0c"},
    "marks upon marks": {"content": "a" + "\u0301" * 500},
    "what looks like blank": {"content": "\u2800\u3164\u115f\uffa0\u00a0\u2003"},
    "what can't be seen": {"content": "a\u200b\u2066\U000e0041\ufeff\u00ad"},
    "an argument's name": {f"x\n{FORGED}": "y"},
    "an argument's name in a list": {"of": [{f"x\n{FORGED}": "y"}]},
    "the names of an edit": {f"old\n{FORGED} → ": "a", f"new\n{FORGED} → ": "b"},
    "an edit": {"old_string": "a", "new_string": f"b\n{FORGED}"},
    "many lines": {"content": "\n" * 10_000 + FORGED},
    "a large edit": {"old": "x\n" * 5000, "new": f"{FORGED}\n" * 5000},
    "many arguments": {f"a{at}": FORGED for at in range(500)},
}


@pytest.mark.parametrize("name", PAINTED)
def test_no_argument_paints_over_the_question(name: str) -> None:
    """The question is last, as it is; each row above is an argument's, is marked so, and fits the terminal."""
    rows = shown(asked(**PAINTED[name]))
    above = rows.removesuffix(f"\n{END}").split("\n")
    assert rows.endswith(f"\n{END}")
    assert above[0] == "edit"
    assert len(above) <= MOST_ROWS + 1
    for row in above[1:]:
        if not row.startswith("… "):
            assert row.startswith("  "), row
            assert not row.startswith(("  1  ", "  2  ", "  3  ")), row
            assert sum(2 if unicodedata.east_asian_width(each) in "WFA" else 1 for each in row) <= WIDTH + row.count(
                "│"
            )
        assert row.isprintable()
        assert not set(row) & set("\u2800\u3164\u115f\uffa0")
        assert "\u0301" * 4 not in row
    whole = shown(asked(**PAINTED[name]), whole=True)
    assert "rows are not shown" not in whole


def test_what_a_tool_says_that_it_would_do_stands_between_the_call_and_the_question() -> None:
    call = asked(n=1)
    assert call.question is not None
    rows = shown(evolve(call, question=evolve(call.question, preview=f"-a\n+{FORGED}\x1b[2J")))
    said = "edit says that it would do this:\n  ┊ -a\n  ┊ +approval asks: May `read_file` be called?"
    assert rows.startswith(f"edit\n  n: 1\n{said}\n  ┊   1  allow: allow this call⟨U+001B⟩[2J\napproval asks: May it?")


def test_what_a_tool_said_that_waits_is_shown_too() -> None:
    waits = evolve(asked(n=1), question=None, deferred=True, said={"size": "XL\n1  allow"})
    assert shown(waits) == "edit\n  n: 1\nedit says:\n  said.size: 2 lines\n  │ XL\n  │ 1  allow"


def test_a_question_of_several_lines_looks_like_no_choice() -> None:
    assert "\n    1  allow" in shown(asked("May it?\n1  allow: all"))


def columns(text: str) -> int:
    """At most: some terminals give two to what is of no certain width."""
    return sum(2 if unicodedata.east_asian_width(each) in "WFA" else 1 for each in text)


@given(
    text=st.text(st.sampled_from("ab  é界│\n\t\u202e"), max_size=200),
    width=st.integers(12, 50),
    first=st.sampled_from(["", "  ", "  │ "]),
    rest=st.sampled_from(["", "    ", "  │ "]),
    by_words=st.booleans(),
)
@example(text="a " + "x" * 90, width=80, first="", rest="    ", by_words=True)
def test_no_row_is_wider_than_the_terminal_and_nothing_is_lost(
    text: str, width: int, first: str, rest: str, by_words: bool
) -> None:
    """A row that the terminal wraps goes on without the mark, where it may look like what lash says."""
    rows = list(wrapped(text, width, first, rest, by_words=by_words))
    assert max(map(columns, rows)) <= width
    whole = "".join(rows[:1]).removeprefix(first) + "".join(row[len(rest) :] for row in rows[1:])
    assert all(row.startswith(rest) for row in rows[1:])
    expected = text.replace("\n", "").replace("\t", "⟨TAB⟩").replace("\u202e", "⟨U+202E⟩")
    if by_words:
        whole, expected = whole.replace(" ", ""), expected.replace(" ", "")
    assert whole == expected


def test_a_long_question_is_wrapped_between_words() -> None:
    """Words were parted in the middle: "kept in your u", "ser folder". A word that fills a row still is."""
    said = "May `shell` of plugin `tools-shell` be called? Rule `default` asks, as no other one says anything of it."
    rows = shown(asked(said, n=1)).split("\n")
    asks = rows[2:-3]
    assert " ".join(each.strip() for each in asks) == f"approval asks: {said}"
    assert all(len(each) <= WIDTH for each in asks)
    assert all(each.startswith("    ") and not each.startswith("     ") for each in asks[1:])
    filled = shown(asked("x" * 200, n=1)).split("\n")[2:-3]
    assert "".join(each.strip() for each in filled) == "approval asks:" + "x" * 200
    assert all(len(each) <= WIDTH for each in filled)


@pytest.mark.parametrize(("line", "found"), [
    ("1", ("allow", "")),
    ("allow", ("allow", "")),
    ("al", ("allow", "")),
    ("allow  it is fine ", ("allow", "it is fine")),
    ("e", ("edits", "")),
    ("3 not that one", ("deny", "not that one")),
    ("d not that one", ("deny", "not that one")),
    ("a test first", None),
    ("1 more thing", None),
    ("edit the file first", None),
    ("0", None),
    ("4", None),
    ("¹", None),
    ("yes", None),
    ("Allow", None),
])  # fmt: skip
def test_who_allows_something_says_nothing_else_or_writes_it_out(line: str, found: Any) -> None:
    """A line that was meant for the model is no answer because it begins with an `a`."""
    assert chosen(asked(), line) == found
