"""Edits: what they make of a text, and what they say when they don't apply."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
from files_kit import world
from hypothesis import given, strategies as st

from lash_hookspecs import ToolError
from lash_plugin_tools_files.edits import edited

TEXT = """def area(width, height):
    return width * height


def volume(width, height, depth):
    return area(width, height) * depth
"""

# Name, text, old, new, replace_all, what comes of it.
APPLIES = [
    ("a line", TEXT, "return width * height", "return height * width", False, (2,)),
    ("several lines", TEXT, "height\n\n\ndef volume", "height\n\ndef volume", False, (2,)),
    ("deleting", TEXT, "\n\n\n", "\n", False, (2,)),
    ("everywhere", TEXT, "width", "w", True, (1, 2, 5, 6)),
    ("with more lines", "a\na\n", "a", "a\na", True, (1, 3)),
    ("without overlaps", "aaaa", "aa", "b", True, (1, 1)),
    ("Windows' line ends", "a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz", False, (1,)),
    ("several lines for one, among Windows' lines", "a\r\nb\r\nc\r\n", "a", "x\ny\r\nz", False, (1,)),
    ("a carriage return that is meant", "a\r\nb\n", "a\r\n", "a\n", False, (1,)),
    ("no ASCII", "Größe: π ≈ 3\n", "π ≈ 3", "π ≈ 3.14", False, (1,)),
]


@pytest.mark.parametrize(
    ("text", "old", "new", "everywhere", "lines"), [row[1:] for row in APPLIES], ids=[row[0] for row in APPLIES]
)
def test_it_applies(text: str, old: str, new: str, everywhere: bool, lines: tuple[int, ...]) -> None:
    made = edited("f", text, old, new, replace_all=everywhere)
    assert made.lines == lines
    if "\r\n" in text and "\r" not in old:
        assert made.text.startswith("x\r\ny\r\nz\r\n")
        assert made.text.count("\n") == made.text.count("\r\n")
    else:
        assert made.text == text.replace(old, new)


REFUSED = [
    ("nothing to look for", TEXT, "", "x", "edit_empty", "write_file"),
    ("nothing to change", TEXT, "area", "area", "edit_same", "nothing to change"),
    ("twice", TEXT, "return", "yield", "edit_ambiguous", "2 times, in lines 2, 6"),
    ("often", "x\n" * 20, "x", "y", "edit_ambiguous", "20 times, in lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"),
    (
        "another indentation",
        TEXT,
        "\treturn width * height",
        "x",
        "edit_not_found",
        "differs only in its white space from line 2:\n    return",
    ),
    (
        "other white space, over lines",
        TEXT,
        "def volume(width,height,depth):\n  return area(width, height)*depth",
        "x",
        "edit_not_found",
        "white space from lines 5–6",
    ),
    (
        "almost",
        TEXT,
        "return width + height",
        "x",
        "edit_not_found",
        "The nearest is line 2:\n    return width * height",
    ),
    (
        "almost, over lines",
        TEXT,
        "def volume(w, height, depth):\n    return 0",
        "x",
        "edit_not_found",
        "The nearest is lines 5–6:\ndef volume",
    ),
    ("nothing like it", TEXT, "import antigravity", "x", "edit_not_found", "neither is anything like it"),
    (
        "line numbers",
        TEXT,
        "1\tdef area(width, height):\n2\t    return width * height",
        "x",
        "edit_not_found",
        "leave out the line numbers",
    ),
    ("an empty file", "", "x", "y", "edit_not_found", "is not in `f`"),
]


@pytest.mark.parametrize(
    ("text", "old", "new", "code", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_it_says_why_it_does_not_apply(text: str, old: str, new: str, code: str, says: str) -> None:
    with pytest.raises(ToolError) as caught:
        edited("f", text, old, new)
    assert caught.value.code == code
    assert says in str(caught.value)


def test_what_is_like_nothing_is_not_looked_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lines of the same characters take a tenth of a second each: a thousand of them held up all edits."""
    counted = []

    class Counted(difflib.SequenceMatcher[str]):
        def ratio(self) -> float:
            counted.append(1)
            return super().ratio()

    monkeypatch.setattr(difflib, "SequenceMatcher", Counted)
    line = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))
    with pytest.raises(ToolError, match="neither is anything like it"):
        edited("f", f"{line}\n" * 1000, line[::-1], "y")
    assert len(counted) == 6


