"""What a start costs: `lash --help` and the kernel's import against bare imports, and each further plugin.

Run: `python bench/bench_startup.py`.

Every figure is the median of interleaved runs, each in a process of its own; `min` is given too, because on a shared
machine the median also measures the neighbours. Plugins are made in a temporary folder that is put on PYTHONPATH.

Last results (2 shared and very busy cores, Python 3.11.7, Linux, 11 runs each, bytecode cached):

                                                 median ms    min ms
import click, pluggy, importlib_metadata             225.0     199.5
lash --help                                          178.0     130.2
lash --help, 40 further plugins                      177.6     144.1
lash plugins list                                    591.6     471.3
lash plugins list, 40 further plugins                707.3     516.9
import of the kernel's dependencies                  393.5     282.5
import lash_framework                                 79.8      48.0
from lash_framework import Lash                      586.9     462.9
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

RUNS = 41
FURTHER = 40
BARE = [sys.executable, "-c", "import click, pluggy, importlib_metadata"]
NEEDED = "anyio, attrs, cattrs, importlib_metadata, jsonschema_rs, orjson, platformdirs, pluggy"  # by the kernel
DEPENDENCIES = [sys.executable, "-c", f"import {NEEDED}"]
PACKAGE = [sys.executable, "-c", "import lash_framework"]
KERNEL = [sys.executable, "-c", "from lash_framework import Lash"]
HELP = [sys.executable, "-m", "lash_framework.cli", "--help"]
LIST = [sys.executable, "-m", "lash_framework.cli", "plugins", "list"]

PLUGIN = """
from lash_hookspecs import hookimpl

@hookimpl
def lash_tools(ctx):
    return []
"""


def make_plugins(folder: Path, count: int) -> None:
    """Installed distributions, as an installer leaves them, each with one plugin of one hook."""
    for number in range(count):
        name = f"bench_plugin_{number}"
        (folder / f"{name}.py").write_text(PLUGIN)
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[lash]\nbench-{number} = {name}\n")


def measure(cases: dict[str, tuple[list[str], dict[str, str]]]) -> dict[str, list[float]]:
    """Milliseconds per case, the cases taking turns so that a busy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(RUNS + 2):
        for name, (command, env) in cases.items():
            start = time.perf_counter()
            subprocess.run(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, check=True)
            if turn >= 2:  # the first ones write bytecode and fill caches
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_plugins(folder, FURTHER)
        inherited = os.environ.get("PYTHONPATH", "")
        more = {"PYTHONPATH": f"{folder}{os.pathsep}{inherited}" if inherited else str(folder)}
        times = measure(
            {
                "import click, pluggy, importlib_metadata": (BARE, {}),
                "lash --help": (HELP, {}),
                f"lash --help, {FURTHER} further plugins": (HELP, more),
                "lash plugins list": (LIST, {}),
                f"lash plugins list, {FURTHER} further plugins": (LIST, more),
                "import of the kernel's dependencies": (DEPENDENCIES, {}),
                "import lash_framework": (PACKAGE, {}),
                "from lash_framework import Lash": (KERNEL, {}),
            }
        )
    print(f"{'':48}{'median ms':>10}{'min ms':>10}")
    for name, each in times.items():
        print(f"{name:48}{median(each):10.1f}{min(each):10.1f}")
    bare, short, long, listed, listed_more, needed, package, kernel = times.values()
    for label, figure in (("median", median), ("min", min)):
        print(
            f"{label}: --help is {figure(short) / figure(bare):.2f} of the bare imports; a further plugin costs it "
            f"{(figure(long) - figure(short)) / FURTHER:.2f} ms, and `plugins list` "
            f"{(figure(listed_more) - figure(listed)) / FURTHER:.2f} ms; `import lash_framework` is "
            f"{figure(package) / figure(needed):.2f} of its dependencies', with `Lash` "
            f"{figure(kernel) / figure(needed):.2f}"
        )


if __name__ == "__main__":
    main()
