"""`.ci/oldest.py` in environments that are made up: which promise it says was never tried."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "oldest.py"


def outcome(installed: dict[str, str]) -> int:
    """The exit status where each library is what is promised at least, but for these."""
    script: dict[str, Any] = run_path(str(SCRIPT))
    promised = {each.name: str(script["lowest"](each)) for _, each in script["promises"]()}
    assert installed.keys() <= promised.keys()
    script["main"].__globals__["version"] = {**promised, **installed}.__getitem__
    status: int = script["main"]()
    return status


def test_what_is_promised_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome({}) == 0
    assert "anyio" not in capsys.readouterr().out


def test_a_library_that_another_one_holds_up_is_named_with_who_promises_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`idna>=3.7` was promised, and nobody noticed that httpx2 brings 3.18."""
    assert outcome({"idna": "99.0"}) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("lash-plugin-tools-web promises idna>=")
    assert line.endswith("but 99.0 is what is tried")
