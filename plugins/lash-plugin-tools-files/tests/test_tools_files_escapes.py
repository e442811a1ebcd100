"""Ways out of the folder, each a row. Whatever is said, nothing of outside is told, and nothing there changes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from files_kit import RG, SECRET, World, swapping, world

from lash_plugin_tools_files import searching

Make = Callable[[World], Any]


def nothing(_: World) -> None:
    """The folders are as they are."""


def link(name: str, target: str) -> Make:
    def make(at: World) -> None:
        (at.root / name).symlink_to(target.format(outside=at.outside, root=at.root))

    return make


def hard(name: str) -> Make:
    return lambda at: os.link(at.outside / "secret.txt", at.root / name)


def fifo(at: World) -> None:
    os.mkfifo(at.root / "pipe")


def unix_socket(at: World) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as made:
        before = Path.cwd()
        os.chdir(at.root)  # a socket's name may have only a hundred characters
        try:
            made.bind("sock")
        finally:
            os.chdir(before)


def loop(at: World) -> None:
    (at.root / "one").symlink_to("two")
    (at.root / "two").symlink_to("one")


def chain(at: World) -> None:
    (at.root / "first").symlink_to("second")
    (at.root / "second").symlink_to(at.outside)


def ignore_link(at: World) -> None:
    (at.root / ".gitignore").symlink_to(at.outside / "secret.txt")


def setuid(at: World) -> None:
    (at.root / "here.txt").chmod(0o6755)


READ, WRITE, EDIT = "read_file", "write_file", "edit_file"

# Name, what is there, the tool, its arguments, and the code of its refusal; None: it does something harmless.
ROWS: list[tuple[str, Make, str, dict[str, Any], str | None]] = [
    ("dots", nothing, READ, {"path": "../outside/secret.txt"}, "outside_root"),
    ("dots in the middle", nothing, READ, {"path": "sub/../../outside/secret.txt"}, "outside_root"),
    ("dots behind what isn't there", nothing, READ, {"path": "no/no/../../../outside/secret.txt"}, "outside_root"),
    ("dots and slashes", nothing, READ, {"path": ".//..///outside/./secret.txt"}, "outside_root"),
    ("dots up to the top", nothing, READ, {"path": "../" * 50 + "etc/passwd"}, "outside_root"),
    ("dots behind the absolute root", nothing, READ, {"path": "{root}/../outside/secret.txt"}, "outside_root"),
    ("dots that come back", nothing, READ, {"path": "../root/here.txt"}, None),
    ("the folder above", nothing, "glob", {"pattern": "*", "path": ".."}, "outside_root"),
    ("absolute", nothing, READ, {"path": "{outside}/secret.txt"}, "outside_root"),
    ("absolute with two slashes", nothing, READ, {"path": "//{outside}/secret.txt"}, "outside_root"),
    ("a neighbour whose name begins the same", nothing, READ, {"path": "{root}2/secret.txt"}, "outside_root"),
    ("the system's root by /proc", nothing, READ, {"path": "/proc/self/root/etc/passwd"}, "outside_root"),
    ("an open folder by /proc", nothing, READ, {"path": "/proc/self/cwd"}, "outside_root"),
    ("standard input", nothing, READ, {"path": "/dev/stdin"}, "outside_root"),
    ("somebody's home", nothing, READ, {"path": "~/secret.txt"}, "not_found"),
    ("a URL", nothing, READ, {"path": "file://{outside}/secret.txt"}, "not_found"),
    ("percent signs", nothing, READ, {"path": "%2e%2e/outside/secret.txt"}, "not_found"),
    ("backslashes", nothing, READ, {"path": "..\\outside\\secret.txt"}, "not_found"),
    ("wide dots", nothing, READ, {"path": "．．/outside/secret.txt"}, "not_found"),
    ("an ellipsis", nothing, READ, {"path": "…/outside/secret.txt"}, "not_found"),
    ("dots with a space", nothing, READ, {"path": ".. /outside/secret.txt"}, "not_found"),
    ("a NUL", nothing, READ, {"path": "here.txt\0/../../outside/secret.txt"}, "invalid_path"),
    ("half a character", nothing, READ, {"path": "\udcff\ud800"}, "invalid_path"),
    ("a very long name", nothing, READ, {"path": "a" * 300}, "invalid_path"),
    ("a very long path", nothing, WRITE, {"path": "a/" * 3000 + "b", "content": ""}, "invalid_path"),
    ("a link to a file", link("l", "{outside}/secret.txt"), READ, {"path": "l"}, "symbolic_link"),
    ("a link to a folder", link("l", "{outside}"), READ, {"path": "l/secret.txt"}, "symbolic_link"),
    ("a link by dots", link("sub/l", "../../outside"), READ, {"path": "sub/l/secret.txt"}, "symbolic_link"),
    ("dots behind a link", link("l", "{outside}/folder"), READ, {"path": "l/../secret.txt"}, "not_found"),
    ("a chain of links", chain, READ, {"path": "first/secret.txt"}, "symbolic_link"),
    ("a loop of links", loop, READ, {"path": "one/x"}, "symbolic_link"),
    ("a link to /proc", link("l", "/proc/self/root"), READ, {"path": "l/etc/passwd"}, "symbolic_link"),
    ("a link that stays inside", link("l", "{root}/sub"), READ, {"path": "l/deep.txt"}, "symbolic_link"),
    ("listing a link", link("l", "{outside}"), "glob", {"pattern": "**/*", "path": "l"}, "symbolic_link"),
    ("listing beside a link", link("l", "{outside}"), "glob", {"pattern": "**/*.txt"}, None),
    ("searching a link", link("l", "{outside}"), "grep", {"pattern": "secret", "path": "l"}, "symbolic_link"),
    ("searching beside a link", link("l", "{outside}"), "grep", {"pattern": "secret"}, None),
    ("a pattern that leads out", nothing, "glob", {"pattern": "../outside/*"}, None),
    ("an absolute pattern", nothing, "glob", {"pattern": "{outside}/*"}, "invalid_glob"),
    ("a search's glob that leads out", nothing, "grep", {"pattern": "e", "glob": "../**/*"}, None),
    ("a search's option", nothing, "grep", {"pattern": "--follow"}, None),
    ("a search's option as glob", nothing, "grep", {"pattern": "e", "glob": "--follow"}, None),
    ("writing by dots", nothing, WRITE, {"path": "../outside/new.txt", "content": "x"}, "outside_root"),
    ("writing to a link", link("l", "{outside}/secret.txt"), WRITE, {"path": "l", "content": "x"}, "symbolic_link"),
    ("making a link's target", link("l", "{outside}/new.txt"), WRITE, {"path": "l", "content": "x"}, "symbolic_link"),
    ("writing below a link", link("l", "{outside}"), WRITE, {"path": "l/new.txt", "content": "x"}, "symbolic_link"),
    ("making folders below a link", link("l", "{outside}"), WRITE, {"path": "l/a/b", "content": "x"}, "symbolic_link"),
    (
        "editing a link",
        link("l", "{outside}/secret.txt"),
        EDIT,
        {"path": "l", "old_string": "the", "new_string": "no"},
        "symbolic_link",
    ),
    ("reading a hard link", hard("h"), READ, {"path": "h"}, "hard_link"),
    ("searching a hard link", hard("h"), "grep", {"pattern": "secret", "path": "h"}, "hard_link"),
    ("searching beside a hard link", hard("h"), "grep", {"pattern": "secret"}, None),
    ("editing a hard link", hard("h"), EDIT, {"path": "h", "old_string": "the", "new_string": "no"}, "hard_link"),
    ("ignored names by a link", ignore_link, "grep", {"pattern": "here"}, None),
    ("a pipe", fifo, READ, {"path": "pipe"}, "not_a_file"),
    ("writing to a pipe", fifo, WRITE, {"path": "pipe", "content": "x"}, "not_a_file"),
    ("a socket", unix_socket, READ, {"path": "sock"}, "not_a_file"),
    ("a folder", nothing, READ, {"path": "sub"}, "not_a_file"),
    ("the root", nothing, READ, {"path": "."}, "not_a_file"),
    ("writing to a folder", nothing, WRITE, {"path": "sub", "content": "x"}, "not_a_file"),
    ("writing to the root", nothing, WRITE, {"path": ".", "content": "x"}, "not_a_file"),
    ("below a file", nothing, WRITE, {"path": "here.txt/new", "content": "x"}, "not_found"),
    ("a hook of git", nothing, WRITE, {"path": ".git/hooks/pre-commit", "content": "x"}, "protected"),
    ("a hook of git in capitals", nothing, WRITE, {"path": "sub/.GIT/config", "content": "x"}, "protected"),
    (
        "a hook of git beside what nobody sees",
        nothing,
        WRITE,
        {"path": ".g\u200cit/config", "content": "x"},
        "protected",
    ),
    ("a hook of git in wide letters", nothing, WRITE, {"path": ".ｇｉｔ/config", "content": "x"}, "protected"),
    ("what was approved, with a long s", nothing, WRITE, {"path": ".laſh/x", "content": "x"}, "protected"),
    ("lash's settings", nothing, WRITE, {"path": "lash.toml", "content": "x"}, "protected"),
    ("lash's lock", nothing, EDIT, {"path": "./lash.lock", "old_string": "a", "new_string": "b"}, "protected"),
    ("an environment for direnv", nothing, WRITE, {"path": "sub/.envrc", "content": "x"}, "protected"),
    ("an editor's tasks", nothing, WRITE, {"path": ".vscode/tasks.json", "content": "{{}}"}, "protected"),
    ("another editor's", nothing, WRITE, {"path": ".idea/workspace.xml", "content": "x"}, "protected"),
    ("what was approved", nothing, WRITE, {"path": ".lash/approvals.json", "content": "{{}}"}, "protected"),
    ("the bit that lends rights", setuid, WRITE, {"path": "here.txt", "content": "x"}, None),
]


# The searches, with ripgrep and without it.
TRIED = [("", *row) for row in ROWS] + [(RG or "rg", *row) for row in ROWS if row[2] == "grep"]


@pytest.mark.parametrize(
    ("anyio_backend", "ripgrep", "make", "tool", "args", "code"),
    [(("asyncio", "trio")[at % 2], rg, *row) for at, (rg, _, *row) in enumerate(TRIED)],
    ids=[f"{name}{', ripgrep' if rg else ''}" for rg, name, *_ in TRIED],
)
async def test_there_is_no_way_out(
    tmp_path: Path,
    ripgrep: str,
    make: Make,
    tool: str,
    args: dict[str, Any],
    code: str | None,
    anyio_backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(searching, "FIRST", 0)
    at = world(tmp_path, ripgrep=ripgrep)
    make(at)
    before = at.state_of_outside()
    given = {key: value.format(root=at.root, outside=at.outside) for key, value in args.items()}
    said = await at.said(tool, **given)
    assert SECRET not in said
    assert at.state_of_outside() == before
    if code is not None:
        assert said.startswith(f"{code}: ")
    assert not (at.root / "here.txt").stat().st_mode & 0o6000 or tool != WRITE


def test_there_are_enough_rows() -> None:
    assert len(ROWS) >= 40
    assert len({row[0] for row in ROWS}) == len(ROWS)


async def test_what_is_protected_can_be_read_and_found(tmp_path: Path) -> None:
    at = world(tmp_path)
    for name in (".git/HEAD", ".vscode/tasks.json", ".envrc", "lash.toml"):
        (at.root / name).parent.mkdir(exist_ok=True)
        (at.root / name).write_text("to read\n")
        assert "to read" in await at.call("read_file", path=name)
    found = await at.call("grep", pattern="to read")
    assert all(f"{name}:1:to read" in found for name in (".vscode/tasks.json", ".envrc", "lash.toml"))


async def test_a_hard_link_is_written_without_its_other_name(tmp_path: Path) -> None:
    at = world(tmp_path)
    hard("h")(at)
    await at.call("write_file", path="h", content="mine")
    assert (at.root / "h").read_text() == "mine"
    assert (at.outside / "secret.txt").read_text() == f"{SECRET}\n"


async def test_a_name_is_told_on_one_line_and_as_text(tmp_path: Path) -> None:
    """A name may have any byte: one that was no text made every search fail, and a line feed made two of a line."""
    at = world(tmp_path)
    folder = os.fsencode(at.root / "odd")
    os.mkdir(folder)  # noqa: PTH102  # bytes
    for name in (b"no\xfftext.py", b"two\nlines.py:1:found", b"title\x1b]0;x\x07.py", "Größe\u3000.py".encode()):
        with open(os.path.join(folder, name), "w") as file:  # noqa: PTH118, PTH123  # bytes
            file.write("found")
    names = ["Größe\u3000.py", r"no\udcfftext.py", r"title\x1b]0;x\x07.py", r"two\nlines.py:1:found"]
    said = (await at.call("glob", pattern="*", path="odd")).split("\n")
    assert sorted(said) == [f"odd/{each}" for each in names]
    said = (await at.call("grep", pattern="found", path="odd")).split("\n")
    assert sorted(said) == [f"odd/{each}:1:found" for each in names]


async def test_hard_links_can_be_allowed(tmp_path: Path) -> None:
    at = world(tmp_path, hard_links=True)
    os.link(at.root / "here.txt", at.root / "h")
    assert await at.call("read_file", path="h") == "1\there"


async def test_a_root_that_is_named_by_a_link_is_found_by_both_of_its_paths(tmp_path: Path) -> None:
    """The user named it: only what is below it follows no link."""
    (tmp_path / "root").mkdir()
    (tmp_path / "named").symlink_to("root")
    at = world(tmp_path, roots=(str(tmp_path / "named"),))
    for path in ("here.txt", at.root / "here.txt", tmp_path / "named" / "here.txt"):
        assert await at.call("read_file", path=str(path)) == "1\there"


async def test_a_root_that_is_not_what_it_was(tmp_path: Path) -> None:
    """A link in its place leads nowhere; a folder that was made anew is the user's."""
    at = world(tmp_path)
    at.root.rename(tmp_path / "away")
    assert (await at.said("read_file", path="here.txt")).startswith(f"not_found: there is no `{at.root}`")
    assert (await at.said("write_file", path="new/here.txt", content="x")).startswith("not_found: ")
    assert not at.root.exists()
    at.root.symlink_to("outside")
    for name, args in (("read_file", {"path": "secret.txt"}), ("glob", {"pattern": "*"}), ("grep", {"pattern": "s"})):
        assert (await at.said(name, **args)).startswith(f"symbolic_link: `{at.root}`: `root` is a symbolic link")
    at.root.unlink()
    at.root.mkdir()
    await at.call("write_file", path="new.txt", content="x\n")
    assert await at.call("read_file", path="new.txt") == "1\tx"