def test_an_edit_that_would_be_too_large_is_not_made() -> None:
    """The size was looked at once it had been made: a megabyte for each of a million letters was a terabyte."""
    with pytest.raises(ToolError, match="`f` would have 1,000,000,000,000 characters, and may have 10") as caught:
        edited("f", "a" * 10**6, "a", "b" * 10**6, replace_all=True, most=10)
    assert caught.value.code == "too_large"


@given(st.text("ab\n", max_size=30), st.text("ab\n", min_size=1, max_size=3), st.text("abc\n", max_size=4))
def test_all_edits_are_those_of_replace_and_name_their_lines(text: str, old: str, new: str) -> None:
    try:
        made = edited("f", text, old, new, replace_all=True)
    except ToolError:
        assert old == new or old not in text
        return
    assert made.text == text.replace(old, new)
    assert (made.times, len(made.lines)) == (text.count(old), min(text.count(old), 20))
    assert list(made.lines) == sorted(made.lines)
    assert not made.lines or made.lines[0] == text[: text.index(old)].count("\n") + 1


PREVIEWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a new file": ("write_file", {"path": "new.txt", "content": "a\nb\n"}, "make new.txt (lines: 2)"),
    "a whole file": (
        "write_file",
        {"path": "here.txt", "content": "there\n"},
        "--- here.txt\n+++ here.txt, then\n@@ -1 +1 @@\n-here\n+there",
    ),
    "the same": ("write_file", {"path": "here.txt", "content": "here\n"}, "write here.txt as it is"),
    "ends of lines": ("write_file", {"path": "here.txt", "content": "here"}, "change the ends of lines in here.txt"),
    "a long file": (
        "write_file",
        {"path": "here.txt", "content": "x\n" * 6000},
        "replace here.txt (lines: 1, then 6,000)",
    ),
    "an edit": (
        "edit_file",
        {"path": "sub/deep.txt", "old_string": "ee", "new_string": "i"},
        "--- sub/deep.txt\n+++ sub/deep.txt, then\n@@ -1 +1 @@\n-deep\n+dip",
    ),
    "an edit that fails": (
        "edit_file",
        {"path": "here.txt", "old_string": "x", "new_string": "y"},
        "fail, as things are: `old_string` is not in `here.txt`",
    ),
    "what is protected": ("write_file", {"path": ".git/x", "content": ""}, "fail, as things are: `.git/x` is not"),
    "outside": ("write_file", {"path": "../outside/secret.txt", "content": ""}, "fail, as things are: "),
    "behind a link": ("write_file", {"path": "link/secret.txt", "content": ""}, "fail, as things are: "),
}


async def test_what_an_edit_would_make_is_bounded_before_anybody_is_asked(tmp_path: Path) -> None:
    """It was made in memory, whatever its size, to be shown."""
    files = world(tmp_path)
    (files.root / "here.txt").write_text("a" * 2_000_000)
    args = {"path": "here.txt", "old_string": "a", "new_string": "b" * 100_000, "replace_all": True}
    assert (await files.tools["edit_file"].preview(args)).startswith("fail, as things are: `here.txt` would have")


@pytest.mark.parametrize("name", PREVIEWS)
async def test_a_change_says_what_it_would_do_and_does_nothing(name: str, tmp_path: Path) -> None:
    """For a person who is asked; nothing outside is read for that, either."""
    tool, args, says = PREVIEWS[name]
    files = world(tmp_path)
    (files.root / "link").symlink_to(files.outside)
    before = files.state_of_outside()
    said = await files.tools[tool].preview(args)
    assert said.startswith(says)
    assert "the-secret" not in said
    assert files.state_of_outside() == before
    assert (files.root / "here.txt").read_text() == "here\n"
    assert not (files.root / "new.txt").exists()
