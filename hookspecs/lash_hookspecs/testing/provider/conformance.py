"""The whole kit as one pytest test, for a wire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.testing.provider.kit import ProviderCase
from lash_hookspecs.testing.provider.wire import Ability, Wire

__all__ = ["checked", "pytest_of"]


def checked(wire: Wire, cases: list[ProviderCase]) -> list[ProviderCase]:
    """The same cases. Raises `ConfigurationError` where the wire names an ability or a case that there isn't."""
    known = {*Ability, *(case.id for case in cases)}
    if unknown := [name for name in wire.cannot if name not in known]:
        raise ConfigurationError(f"`cannot` of {type(wire).__name__} names no ability and no case: {unknown}")
    return cases


def pytest_of(wire: Wire, cases: list[ProviderCase]) -> Callable[..., Awaitable[None]]:
    """A test with a parameter for each case, and each event loop that may make a difference to it."""
    import pytest

    def parameter(loop: str, case: ProviderCase) -> object:
        reason = case.reason_to_skip(wire)
        marks = [pytest.mark.skip(reason=f"{case.id}: {reason}")] if reason is not None else []
        return pytest.param(loop, case, id=f"{loop}-{case.id}", marks=marks)

    loops = ("asyncio", "trio")
    parameters = [parameter(loop, case) for loop in loops for case in cases if loop == loops[0] or case.network]

    @pytest.mark.anyio
    @pytest.mark.parametrize(("anyio_backend", "case"), parameters)
    async def test_provider(case: ProviderCase) -> None:
        await case.run(wire)

    return test_provider
