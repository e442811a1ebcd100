"""The plugin in a turn: what it registers, its options, its limits, and what a crash leaves."""

from __future__ import annotations

import importlib.util
import os
import resource
import stat
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from files_kit import world
from hypothesis import given, strategies as st

from lash_framework.testing import call
from lash_hookspecs import ConfigurationError, PluginError, ToolCallSuccess, ToolEffect, ToolError
from lash_hookspecs.testing.plugins import hooks_of
from lash_plugin_tools_files import access, plugin, ripgrep, writing
from lash_plugin_tools_files.numbering import numbered
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_files.searching import FIRST
from lash_plugin_tools_files.texts import shortened
from lash_plugin_tools_files.tools import files_tools

beside_a_mode = pytest.mark.skipif(
    importlib.util.find_spec("lash_plugin_mode_standard") is None, reason="turns need a mode, which is another plugin"
)

MODE = '[modes.files]\nextends = "standard"\nplugins = ["tools-files"]\n'


def toml(root: Path, more: str = "") -> str:
    return f'{MODE}[plugin.tools-files]\nroots = ["{root}"]\n{more}'


def test_its_hooks_are_hooks() -> None:
    # None of a turn's: one that uses no file pays nothing for it.
    assert hooks_of(plugin) == {"lash_plugin_info", "lash_tools"}
    info = plugin.lash_plugin_info()
    assert (info.id, info.enabled_by_default) == ("tools-files", False)
    assert info.capabilities == {"filesystem", "subprocess"}


def test_each_tool_says_what_a_second_call_would_do(tmp_path: Path) -> None:
    made = files_tools(FilesOptions(roots=(str(tmp_path),)))
    assert {each.manifest.name: each.manifest.effect for each in made} == {
        "read_file": ToolEffect.PURE,
        "glob": ToolEffect.PURE,
        "grep": ToolEffect.PURE,
        "write_file": ToolEffect.IDEMPOTENT,
        "edit_file": ToolEffect.UNSAFE,
    }
    reading = files_tools(FilesOptions(roots=(str(tmp_path),), read_only=True))
    assert [each.manifest.name for each in reading] == ["read_file", "glob", "grep"]


@beside_a_mode
async def test_a_mode_that_names_it_has_its_tools(lash_host: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    says = [call("edit_file", path="a.txt", old_string="two", new_string="three"), call("read_file", path="a.txt"), "."]
    async with lash_host("tools-files", says=says, toml=toml(tmp_path), mode="files") as host:
        turn = await host.run("Go")
    assert [each.output.outcome for each in turn.tool_calls] == [
        ToolCallSuccess("edited a.txt: 1 replacement, in line 2"),
        ToolCallSuccess("1\tone\n2\tthree"),
    ]


@beside_a_mode
@pytest.mark.statement(81, page="plugin-system")
async def test_no_mode_has_them_that_does_not_name_them(lash_host: Any) -> None:
    """A mode that doesn't name the plugin has no tools of files."""
    async with lash_host("tools-files", says=["Done."]) as host:
        await host.run("Go")
        assert not {"read_file", "write_file"} & {each.name for each in host.model.requests[0].tools}


@beside_a_mode
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_file_bytes = 0", "max_file_bytes` is 0: use a number above 0"),
        ('max_file_bytes = "big"', "max_file_bytes` must be a whole number"),
        ('skip = ["a/b"]', "'a/b' is no name"),
        ('protect = ["x"]', "did you mean `protected`"),
    ],
)
async def test_a_wrong_option_is_named(lash_host: Any, tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match="tools-files") as caught:
        async with lash_host("tools-files", toml=toml(tmp_path, text), mode="files") as host:
            await host.run("Go")
    assert says in str(caught.value)


@beside_a_mode
async def test_a_root_that_is_not_there_is_named(lash_host: Any, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="there is no folder"):
        async with lash_host("tools-files", toml=toml(tmp_path / "nowhere"), mode="files"):
            raise AssertionError("unreachable")


