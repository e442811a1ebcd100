"""`lash plugins bisect`: the search alone, and with real processes and really installed plugins."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_kit import Cli, Ended
from hypothesis import given, settings, strategies as st

from lash_framework.cli.bisection import search

# ---- the search -----------------------------------------------------------------------------------------------------


def found(suspects: list[str], fails: Callable[[frozenset[str]], bool]) -> tuple[frozenset[str], int]:
    """What it finds, and how often it asked."""
    looking, asked = search(suspects), 0
    try:
        wanted = next(looking)
        while True:
            asked += 1
            wanted = looking.send(fails(wanted))
    except StopIteration as done:
        return done.value, asked


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_fails_together_is_found_in_about_log2_n_runs_each(data: st.DataObject) -> None:
    suspects = [f"p{number}" for number in range(data.draw(st.integers(1, 40)))]
    culprits = frozenset(data.draw(st.lists(st.sampled_from(suspects), min_size=1, max_size=3, unique=True)))
    what, asked = found(suspects, lambda on: on >= culprits)
    assert what == culprits
    assert asked <= len(culprits) * (math.ceil(math.log2(len(suspects))) + 1)


def test_of_two_that_fail_alone_one_is_found() -> None:
    what, _ = found(list("abcdefgh"), lambda on: bool(on & {"b", "g"}))
    assert what == {"b"}


def test_sixty_four_suspects_take_seven_runs() -> None:
    assert found([f"{number:02}" for number in range(64)], lambda on: "41" in on)[1] == 7


# ---- the command ----------------------------------------------------------------------------------------------------

# Fails as the test says: it looks at what is off, as lash would, and writes down each run.
COMMAND = """
import os, sys, time
off = os.environ["LASH_PLUGINS_DISABLED"].strip("[]").split(",")
on = {f"t-{name}" for name in "abcdefgh"} - {*off}
with open("runs", "a") as runs:
    print(*sorted(on), file=runs)
print("something is said")
"""


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    for name in "abcdefgh":
        info = tmp_path / f"t_{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: t-{name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[lash]\nt-{name} = t_{name}\n")
        (tmp_path / f"t_{name}.py").write_text("")
    return Cli(tmp_path)


def bisect(lash: Cli, fails: str, *options: str) -> Ended:
    """Bisect a command that ends as this line says, in which `on` is what is on."""
    lash.write("command.py", f"{COMMAND}\n{fails}\n")
    command = ["plugins", "bisect", *options, "--", sys.executable, "command.py"]
    return lash.run(*command, env={"PYTHONPATH": str(lash.folder)})


def runs(lash: Cli) -> list[set[str]]:
    return [{*line.split()} for line in (lash.folder / "runs").read_text().splitlines()]


@pytest.mark.costly
def test_the_plugin_that_breaks_a_command_is_found(lash: Cli) -> None:
    done = bisect(lash, "sys.exit(3 * ('t-f' in on))")
    assert done.code == 0, done
    assert "`t-f` makes it end with 3" in done.out
    assert "something is said" not in done.out
    # All, none, log2 of eight and whatever else is installed, and the culprit alone.
    assert len(runs(lash)) <= 2 + 5 + 1
    assert "run 1: " in done.out
    assert "always on: `mode-standard`, `provider-scripted`, `store-sql`" in done.out


@pytest.mark.costly
def test_a_pair_that_only_fails_together_is_named_as_one(lash: Cli) -> None:
    done = bisect(lash, "sys.exit({'t-b', 't-g'} <= on)")
    assert "`t-b`, `t-g` make it end with 1, but only together" in done.out


@pytest.mark.costly
def test_what_the_command_needs_is_told_from_what_breaks_it(lash: Cli) -> None:
    """Without `t-c` it fails too, but otherwise."""
    done = bisect(lash, "sys.exit(2 if 't-c' not in on else 't-e' in on)")
    assert "`t-e` makes it end with 1" in done.out
    assert "without `t-c` the command ends with 2 instead" in done.out
    again = bisect(lash, "sys.exit(2 if 't-c' not in on else 't-e' in on)", "--keep", "t-c")
    assert "`t-e` makes it end with 1" in again.out
    assert "instead" not in again.out


@pytest.mark.costly
def test_a_command_that_never_fails_is_run_once(lash: Cli) -> None:
    done = bisect(lash, "")
    assert (done.code, len(runs(lash))) == (1, 1)
    assert "it doesn't fail: with all plugins on" in done.out


@pytest.mark.costly
def test_a_command_that_always_fails_is_run_twice(lash: Cli) -> None:
    done = bisect(lash, "sys.exit(1)")
    assert (done.code, len(runs(lash))) == (1, 2)
    assert "it fails as well without any of the suspects: one of" in done.out


@pytest.mark.costly
def test_a_command_that_dies_is_told_by_its_signal(lash: Cli) -> None:
    assert "`t-a` makes it die of signal 6" in bisect(lash, "if 't-a' in on: os.abort()").out


@pytest.mark.costly
def test_a_command_that_hangs_has_failed(lash: Cli) -> None:
    done = bisect(lash, "if 't-d' in on: time.sleep(600)", "--timeout", "2")
    assert "`t-d` makes it take too long" in done.out


@pytest.mark.costly
def test_what_is_off_already_stays_off_and_is_no_suspect(lash: Cli) -> None:
    lash.write("lash.toml", '[plugins]\ndisabled = ["t-a", "hello"]\n')
    done = bisect(lash, "sys.exit('t-h' in on)", "-v")
    assert "`t-h` makes it" in done.out
    assert "something is said" in done.out, "-v shows the command's output"
    assert all("t-a" not in on for on in runs(lash))


@pytest.mark.costly
def test_a_plugin_that_kills_whoever_imports_it_is_found(lash: Cli) -> None:
    lash.write("t_f.py", "import os\nos._exit(9)\n")
    command = ["plugins", "bisect", "--", sys.executable, "-m", "lash_framework", "modes", "list"]
    done = lash.run(*command, env={"PYTHONPATH": str(lash.folder)})
    assert "looking for plugins ends with 9" in done.err
    assert "`t-f` makes it end with 9" in done.out


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--", "no-such-program"], "no program `no-such-program` is found"),
        (["--keep", "t-z", "--", "true"], "unknown plugin `t-z`"),
        ([], "Missing argument"),
    ],
)
@pytest.mark.costly
def test_what_cant_be_run_is_said(lash: Cli, arguments: list[str], said: str) -> None:
    done = lash.run("plugins", "bisect", *arguments, env={"PYTHONPATH": str(lash.folder)})
    assert (done.code, said in done.err) == (2, True), done


@pytest.mark.costly
def test_an_interrupt_ends_the_command_and_says_what_is_known(lash: Cli) -> None:
    waits = "if len(on) == 8: sys.exit(1)\nif on: print('waits', os.getpid(), flush=True); time.sleep(600)"
    lash.write("command.py", f"{COMMAND}\n{waits}")
    env = {"PYTHONPATH": str(lash.folder)}
    process = lash.start("plugins", "bisect", "-v", "--", sys.executable, "command.py", env=env)
    assert process.stdout is not None
    line = next(line for line in process.stdout if b"waits" in line)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"left after 3 runs; it fails with all suspects, and not without them" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(line.split()[-1]), 0)
