"""What every effect host must do, as cases that its own tests run.

With pytest, one line is enough (see `conformance`)::

    test_host = conformance(lambda folder: open_my_host(folder), durable=True)

With a harness of your own, `effect_cases(durable=…)` gives the cases, and `await case.run(open_host)` checks one. The
cases know no test framework: one that fails raises `AssertionError`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lash_hookspecs.testing.effects import every, keeping  # noqa: F401  # their cases are in the list from now on
from lash_hookspecs.testing.effects.kit import CASES, EffectCase, OpenHost

__all__ = ["EffectCase", "OpenHost", "conformance", "effect_cases"]


def effect_cases(*, durable: bool = False) -> list[EffectCase]:
    """The cases for a host that is `durable`, or isn't."""
    return [each for each in CASES if durable or not each.durable]


def conformance(open_host: OpenHost, *, durable: bool = False) -> Any:
    """All cases as one pytest test. `durable`: the host keeps outcomes, as its `EffectHostSpec` says."""
    import pytest

    @pytest.mark.anyio
    @pytest.mark.parametrize("case", effect_cases(durable=durable), ids=lambda case: str(case.id))
    async def test_effect_host(case: EffectCase, tmp_path: Path) -> None:
        await case.run(lambda: open_host(tmp_path))

    return test_effect_host
