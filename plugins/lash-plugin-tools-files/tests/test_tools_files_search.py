"""Finding and searching: what fits, what is passed over, and that ripgrep changes nothing but the time."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import regex
from files_kit import RG, World, world
from hypothesis import HealthCheck, example, given, settings, strategies as st

from lash_hookspecs import ToolError
from lash_plugin_tools_files import searching, walking
from lash_plugin_tools_files.globs import matcher
from lash_plugin_tools_files.ignoring import Rules
from lash_plugin_tools_files.names import of_names
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_files.patterns import LinePattern
from lash_plugin_tools_files.prefilter import prefilter
from lash_plugin_tools_files.roots import Roots
from lash_plugin_tools_files.searching import Search, search
from lash_plugin_tools_files.watch import Watch

needs_rg = pytest.mark.skipif(RG is None, reason="ripgrep isn't installed")
both = pytest.mark.parametrize("ripgrep", ["", pytest.param(RG, marks=needs_rg)], ids=["python", "ripgrep"])


def project(at: World) -> None:
    files = {
        "src/app.py": "import os\n\nTODO = 1\nclass App:\n    pass\n",
        "src/app.ts": "// todo: all\nexport {}\n",
        "src/deep/er/x.py": "TODO\n",
        ".github/ci.yml": "todo: now\n",
        ".gitignore": "build/\n*.log\n!keep.log\n",
        "build/out.py": "TODO in what is built\n",
        "node_modules/m/index.py": "TODO of others\n",
        "a.log": "TODO in a log\n",
        "keep.log": "TODO kept\n",
        "src/.gitignore": "/deep\n",
        "bin.dat": "TODO\0binary\n",
        "latin.txt": "",
        "win.txt": "one\r\nTODO\r\n",
        "here.txt": "here\n",
        "sub/deep.txt": "deep\n",
    }
    for name, text in files.items():
        path = at.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    (at.root / "latin.txt").write_bytes(b"caf\xe9 TODO\n")


def found_in(said: str) -> str:
    """What a search found, without what it passed over."""
    said = re.sub(r"\n\(passed over[^()]*\)$", "", said)
    return re.sub(r"; passed over[^()]*\)$", ")", said)


# ---- glob -----------------------------------------------------------------------------------------------------------

GLOBS = [
    ("*.py", ["src/app.py"]),
    ("**/*.py", ["src/app.py"]),
    ("./src/*.py", ["src/app.py"]),
    ("src/*.{py,ts}", ["src/app.py", "src/app.ts"]),
    ("src/app.?s", ["src/app.ts"]),
    ("src/app.[pt]*", ["src/app.py", "src/app.ts"]),
    ("src/app.[!p]*", ["src/app.ts"]),
    ("**/src/*.py", ["src/app.py"]),
    (".github/**", [".github/ci.yml"]),
    ("**/.gitignore", [".gitignore", "src/.gitignore"]),
    ("*.log", ["keep.log"]),
    ("nothing*", ["(no files)"]),
    ("[", ["(no files)"]),
]


@pytest.mark.parametrize(("pattern", "found"), GLOBS, ids=[row[0] for row in GLOBS])
async def test_glob(tmp_path: Path, pattern: str, found: list[str]) -> None:
    at = world(tmp_path)
    project(at)
    assert found_in(await at.call("glob", pattern=pattern)).split("\n") == found


async def test_who_names_what_is_ignored_gets_it(tmp_path: Path) -> None:
    at = world(tmp_path)
    project(at)
    assert await at.call("glob", pattern="*", path="node_modules") == "node_modules/m/index.py"
    assert await at.call("glob", pattern="*", path="build") == "build/out.py"
    assert await at.call("glob", pattern="*", path="src/deep") == "src/deep/er/x.py"


@both
async def test_names_that_are_passed_over_may_be_patterns(
    tmp_path: Path, ripgrep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "FIRST", 0)
    at = world(tmp_path, skip=(".env.*", "id_?sa", "[a-c]uild"), ripgrep=ripgrep)
    for name in (".env", ".env.x", ".ENV.y", "id_rsa", "id_rrsa", "sub/build/a", "sub/zuild"):
        (at.root / name).parent.mkdir(exist_ok=True)
        (at.root / name).write_text("x")
    assert found_in(await at.call("grep", pattern="x", output="files")) == ".env\nid_rrsa\nsub/zuild"
    assert await at.call("grep", pattern="x", path=".env.x") == ".env.x:1:x"
    assert await at.call("grep", pattern="x", path="sub/build") == "sub/build/a:1:x"
    with pytest.raises(ValueError, match=r"`plugin.tools-files.skip`: '\[z-a\]' is no pattern of names"):
        FilesOptions(skip=("[z-a]",))


async def test_glob_says_that_there_is_more(tmp_path: Path) -> None:
    at = world(tmp_path)
    said = await at.call("glob", pattern="**", limit=1)
    assert said == "here.txt\n(more than 1; narrow the pattern)"


@pytest.mark.parametrize("pattern", ["", "/etc/*", "{a,{b}", "x" * 2000], ids=["empty", "absolute", "brace", "long"])
def test_a_pattern_that_can_not_be(pattern: str) -> None:
    with pytest.raises(ToolError) as caught:
        matcher(pattern)("x")
    assert caught.value.code == "invalid_glob"


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    """Each star that could take as much as the next one would double the time."""
    assert not matcher("**/" * 40 + "*a" * 5 + "b")("a/" * 40 + "a" * 40)
    assert not matcher("*a" * 400 + "b")("a" * 250)
    assert not matcher("**/a/" * 60 + "b")("a/" * 2000 + "c")
    assert not matcher("**/" + "a/" * 400 + "b")("a/" * 2000 + "c")
    assert not matcher("**/" + "a/" * 150 + "{a,b}{c,d}{e,f}{g,h}{i,j}{k,l}{m,n}")("a/" * 2000 + "c")
    assert not matcher("**/" + "*a*/" * 200 + "b")(("a" * 200 + "/") * 20 + "c")
    with pytest.raises(ToolError, match="stands for more than 200 patterns"):
        matcher("{a,b}" * 100)


MATCHED = [
    ("**/src/*.py", "src/a.py x/src/a.py a/b/src/c.py src/src/a.py", "a.py src/x/a.py"),
    ("src/**/*.py", "src/a.py src/x/y/a.py", "a.py x/src/a.py"),
    ("src/**", "src/a src/a/b", "src x/src/a"),
    ("**/a/**/b/*", "a/b/c x/a/y/z/b/c a/b/b/c", "a/c b/a/c"),
    ("{src,test/unit}/*.py", "src/a.py test/unit/b.py", "test/a.py unit/b.py"),
    ("a{b,{c,d}e}f", "abf acef adef", "af abef"),
    ("[]a][!b]", "]a aa", "ab ]b a"),
    ("[{]a,b}", "{a,b}", "a b"),
    ("a**b", "axb x/ab", "a/b"),
    ("{a", "{a", "a"),
]


@pytest.mark.parametrize(("pattern", "fit", "other"), MATCHED, ids=[row[0] for row in MATCHED])
def test_what_a_pattern_fits(pattern: str, fit: str, other: str) -> None:
    assert [each for each in f"{fit} {other}".split() if matcher(pattern)(each)] == fit.split()


@given(
    st.lists(st.sampled_from(["a", "b", "*", "?", "/", "/**/"]), min_size=1, max_size=8),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join),
)
def test_patterns_fit_what_a_plain_reading_of_them_does(pieces: list[str], path: str) -> None:
    pattern = re.sub("/+", "/", "".join(pieces)).strip("/")
    if not pattern or re.search(r"[^/]\*\*|\*\*(?!/)", pattern):
        return
    plain = re.escape(pattern if "/" in pattern else f"**/{pattern}").replace(r"\?", "[^/]")
    plain = plain.replace(r"\*\*/", "(?:[^/]+/){0,}").replace(r"\*", "[^/]*")
    assert matcher(pattern)(path) is bool(re.fullmatch(plain, path))


def test_one_look_at_each_name_whatever_the_pattern() -> None:
    """A path of 2,000 names and 128 patterns of 150 took a look for each pair of them: minutes for a few files."""
    many = of_names([["**", *["a"] * 150, f"b{number}"] for number in range(128)])
    assert not many.fits(["a"] * 2000)
    assert many.fits([*["a"] * 2000, "b7"]) == many.ends[7]
    assert many.steps <= 2001


# What a `.gitignore` file says, and a path with many ways to fit it, or not to.
HANGING = [
    ("*a" * 8 + "b", "a" * 120),
    ("**/a/" * 8 + "b", "a/" * 40 + "c"),
    ("[a-z]*" * 12 + "1", "a" * 200),
    ("?*" * 20 + "b", "a" * 200),
    ("\n".join(["*a*a*a*a*a*a*c"] * 3000), "a" * 200),
    ("*" * 900 + "b", "a" * 200),
]


@pytest.mark.parametrize(("rules", "path"), HANGING, ids=[row[0][:12] for row in HANGING])
def test_rules_that_a_model_has_written_hold_up_nobody(rules: str, path: str) -> None:
    """`write_file` makes a `.gitignore`, too: one such rule kept `re`, and so all threads of the process, for years."""
    assert Rules(rules).ignores(path.split("/"), is_folder=False) is None


GIT = shutil.which("git")


@pytest.mark.skipif(GIT is None, reason="git isn't installed")
def test_gitignore_is_read_as_git_reads_it(tmp_path: Path) -> None:
    rng = random.Random(6)
    pieces = [*"ab*?//! #]", "**", "a*", "*b", "[ab]", "[!a]", r"\a", r"\*", r"\ ", "[]a]", "[a-b]", "\\", "ab"]
    names = ["a", "b", "ab", "ba", "c", "a ", "#a", "!a", "*", "a*", "\\a", "]"]
    texts = {}
    for number in range(30):
        folder = tmp_path / str(number)
        made = [rng.choices(names, k=rng.randint(1, 3)) for _ in range(8)]
        for parts in made:
            with suppress(OSError):
                (folder / Path(*parts)).parent.mkdir(parents=True, exist_ok=True)
                (folder / Path(*parts)).touch()
        texts[str(number)] = "\n".join("".join(rng.choices(pieces, k=rng.randint(1, 5))) for _ in range(3))
        (folder / ".gitignore").write_text(texts[str(number)])
    subprocess.run([str(GIT), "init", "-q", str(tmp_path)], check=True)
    paths = [each.relative_to(tmp_path) for number in texts for each in sorted((tmp_path / number).rglob("*"))]
    asked = "\0".join(map(str, paths))
    command = [str(GIT), "-C", str(tmp_path), "check-ignore", "--no-index", "-z", "--stdin"]
    said = subprocess.run(command, input=asked, capture_output=True, text=True, check=False).stdout.split("\0")
    rules = {number: Rules(text) for number, text in texts.items()}

    def ignored(path: Path) -> bool:
        number, *parts = path.parts
        sizes = range(1, len(parts) + 1)
        folders = [(tmp_path / number / Path(*parts[:size])).is_dir() for size in sizes]
        return any(rules[number].ignores(parts[:size], is_folder=folders[size - 1]) for size in sizes)

    ours = [str(path) for path in paths if ignored(path)]
    assert sorted(ours) == sorted(each for each in said if each)
    assert 30 < len(ours) < len(paths) - 30


async def test_a_result_has_its_size_whatever_is_in_it(tmp_path: Path) -> None:
    """The limit was looked at behind each file, and never for names: one file with context gave ten megabytes."""
    at = world(tmp_path, max_output_bytes=1000)
    (at.root / "é.txt").write_text("é" * 400 + "\n" + "é\n" * 5000)
    (at.root / "sub" / ("n" * 200)).mkdir()
    for number in range(20):
        (at.root / "sub" / ("n" * 200) / f"{number:02}").touch()
    end = "(the output ends here, as it is too long; narrow the search)"
    for context in (0, 20):
        said = await at.call("grep", pattern="é", limit=10_000, context=context)
        assert said.endswith(f"\n{end}")
        assert 800 < len(said.encode()) < 1100
    said = await at.call("glob", pattern="[0-9]*")
    assert said.endswith("\n(more than 4; narrow the pattern)")


async def test_a_search_for_names_has_a_limit_too(tmp_path: Path) -> None:
    at = world(tmp_path, search_limit_s=1e-9)
    assert (await at.said("glob", pattern="*")).startswith("search_timeout: the search took longer than 1e-09 s")


# ---- grep -----------------------------------------------------------------------------------------------------------

GREPS: list[tuple[str, dict[str, Any], str]] = [
    (
        "lines",
        {"pattern": "TODO"},
        "keep.log:1:TODO kept\nlatin.txt:1:caf? TODO\nsrc/app.py:3:TODO = 1\nwin.txt:2:TODO",
    ),
    ("files", {"pattern": "TODO", "output": "files"}, "keep.log\nlatin.txt\nsrc/app.py\nwin.txt"),
    ("counts", {"pattern": "^.", "output": "count", "path": "src"}, "src/.gitignore:1\nsrc/app.py:4\nsrc/app.ts:2"),
    ("case", {"pattern": "todo", "ignore_case": True, "glob": "*.ts"}, "src/app.ts:1:// todo: all"),
    ("case within", {"pattern": "(?i:todo):"}, ".github/ci.yml:1:todo: now\nsrc/app.ts:1:// todo: all"),
    ("literal", {"pattern": "TODO = ", "literal": True}, "src/app.py:3:TODO = 1"),
    (
        "context",
        {"pattern": "TODO", "path": "src/app.py", "context": 1},
        "src/app.py-2-\nsrc/app.py:3:TODO = 1\nsrc/app.py-4-class App:",
    ),
    ("the end of a line", {"pattern": "TODO$", "glob": "win.txt"}, "win.txt:2:TODO"),
    ("the begin of a line", {"pattern": "^import"}, "src/app.py:1:import os"),
    ("looking ahead", {"pattern": r"TODO(?= =)"}, "src/app.py:3:TODO = 1"),
    ("the same again", {"pattern": r"(p)\1"}, "src/app.py:4:class App:"),
    ("braces as they are", {"pattern": r"export {}"}, "src/app.ts:2:export {}"),
    ("no match", {"pattern": "nowhere"}, "(no matches)"),
    ("what is ignored, by name", {"pattern": "TODO", "path": "build"}, "build/out.py:1:TODO in what is built"),
    (
        "a limit",
        {"pattern": "TODO", "limit": 1},
        "keep.log:1:TODO kept\n(more than 1; narrow the search, or raise `limit`)",
    ),
    (
        "a limit within a file",
        {"pattern": ".", "path": "src/app.py", "limit": 1},
        "src/app.py:1:import os\n(more than 1; narrow the search, or raise `limit`)",
    ),
]


@both
@pytest.mark.parametrize(("args", "said"), [row[1:] for row in GREPS], ids=[row[0] for row in GREPS])
async def test_grep(
    tmp_path: Path, args: dict[str, Any], said: str, ripgrep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "FIRST", 0)
    at = world(tmp_path, ripgrep=ripgrep)
    project(at)
    assert found_in(await at.call("grep", **args)) == said


def passed_over(at: World) -> None:
    """A folder of each kind that a search passes over, and one file that it doesn't."""
    (at.root / "found.txt").write_text("TODO\n")
    (at.root / ".gitignore").write_text("out/\n*.log\n")
    for name in (".git/x", "out/a", "out/b", "x.log", "node_modules/m/i.js"):
        (at.root / name).parent.mkdir(parents=True, exist_ok=True)
        (at.root / name).write_text("TODO\n")
    (at.root / "image.png").write_bytes(b"\x89PNG\0 TODO")
    (at.root / "other.bin").write_bytes(b"\0 nothing of it")
    (at.root / "big.txt").write_text("TODO\n" * 100)
    (at.root / "link.txt").symlink_to("found.txt")
    (at.root / "locked").mkdir()
    (at.root / "locked" / "x").write_text("TODO\n")
    os.link(at.top / "outside" / "secret.txt", at.root / "twice.txt")


