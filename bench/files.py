"""What the tools for files cost over what they stand for: a read over `open().read()`, a search over ripgrep's own.

Run: `python bench/files.py` (a minute). It makes a folder of 20,000 files, and takes it away again.

A read is the tool's body, its arguments checked by nobody: the difference of the quickest of many alternating samples,
since a shared machine only ever adds time. Of a search the ratio to `rg` with the same pattern is told: the median of
ratios of neighbours in one alternating run, each with warm files. Without ripgrep the plugin searches in Python.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from lash_hookspecs import ToolCallContext
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_files.tools import files_tools

FILES, PER_FOLDER = 20_000, 50
READS, SEARCHES = 2000, 15
CTX = ToolCallContext(session_id="s", turn_id="t", call_id="c", tool_name="x", plugin_id="p", idempotency_key="k")
LINE = "    the quick brown fox jumps over the lazy dog, time and again\n"
PATTERNS = {"rare (in 20 files)": r"needle_\d+", "common (in all)": r"quick \w+", "nowhere": "unheard-of"}


def rows(root: Path) -> dict[str, Path]:
    """Files to read, by what they are."""
    made = {}
    for name, lines in {"20 lines": 20, "200 lines": 200, "2,000 lines": 2000}.items():
        made[name] = root / f"read-{lines}.txt"
        made[name].write_text(LINE * lines, encoding="utf-8")
    return made


def tree(root: Path) -> None:
    """20,000 files of about 3 kB."""
    for number in range(FILES):
        folder = root / f"d{number // PER_FOLDER // 20:02}" / f"e{number // PER_FOLDER % 20:02}"
        if number % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        text = LINE * (10 + number % 70) + (f"needle_{number}\n" if number % 1000 == 0 else "")
        (folder / f"f{number}.txt").write_text(text, encoding="utf-8")


def plain_read(path: Path) -> str:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123  # what the figure is about
        return file.read()


async def reads(root: Path) -> None:
    """The table of reads."""
    tool = next(each for each in files_tools(FilesOptions(roots=(str(root),))) if each.manifest.name == "read_file")
    print("| a read of | `open().read()`, µs | more by the plugin, µs | asked |\n| --- | --- | --- | --- |")
    for name, path in rows(root).items():
        args: dict[str, Any] = {"path": path.name}
        beside, ours = [], []
        for _ in range(READS):
            started = time.perf_counter()
            plain_read(path)
            between = time.perf_counter()
            await tool.call(CTX, args)
            ours.append(time.perf_counter() - between)
            beside.append(between - started)
        print(f"| {name} | {min(beside) * 1e6:,.0f} | {(min(ours) - min(beside)) * 1e6:,.0f} | ≤ 150 |")


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def searches(root: Path, rg: str | None) -> None:
    """The table of searches."""
    from lash_plugin_tools_files.patterns import LinePattern
    from lash_plugin_tools_files.roots import Roots
    from lash_plugin_tools_files.searching import Search, search
    from lash_plugin_tools_files.watch import Watch

    if rg is not None:
        print(
            f"\n{subprocess.run([rg, '--version'], capture_output=True, text=True, check=True).stdout.splitlines()[0]}"
        )
    place = Roots([str(root)]).place(".")
    print(f"\n| a search of {FILES:,} files | `rg`, ms | the plugin, ms | ratio | asked | in Python, ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, pattern in PATTERNS.items():
        asked = Search(pattern=LinePattern(pattern))

        def plain(pattern: str = pattern) -> None:
            subprocess.run([str(rg), "--line-number", pattern, "."], cwd=root, stdout=subprocess.DEVNULL, check=False)

        def ours(program: str, asked: Search = asked) -> None:
            search(place, asked, FilesOptions(roots=(str(root),), ripgrep=program), Watch(600))

        alone = min(seconds(lambda: ours("")) for _ in range(2))
        if rg is None:
            print(f"| {name} | not installed | | | | {alone * 1000:,.0f} |")
            continue
        plain()
        both = [(seconds(plain), seconds(lambda: ours(str(rg)))) for _ in range(SEARCHES)]
        ratio = statistics.median(one / other for other, one in both)
        least = [min(each) * 1000 for each in zip(*both, strict=True)]
        print(f"| {name} | {least[0]:,.0f} | {least[1]:,.0f} | {ratio:.2f} | ≤ 1.5 | {alone * 1000:,.0f} |")


async def main() -> None:
    rg = shutil.which("rg", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        await reads(root)
        tree(root)
        searches(root, rg)


if __name__ == "__main__":
    anyio.run(main)