async def test_further_roots_are_reached_by_their_paths(tmp_path: Path) -> None:
    at = world(tmp_path, roots=(str(tmp_path / "root"), str(tmp_path / "outside" / "folder")))
    assert SECRET in await at.call("read_file", path="../outside/folder/secret.txt")
    shown = await at.call("grep", pattern="secret", path=str(at.outside / "folder"))
    assert shown == f"{at.outside}/folder/secret.txt:1:{SECRET}"
    assert (await at.said("read_file", path="../outside/secret.txt")).startswith("outside_root")


# ---- races ----------------------------------------------------------------------------------------------------------

TRIES = 150
MANY = 1500


async def _reads(at: World) -> str:
    return await at.said("read_file", path="sub/secret.txt")


async def _reads_root(at: World) -> str:
    return await at.said("read_file", path="secret.txt")


async def _reads_file(at: World) -> str:
    return await at.said("read_file", path="here.txt")


async def _lists(at: World) -> str:
    return await at.said("glob", pattern="**/*")


async def _greps(at: World) -> str:
    return await at.said("grep", pattern="secret|deep")


async def _writes(at: World) -> str:
    return await at.said("write_file", path="sub/new/file.txt", content="mine")


async def _overwrites(at: World) -> str:
    return await at.said("write_file", path="here.txt", content="here\n")


