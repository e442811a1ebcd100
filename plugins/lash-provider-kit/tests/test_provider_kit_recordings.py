"""Recordings by hand: played to a provider as they were sent, in any reads."""

from __future__ import annotations

import httpx
import pytest
from attrs import define, evolve

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    LlmCallError,
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    ProviderFailureKind,
    StreamDelta,
)
from lash_hookspecs.models import ModelCapability
from lash_provider_kit.recordings import Exchange, cuts, played

SAID = Exchange(
    name="a/b/0",
    method="POST",
    uri="https://service.example/v1",
    request={},
    status=200,
    headers={"content-type": "text/event-stream; charset=utf-8"},
    body="Grüße".encode(),
)


@define
class Reads:
    """Tells each read as a delta, and the type of the content as the answer."""

    transport: httpx.AsyncBaseTransport
    closed: bool = False

    def capability(self, model: str) -> ModelCapability:
        return ModelCapability()

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        async with (
            httpx.AsyncClient(transport=self.transport) as client,
            client.stream("POST", "https://recorded.example") as response,
        ):
            if response.status_code != 200:
                raise LlmCallFailed(LlmCallError(message=f"{response.status_code}", kind=ProviderFailureKind.HTTP))
            async for read in response.aiter_raw():
                await send([StreamDelta(f"{read.hex()} ")])
            return LlmResponse(full_text=response.headers["content-type"])

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("reads", [(), (b"Gr\xc3", b"\xbc\xc3\x9fe")], ids=["whole", "cut"])
async def test_an_answer_comes_with_its_status_type_and_reads(reads: tuple[bytes, ...]) -> None:
    opened: list[Reads] = []

    def open(transport: httpx.AsyncBaseTransport) -> Reads:
        opened.append(Reads(transport))
        return opened[0]

    answer, text = await played(SAID, open, reads)
    assert isinstance(answer, LlmResponse)
    assert answer.full_text == SAID.content_type
    assert [bytes.fromhex(each) for each in text.split()] == list(reads or [SAID.body])
    assert opened[0].closed


async def test_a_refusal_is_an_outcome_too() -> None:
    error, text = await played(evolve(SAID, status=503), Reads)
    assert isinstance(error, LlmCallError)
    assert (error.message, text) == ("503", "")


def test_cuts_lose_nothing_and_are_the_same_each_time() -> None:
    made = list(cuts(SAID, ways=10))
    assert len(made) == 11
    assert made[0] == [SAID.body[at : at + 1] for at in range(len(SAID.body))]
    assert {b"".join(each) for each in made} == {SAID.body}
    assert list(cuts(SAID, ways=10)) == made
    assert list(cuts(evolve(SAID, name="another"), ways=10)) != made
