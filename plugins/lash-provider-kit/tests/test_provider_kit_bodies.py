"""A request's body that nobody reads to its end, as when a call is cancelled or a connection breaks meanwhile."""

from __future__ import annotations

import gc
import warnings

import httpx
import pytest

from lash_provider_kit.carriers import JOINED
from lash_provider_kit.failures import AttemptFailed
from lash_provider_kit.transport import HttpTransport, Timeouts


class Breaking(httpx.AsyncBaseTransport):
    """A connection that breaks amid the body."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for _ in request.stream:
            raise httpx.WriteError("broken")
        raise AssertionError("there was no body")


@pytest.mark.parametrize("size", [2, JOINED + 1], ids=["small", "large"])
async def test_a_body_left_halfway_is_nothing_for_the_garbage_collector(size: int) -> None:
    """Trio tells of each generator that is left to it, which in a program of strict warnings is an error."""
    http = HttpTransport(provider="p", url="http://127.0.0.1/v1", headers={}, timeouts=Timeouts(), transport=Breaking())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(AttemptFailed) as failed:
            await http.post([b"x" * size])
        await http.aclose()
        failed.value.__traceback__ = None
        del failed
        gc.collect()
    assert [str(each.message) for each in warned] == []


async def test_a_small_body_can_be_read_by_a_test() -> None:
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        return httpx.Response(200)

    http = HttpTransport(
        provider="p", url="http://127.0.0.1/v1", headers={}, timeouts=Timeouts(), transport=httpx.MockTransport(answer)
    )
    for _ in range(2):
        await http.post([b"{", b"}"])
    await http.aclose()
    assert asked == [b"{}", b"{}"]