async def _edits(at: World) -> str:
    return await at.said("edit_file", path="sub/secret.txt", old_string="the", new_string="no")


RACES: list[tuple[str, str, str, Callable[[World], Any], int, str]] = [
    ("reading below a folder that becomes a link", "sub", "outside", _reads, MANY, ""),
    ("reading a file that becomes a link", "here.txt", "outside/secret.txt", _reads_file, MANY, ""),
    ("reading below a root that becomes a link", ".", "outside", _reads_root, MANY, ""),
    ("searching a root that becomes a link", ".", "outside", _greps, TRIES, ""),
    ("searching a root with ripgrep", ".", "outside", _greps, 12, RG or "rg"),
    ("writing below a root that becomes a link", ".", "outside", _writes, 60, ""),
    ("listing a folder that becomes a link", "sub", "outside", _lists, TRIES, ""),
    ("searching a folder that becomes a link", "sub", "outside", _greps, TRIES, ""),
    ("searching with ripgrep", "sub", "outside", _greps, 12, RG or "rg"),
    ("writing below a folder that becomes a link", "sub", "outside", _writes, 60, ""),
    ("writing a file that becomes a link", "here.txt", "outside/secret.txt", _overwrites, 60, ""),
    ("editing below a folder that becomes a link", "sub", "outside", _edits, MANY, ""),
]


@pytest.mark.parametrize(
    ("path", "target", "act", "tries", "ripgrep"), [row[1:] for row in RACES], ids=[row[0] for row in RACES]
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nobody_is_quick_enough_to_lead_it_out(
    tmp_path: Path,
    path: str,
    target: str,
    act: Callable[[World], Any],
    tries: int,
    ripgrep: str,
    anyio_backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A check of the path, followed by an `open` of the path, is beaten by this within a thousand tries."""
    monkeypatch.setattr(searching, "FIRST", 0)
    at = world(tmp_path, ripgrep=ripgrep)
    before = at.state_of_outside()
    outcomes = set()
    with swapping(at.root / path, at.top / target):
        for _ in range(tries):
            said = await act(at)
            assert SECRET not in said
            outcomes.add(said.partition(":")[0])
    assert at.state_of_outside() == before
    assert outcomes
