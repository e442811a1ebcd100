"""A program that a model may have written isn't found."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from lash_hookspecs.programs import find_program, is_below, own_environment


def program(folder: Path, name: str = "tool") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return str(folder / name)


def test_one_below_a_folder_that_is_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = program(tmp_path / "root" / "bin"), program(tmp_path / "bin")
    monkeypatch.setenv("PATH", os.pathsep.join(str(Path(each).parent) for each in (inside, outside)))
    assert shutil.which("tool") == inside
    assert find_program("tool", [str(tmp_path / "root")]) == outside
    assert find_program("tool", []) == inside
    assert find_program("tool", [str(tmp_path)]) is None
    assert find_program("nothing", []) is None


def test_so_is_one_that_is_named(tmp_path: Path) -> None:
    inside = program(tmp_path / "root")
    assert find_program(inside, [str(tmp_path / "root")]) is None
    assert find_program(inside, [str(tmp_path / "other")]) == inside


def test_a_link_counts_where_it_is_and_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = program(tmp_path / "root"), program(tmp_path / "bin", "other")
    (tmp_path / "bin" / "tool").symlink_to(inside)
    (tmp_path / "root" / "other").symlink_to(outside)
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    for name, folder in (("tool", "bin"), ("other", "root"), ("other", "alias")):
        monkeypatch.setenv("PATH", str(tmp_path / folder))
        assert find_program(name, [str(tmp_path / "root")]) is None, (name, folder)


def test_what_is_in_the_environment_of_this_process_is_nobodys_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = program(tmp_path / "root" / ".venv" / "bin")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "root" / ".venv"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "root" / each) for each in ("src", "user/site-packages")])
    held = {str(tmp_path / "root" / each) for each in (".venv", "user/site-packages")}
    assert {each for each in own_environment() if is_below(each, str(tmp_path))} == held
    assert find_program(own, [str(tmp_path / "root")]) == own
    assert find_program(own, [str(tmp_path / "root" / ".venv")]) is None  # then it is what is written


def test_below_is_a_matter_of_whole_names() -> None:
    assert is_below("/a/b", "/a")
    assert is_below("/a", "/a")
    assert is_below("/a", "/")
    assert not is_below("/ab", "/a")
    assert not is_below("/a", "/a/b")