async def test_grep_says_what_it_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No match in what was looked into is no "nowhere": a model took it for that."""
    at = world(tmp_path, max_file_bytes=200)
    passed_over(at)
    locked = walking.os.open

    def opening(name: Any, *given: Any, **more: Any) -> int:
        if name == "locked":  # permissions hold nobody who is root
            raise PermissionError(errno.EACCES, "locked")
        return locked(name, *given, **more)

    monkeypatch.setattr(walking.os, "open", opening)
    over = "passed over: 3 ignored, 1 linked, 1 binary, 1 too large, 2 unreadable"
    assert await at.call("grep", pattern="TODO", output="files") == f"found.txt\n({over})"
    assert await at.call("grep", pattern=r"TOD\b", output="files") == f"(no matches; {over})"
    assert await at.call("grep", pattern="TODO", path="image.png") == "(no matches; passed over: 1 binary)"
    assert await at.call("grep", pattern="deep", path="sub") == "sub/deep.txt:1:deep"
    assert await at.call("grep", pattern="TODO", limit=1, path="out") == (
        "out/a:1:TODO\n(more than 1; narrow the search, or raise `limit`)"
    )
    assert (await at.call("glob", pattern="*.md")) == "(no files; passed over: 3 ignored, 1 linked, 1 unreadable)"
    assert (await at.call("glob", pattern="f*")) == "found.txt\n(passed over: 3 ignored, 1 linked, 1 unreadable)"


@needs_rg
async def test_of_what_ripgrep_passes_over_only_a_part_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "FIRST", 0)
    at = world(tmp_path, max_file_bytes=200, ripgrep=RG)
    passed_over(at)
    found = await at.call("grep", pattern="TODO", output="files", glob="*.{txt,png}")
    assert found == "found.txt\n(passed over, at least: 1 binary)"


BAD = [("(", "no regular expression"), ("[a--b]", r"write `\\-`"), ("", "1 to"), ("a{1,2}{3}", "multiple repeat")]


@pytest.mark.parametrize(("pattern", "says"), BAD, ids=[row[0] or "empty" for row in BAD])
def test_a_regular_expression_that_can_not_be(pattern: str, says: str) -> None:
    with pytest.raises(ToolError, match=says) as caught:
        LinePattern(pattern)
    assert caught.value.code == "invalid_pattern"


@pytest.mark.parametrize("pattern", [r"(a|aa|a|a)+b\1$", r"(\w+\s?)+\1!$"])
async def test_a_pattern_that_tries_for_ever_is_stopped(tmp_path: Path, pattern: str) -> None:
    """Python's own `re` can't be, and holds up every other thread meanwhile."""
    at = world(tmp_path, search_limit_s=0.2)
    (at.root / "a.txt").write_text("a" * 60 + "b" + "!" + "\n")
    (at.root / "b.txt").write_text("word " * 12 + "?\n")
    assert (await at.said("grep", pattern=pattern)).startswith(("search_timeout", "(no matches)"))


SAME = [
    r"\d{2}",
    "f{x}",
    "a{,3}",
    "a{}",
    r"[[:alpha:]]",
    "[]a]",
    "[^]a]",
    r"x{e<=1}",
    r"\{a",
    "[a&&b]",
    "[a||b]",
    "a{2",
]


@pytest.mark.parametrize("pattern", SAME)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_it_means_what_it_means_to_python(pattern: str) -> None:
    """The module that matches would take some of these for something else."""
    texts = [
        "",
        "a",
        "aa",
        "aaa",
        "a{}",
        "f{x}",
        "x",
        "y",
        "12",
        "]",
        "[:",
        "[",
        ":]",
        "l]",
        "&",
        "x{e<=1}",
        "{a",
        "a{2",
        "|",
        "e",
    ]
    given = LinePattern(pattern)
    assert [given.matches(each, 1) for each in texts] == [re.search(pattern, each) is not None for each in texts]


# ---- what ripgrep is asked ------------------------------------------------------------------------------------------


@pytest.mark.costly
def test_the_other_cases_of_letters_are_all_of_them() -> None:
    """`prefilter` has a table of them; this is what it must hold."""
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    for letter in "abcdefghijklmnopqrstuvwxyz":
        first = prefilter(letter, ignore_case=True)
        assert first is not None
        assert set(regex.findall(letter, everything, regex.IGNORECASE)) <= set(first.pattern)


PIECES = [
    "a",
    "b",
    "é",
    "ß",
    "i",
    "K",
    "s",
    "İ",
    "σ",
    "\\.",
    ".",
    "\\w",
    "\\W",
    "\\d",
    "\\D",
    "\\s",
    "\\S",
    "\\b",
    "\\B",
    "^",
    "$",
    "[ab]",
    "[^a]",
    "[a-é]",
    "[\\w.]",
    "[\\d-]",
    "(?=a)",
    "(?!a)",
    "(?<=a)",
    "(?<!b)",
    "(a|b)",
    "(?:|a)",
    "(a)\\1",
    "(?i:k)",
    "(?-i:K)",
    "\\x41",
    "\\Z",
    "\\A",
    "{",
    "}",
    "[[]",
    "[\\s]",
    "\\t",
    " ",
    "\ufeff",
    "(?>a|b)",
]
COUNTS = ["", "", "", "*", "+", "?", "{2}", "{0,2}", "*?", "{1,}", "{,2}"]
TEXTS = st.lists(
    st.one_of(
        st.text("abéßiIKkK\u212asſσςİı.A12 \t\r-{}[]é\u0301\ufeff", max_size=8).map(str.encode),
        st.binary(max_size=6).map(lambda data: data.replace(b"\0", b"")),
    ),
    max_size=4,
).map(b"\n".join)


@st.composite
def patterns(draw: Any) -> str:
    parts = draw(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(COUNTS)), min_size=1, max_size=4))
    fixed = ("^", "$", "\\b", "\\B", "\\Z", "\\A", "{", "(?=a)", "(?!a)", "(?<=a)", "(?<!b)")
    return "".join(piece if piece in fixed else piece + count for piece, count in parts)


@needs_rg
@pytest.mark.costly
@example(pattern="\\Z^", texts=[b"\xef\xbb\xbf\n"], ignore_case=False, rules=[])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pattern=patterns(),
    texts=st.lists(TEXTS, min_size=1, max_size=8),
    ignore_case=st.booleans(),
    rules=st.lists(
        st.sampled_from(["f1", "/f2", "!f1", "d/", "*.x", "!d/f3", "f[3-4]", "**/f5", "# no", "d/f0"]), max_size=3
    ),
)
def test_ripgrep_changes_nothing(
    tmp_path_factory: Any, pattern: str, texts: list[bytes], ignore_case: bool, rules: list[str]
) -> None:
    root = tmp_path_factory.mktemp("same")
    (root / "d").mkdir()
    for number, text in enumerate(texts):
        for name in (f"f{number}", f"d/f{number}", f"d/f{number}.x"):
            (root / name).write_bytes(text)
    if rules:
        (root / ".gitignore").write_text("\n".join(rules))
    place = Roots([str(root)]).place(".")
    try:
        asked = Search(pattern=LinePattern(pattern, ignore_case=ignore_case), limit=10_000)
    except ToolError:
        return
    with pytest.MonkeyPatch.context() as patch:
        # At once, for all but the first file, and for none.
        said = []
        for first, rg in ((0, ""), (0, RG), (1, RG), (100, RG)):
            patch.setattr(searching, "FIRST", first)
            said.append(found_in(search(place, asked, FilesOptions(ripgrep=rg or ""), Watch(60))))
    assert len(set(said)) == 1