@beside_a_mode
async def test_a_crash_loses_and_doubles_nothing(lash_crashes: Any, tmp_path: Path) -> None:
    """A write is made again, an edit never: of one that nobody knows of, the model is told."""
    path = tmp_path / "a.txt"

    def says(request: Any) -> Any:
        said = sum(each.role.value == "assistant" for each in request.messages)
        if said == 0:
            path.write_text("aa\n")  # as it was before the turn
        return [
            call("write_file", path="b.txt", content="new"),
            call("edit_file", path="a.txt", old_string="aa", new_string="aaa"),
            "Done.",
        ][said]

    def once(crash: Any) -> None:
        assert path.read_text() in ("aa\n", "aaa\n")  # never "aaaa\n"
        assert (tmp_path / "b.txt").read_text() == "new"

    await lash_crashes(
        "tools-files",
        says=says,
        toml=toml(tmp_path),
        mode="files",
        points=lambda point: point.kind == "effect" and "tool_call" in str(point),
        checks=[once],
        blur=lambda text: text.replace("replaced", "made"),
    )


# ---- reading --------------------------------------------------------------------------------------------------------

READS: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("a range", b"a\nb\nc\nd\n", {"offset": 2, "limit": 2}, "2\tb\n3\tc\n(lines 2–3 of 4; go on with offset=4)"),
    ("the end", b"a\nb\nc", {"offset": 3}, "3\tc\n(lines 3–3 of 3)"),
    ("nothing", b"", {}, "(the file is empty)"),
    ("behind the end", b"a\n", {"offset": 5}, "no_such_line: `f` has 1 lines, so that there is no line 5"),
    ("Windows' lines", b"a\r\nb\r\n", {}, "1\ta\n2\tb"),
    ("a mark of byte order", b"\xef\xbb\xbfa\n", {}, "1\ta"),
    ("no UTF-8", b"caf\xe9\n", {}, "1\tcaf\ufffd"),
    ("other ends of lines", "a\x0cb\u2028c\n".encode(), {}, "1\ta\x0cb\u2028c"),
    ("a long line", b"x" * 50, {}, "1\txxxxxxxxxxxxxxxxxxxx … (30 more characters)"),
    ("a picture", b"\x89PNG\r\n\x1a\n\0\0", {}, "binary_file: `f` is a PNG image (10 bytes), not text"),
    (
        "too large",
        b"x" * 300,
        {},
        "too_large: `f` has 300 bytes, and may have 200 (`plugin.tools-files.max_file_bytes`)",
    ),
    (
        "too much at once",
        b"0123456789\n" * 12,
        {},
        "1\t0123456789\n2\t0123456789\n3\t0123456789\n4\t0123456789\n(lines 1–4 of 12; go on with offset=5)",
    ),
]


@pytest.mark.parametrize(("data", "args", "said"), [row[1:] for row in READS], ids=[row[0] for row in READS])
@pytest.mark.parametrize("threads", [False, True], ids=["", "in a thread"])
async def test_read_file(tmp_path: Path, data: bytes, args: dict[str, Any], said: str, threads: bool) -> None:
    at = world(tmp_path, max_file_bytes=200, max_output_bytes=60, max_line_chars=20, threads=threads)
    (at.root / "f").write_bytes(data)
    assert await at.said("read_file", path="f", **args) == said


async def test_a_large_file_is_read_in_a_thread(tmp_path: Path) -> None:
    at = world(tmp_path)
    (at.root / "f").write_bytes(b"0123456789\n" * 60_000)
    assert (await at.call("read_file", path="f", offset=60_000)) == "60000\t0123456789\n(lines 60000–60000 of 60,000)"


