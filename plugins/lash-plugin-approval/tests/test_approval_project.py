"""What is remembered of a project: its file, who may write there, and what in it approves nothing."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lash_plugin_approval import deciding, project
from lash_plugin_approval.options import ApprovalOptions


@pytest.fixture(autouse=True)
def _own_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own approvals are read or written."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def file_with(root: Path, text: str) -> Path:
    """What is remembered of a project, as text."""
    file = project.file_of(str(root))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_what_is_allowed_for_a_project_is_in_its_file_and_only_that(tmp_path: Path) -> None:
    root = str(tmp_path)
    for args in ({"command": "ls"}, {"command": "ls"}, {"command": "pwd"}):
        project.add(root, "tools", "shell", args)
    file = project.file_of(root)
    found = json.loads(file.read_text())
    assert (found["project"], len(found["allow"])) == (str(tmp_path.resolve()), 2)
    assert file.stat().st_mode & 0o077 == 0
    assert project.allows(root, "tools", "shell", {"command": "ls"})
    for owner, tool, args in [
        ("x", "shell", {"command": "ls"}),
        ("tools", "shell", {}),
        ("tools", "Shell", {"command": "ls"}),
    ]:
        assert not project.allows(root, owner, tool, args)
    assert not project.allows(str(tmp_path / "other"), "tools", "shell", {"command": "ls"})
    assert [each.name for each in file.parent.iterdir() if each.name.startswith(".")] == []


def _brings_the_old_file(root: Path, text: str) -> None:
    (root / ".lash").mkdir()
    (root / ".lash" / "approvals.json").write_text(text)


def _brings_the_file_by_its_name(root: Path, text: str) -> None:
    (root / project.file_of(str(root)).name).write_text(text)


def _names_another_project(root: Path, text: str) -> None:
    file_with(root, json.dumps({**json.loads(text), "project": str(root / "other")}))


def _names_no_project(root: Path, text: str) -> None:
    file_with(root, json.dumps({key: each for key, each in json.loads(text).items() if key != "project"}))


def _may_be_written_by_others(root: Path, text: str) -> None:
    file_with(root, text).chmod(0o666)


def _is_reached_by_a_link(root: Path, text: str) -> None:
    (root / "mine.json").write_text(text)
    file = file_with(root, "")
    file.unlink()
    file.symlink_to(root / "mine.json")


@pytest.mark.parametrize("how", [
    _brings_the_old_file,
    _brings_the_file_by_its_name,
    _names_another_project,
    _names_no_project,
    _may_be_written_by_others,
    _is_reached_by_a_link,
])  # fmt: skip
def test_a_folder_that_came_from_elsewhere_approves_nothing(how: Any, tmp_path: Path) -> None:
    """It brought `.lash/approvals.json` along, and with that its own permission to run what it liked."""
    allow = [{"owner": "tools", "tool": "shell", "args": {}}]
    how(tmp_path, json.dumps({"version": 1, "project": str(tmp_path.resolve()), "allow": allow}))
    assert not project.allows(str(tmp_path), "tools", "shell", {})


def test_a_project_that_holds_the_folder_of_approvals_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `HOME` is the folder that was cloned: it may have brought them along, and tools may write there."""
    assert project.is_kept_apart(str(tmp_path))
    (tmp_path / "home" / "x").mkdir(parents=True)
    (tmp_path / "l").symlink_to(tmp_path / "home")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))
    apart = [project.is_kept_apart(str(tmp_path / each)) for each in ("home", "home/x", "l", "hom", ".")]
    assert apart == [False, True, False, True, False]


def test_a_project_is_where_it_is_behind_all_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "l").symlink_to(tmp_path / "a")
    project.add(str(tmp_path / "l"), "tools", "x", {})
    assert project.allows(str(tmp_path / "a" / ".." / "a"), "tools", "x", {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"version": 2, "allow": []}',
        '{"version": 1, "allow": {}}',
        "[" * 100_000,
        "\ufeff{",
        "\xff",
    ],
)
def test_a_file_that_cant_be_read_allows_nothing_and_is_never_overwritten(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_with(tmp_path, text)
    assert not project.allows(str(tmp_path), "tools", "shell", {})
    assert "mend it, or remove it" in caplog.text
    with pytest.raises(OSError, match="can't be read"):
        project.add(str(tmp_path), "tools", "shell", {})
    assert file.read_text() == text


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_a_file_that_is_no_file_allows_nothing(kind: str, tmp_path: Path) -> None:
    file = file_with(tmp_path, "")
    file.unlink()
    file.mkdir() if kind == "folder" else os.mkfifo(file)
    assert not project.allows(str(tmp_path), "tools", "shell", {})


def _adds(root: str, number: int) -> None:
    for at in range(5):
        project.add(root, "tools", "shell", {"n": [number, at]})


def test_several_processes_that_write_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_adds, args=(str(tmp_path), number)) for number in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert len(json.loads(project.file_of(str(tmp_path)).read_text())["allow"]) == 20


def test_where_files_have_no_locks_nothing_is_kept_for_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows the plugin couldn't be imported, for a choice that it needn't offer."""
    options = ApprovalOptions(root=str(tmp_path))
    assert deciding._has_project(options)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("anew", project.__file__)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert not deciding._has_project(options)


def test_what_is_kept_is_closed_before_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to move a file that is open."""
    made: list[Any] = []
    open_one, replace = project.NamedTemporaryFile, Path.replace

    def kept(*args: Any, **options: Any) -> Any:
        made.append(open_one(*args, **options))
        return made[-1]

    def moved(path: Path, target: Path) -> Path:
        assert [each.closed for each in made if each.name == str(path)] == [True]
        return replace(path, target)

    monkeypatch.setattr(project, "NamedTemporaryFile", kept)
    monkeypatch.setattr(Path, "replace", moved)
    project.add(str(tmp_path), "tools", "x", {})
    assert len(made) == 1


def test_who_holds_the_lock_or_puts_a_pipe_there_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command of a model's may do that: the turn that learns an answer waited for it for ever."""
    monkeypatch.setattr(project, "PATIENCE_S", 0.02)
    root, file = str(tmp_path), file_with(tmp_path, "")
    file.unlink()
    lock = file.with_name(f"{file.name}.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another process holds its lock"):
            project.add(root, "tools", "x", {})
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        project.add(root, "tools", "x", {})
    assert not (tmp_path / "elsewhere").exists()
    lock.unlink()
    os.mkfifo(lock)
    project.add(root, "tools", "x", {})
    assert project.allows(root, "tools", "x", {})
