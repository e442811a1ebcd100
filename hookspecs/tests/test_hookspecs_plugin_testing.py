"""What is seen of a plugin without a host."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pluggy
import pytest

from lash_hookspecs import hookimpl
from lash_hookspecs.testing.plugins import hooks_of, imported_by


@hookimpl
def lash_tools(ctx: object) -> list[object]:
    return []


@hookimpl
def lash_tolls(ctx: object) -> list[object]:
    return []


@hookimpl
def wanting(nothing_of_the_contract: object) -> list[object]:
    return []


def lash_modes() -> list[object]:
    """Not marked: no hook."""
    return []


def test_hooks_are_those_that_are_marked() -> None:
    assert hooks_of(SimpleNamespace(lash_tools=lash_tools, lash_modes=lash_modes)) == {"lash_tools"}


@pytest.mark.parametrize("hooks", [{"lash_tolls": lash_tolls}, {"lash_tools": wanting}], ids=["misspelt", "argument"])
def test_a_hook_that_is_none_is_an_error(hooks: dict[str, object]) -> None:
    with pytest.raises(pluggy.PluginValidationError):
        hooks_of(SimpleNamespace(**hooks))


def test_what_code_imports_is_seen_from_outside() -> None:
    found = imported_by("import wave; print('a word of its own')")
    assert "wave" in found
    assert "lash_hookspecs" not in found
    with pytest.raises(subprocess.CalledProcessError):
        imported_by("import there_is_no_such_module")