@pytest.mark.parametrize("lines", [1, 2000, 40_000])
async def test_what_a_read_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    """A look at each name and at each block: no thread for a small file, and never all of its lines in memory.

    It was five times the text at once, which the process got from the system, and gave back, for each read.
    """
    at = world(tmp_path)
    (at.root / "sub" / "f").write_bytes(b"%060d\n" % 7 * lines)
    counts = dict.fromkeys(("open", "close", "fstat", "read", "run_sync"), 0)

    def counted(name: str, function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*given, **named)

        return call

    with monkeypatch.context() as patch:
        for name in counts:
            where = os if name != "run_sync" else anyio.to_thread
            patch.setattr(where, name, counted(name, getattr(where, name)))
        tracemalloc.start()
        try:
            said = await at.call("read_file", path="sub/f")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    is_large = lines * 61 > 256 * 1024
    looks = 2 if is_large else 1  # at its size, before a thread begins
    blocks = -(-lines * 61 // (32 * 1024))
    assert counts == {"open": 3 * looks, "close": 3 * looks, "fstat": 2 * looks, "read": blocks, "run_sync": is_large}
    assert said.count("\n") == min(lines, 2000) - (lines <= 2000)
    assert peak < 2.5 * len(said) + 250_000


BROKEN = st.lists(
    st.sampled_from([b"a", b"\n", b"\r\n", b"\r", b"\xff", "é".encode(), b"\xe2\x82", b"longer"]), max_size=9
)


@given(BROKEN.map(b"".join), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.sampled_from([3, 100]))
def test_blocks_change_nothing(data: bytes, offset: int, limit: int, size: int, most: int) -> None:
    """Wherever a block ends, in a line, a character or a line's end."""
    text = data.decode(errors="replace")
    lines = [each.removesuffix("\r") for each in text.removesuffix("\n").split("\n")] if text else []
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    wanted = lines[offset - 1 : offset - 1 + limit]
    try:
        said = numbered("f", blocks, offset, limit, 1000, most)
    except ToolError:
        assert not wanted
        return
    rows = [f"{offset + at}\t{shortened(line, most)}" for at, line in enumerate(wanted)] or ["(the file is empty)"]
    assert said.split("\n(lines ")[0] == "\n".join(rows)


# ---- writing --------------------------------------------------------------------------------------------------------


async def test_what_would_be_too_large_is_not_written(tmp_path: Path) -> None:
    at, text = world(tmp_path, max_file_bytes=200), "é" * 100 + "x"
    for name in ("new.txt", "here.txt"):
        said = await at.said("write_file", path=name, content=text)
        assert said == f"too_large: `{name}` has 201 bytes, and may have 200 (`plugin.tools-files.max_file_bytes`)"
    assert not (at.root / "new.txt").exists()
    assert (at.root / "here.txt").read_text() == "here\n"
    await at.call("write_file", path="new.txt", content=text[:-1])
    assert (at.root / "new.txt").stat().st_size == 200


async def test_a_file_keeps_its_permissions_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    at = world(tmp_path)
    (at.root / "here.txt").chmod(0o640)
    await at.call("write_file", path="here.txt", content="x")
    await at.call("write_file", path="new.txt", content="x")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((at.root / "here.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((at.root / "new.txt").stat().st_mode) == 0o666 & ~umask


async def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world(tmp_path)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    assert (await at.said("write_file", path="here.txt", content="new")).startswith("disk_full: ")
    assert sorted(path.name for path in at.root.iterdir()) == ["here.txt", "sub"]
    assert (at.root / "here.txt").read_text() == "here\n"


async def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file in its place takes no permission of its own: `chmod -w` kept nothing from a model."""
    at = world(tmp_path)
    (at.root / "here.txt").chmod(0o444)
    may = os.access

    def nobody(path: str, mode: int, **named: Any) -> bool:  # tests may run as root, who may write all
        return may(path, mode, **named) and bool(os.stat(path, dir_fd=named["dir_fd"]).st_mode & 0o200)

    monkeypatch.setattr(writing.os, "access", nobody)
    for name, args in (("write_file", {"content": "x"}), ("edit_file", {"old_string": "here", "new_string": "x"})):
        said = await at.said(name, path="here.txt", **args)
        assert said == "permission_denied: `here.txt`: permission denied by the system"
    assert (at.root / "here.txt").read_text() == "here\n"


async def test_a_disk_that_is_full_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    """The system itself writes a part, and refuses the rest."""
    at = world(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        said = await at.said("write_file", path="here.txt", content="x" * 3000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said == "disk_full: `here.txt` was not written: no file may be that large here"
    assert sorted(path.name for path in at.root.iterdir()) == ["here.txt", "sub"]
    assert (at.root / "here.txt").read_text() == "here\n"


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list as Linux stores it: kind, rights and id of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


ANY = 2**32 - 1
OTHERS = acl((1, 6, ANY), (2, 6, 4321), (4, 0, ANY), (16, 6, ANY), (32, 0, ANY))
"""A user more may read and write; the group may not, though its bits say so: they are the list's."""


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no attributes on this system")
async def test_a_file_keeps_its_list_of_who_may_and_gets_none_of_its_folder(tmp_path: Path) -> None:
    """Without the list the bits that stood for it allowed the group of the file all that the list allowed somebody."""
    at = world(tmp_path)
    try:
        os.setxattr(at.root / "here.txt", "user.note", b"mine")
        os.setxattr(at.root / "here.txt", "system.posix_acl_access", OTHERS)
        os.setxattr(at.root / "sub", "system.posix_acl_default", OTHERS)
    except OSError as error:
        pytest.skip(f"no lists of access on this file system: {error}")
    await at.call("write_file", path="here.txt", content="x")
    await at.call("write_file", path="sub/deep.txt", content="x")
    assert os.getxattr(at.root / "here.txt", "system.posix_acl_access") == OTHERS
    assert os.getxattr(at.root / "here.txt", "user.note") == b"mine"
    assert os.listxattr(at.root / "sub" / "deep.txt") == []


async def test_a_group_that_can_not_be_kept_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rights of the old file's group were given to the writer's own."""
    at = world(tmp_path)
    path = at.root / "here.txt"
    path.chmod(0o664)
    asked = []

    def never(fd: int, owner: int, group: int) -> None:
        asked.append((owner, group))
        raise PermissionError

    there = os.fstat

    def anothers(fd: int) -> Any:
        found = there(fd)
        return os.stat_result((*found[:5], found.st_gid + 1, *found[6:]))

    monkeypatch.setattr(access.os, "fchown", never)
    monkeypatch.setattr(access.os, "fstat", anothers)
    old = path.stat()
    fd = os.open(path, os.O_RDONLY)
    try:
        access.same_access(fd, old, str(path))
    finally:
        os.close(fd)
    assert asked == [(old.st_uid, old.st_gid), (-1, old.st_gid)]  # the group alone, where the owner can't be
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


async def test_an_edit_of_what_was_changed_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world(tmp_path)
    write = writing._write

    def slow(*given: Any) -> None:
        write(*given)
        (at.root / "here.txt").write_text("theirs\n")

    monkeypatch.setattr(writing, "_write", slow)
    said = await at.said("edit_file", path="here.txt", old_string="here", new_string="mine")
    assert said.startswith("changed_meanwhile: ")
    assert (at.root / "here.txt").read_text() == "theirs\n"


@beside_a_mode
async def test_edits_of_one_answer_lose_none(lash_host: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("".join(f"line {number:02}\n" for number in range(20)))
    edits = [call("edit_file", path="f", old_string=f"line {n:02}", new_string=f"row {n:02}") for n in range(20)]
    async with lash_host("tools-files", says=[edits, "."], toml=toml(tmp_path), mode="files") as host:
        await host.run("Go")
    assert (tmp_path / "f").read_text() == "".join(f"row {number:02}\n" for number in range(20))


EDITS = [
    ("a mark of byte order", b"\xef\xbb\xbfa\r\nb\r\n", b"\xef\xbb\xbfx\r\nb\r\n", "edited f"),
    ("no end of the last line", b"b\na", b"b\nx", "edited f"),
    ("binary", b"a\0b", b"a\0b", "binary_file"),
    ("no UTF-8", b"a caf\xe9", b"a caf\xe9", "not_utf8"),
]


@pytest.mark.parametrize(("before", "after", "said"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
async def test_an_edit_spoils_no_other_byte(tmp_path: Path, before: bytes, after: bytes, said: str) -> None:
    at = world(tmp_path)
    (at.root / "f").write_bytes(before)
    assert (await at.said("edit_file", path="f", old_string="a", new_string="x")).startswith(said)
    assert (at.root / "f").read_bytes() == after


WRITER = """
import sys, anyio
sys.path.insert(0, {tests!r})
from pathlib import Path
from files_kit import world
from hypothesis import given, strategies as st

async def main():
    at = world(Path({folder!r}))
    while True:
        for letter in "ab":
            await at.call("write_file", path="here.txt", content=letter * 300_000)
            print(letter, flush=True)

anyio.run(main)
"""


def test_who_looks_finds_the_old_text_or_the_new_one_also_when_the_writer_is_killed(tmp_path: Path) -> None:
    code = WRITER.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    path = tmp_path / "root" / "here.txt"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        for _ in range(100):
            text = path.read_text()
            assert text in ("a" * 300_000, "b" * 300_000)
        writer.stdout.readline()
        writer.kill()
    assert set(path.read_text()) in ({"a"}, {"b"})
    left = {each.name for each in path.parent.iterdir()} - {"here.txt", "sub"}
    assert all(name.startswith(writing.TEMPORARY) for name in left)


@pytest.mark.parametrize(
    "path", [".venv/lib/x.pth", ".VENV/bin/python", "sub/../.venv/new/x", ".venv"], ids=["", "case", "dots", "itself"]
)
async def test_the_python_that_lash_runs_with_isnt_written(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lash is often installed in the project's own `.venv`: what a model wrote there, lash ran unasked."""
    at = world(tmp_path)
    (at.root / ".venv" / "lib").mkdir(parents=True)
    (at.root / ".venv" / "lib" / "x.pth").write_text("old")
    monkeypatch.setattr(sys, "prefix", str(at.root / ".venv"))
    at.tools = {each.manifest.name: each for each in files_tools(FilesOptions(roots=(str(at.root),)))}
    said = await at.said("write_file", path=path, content="import os")
    assert said == f"protected: `{path.replace('sub/../', '')}` is not written: it is of the Python that lash runs with"
    said = await at.said("edit_file", path=".venv/lib/x.pth", old_string="old", new_string="import os")
    assert said.startswith("protected: ")
    assert "old" in await at.call("read_file", path=".venv/lib/x.pth")
    assert "made" in await at.call("write_file", path=".venv2/x", content="x")


async def test_a_root_within_the_python_that_lash_runs_with_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has its project in `/usr/src`, say."""
    at = world(tmp_path)
    for prefix in (tmp_path, at.root):
        monkeypatch.setattr(sys, "prefix", str(prefix))
        at.tools = {each.manifest.name: each for each in files_tools(FilesOptions(roots=(str(at.root),)))}
        assert "replaced" in await at.call("write_file", path="here.txt", content="x")


async def test_a_ripgrep_that_a_model_can_write_isnt_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To write a file may be allowed for a session, and to search always: together they ran any program."""
    at = world(tmp_path, ripgrep="rg")
    (at.root / "bin").mkdir()
    (at.root / "bin" / "rg").write_text("")
    (at.root / "bin" / "rg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{at.root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    await at.call("write_file", path="bin/rg", content=f"#!/bin/sh\ntouch {tmp_path}/evil\n")
    assert os.access(at.root / "bin" / "rg", os.X_OK)
    for number in range(FIRST + 1):
        (at.root / f"{number}.txt").write_text("nothing\n")
    assert "here.txt" in await at.call("grep", pattern="here", path=".")
    assert not (tmp_path / "evil").exists()


def test_while_a_root_is_moved_nobody_runs_ripgrep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is gone when it is to be followed makes `realpath` raise, which came out of the search."""
    options = FilesOptions(roots=(str(tmp_path),), ripgrep=sys.executable)
    assert ripgrep.program(options) is not None

    def moved(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(ripgrep.os.path, "realpath", moved)
    assert ripgrep.program(options) is None
