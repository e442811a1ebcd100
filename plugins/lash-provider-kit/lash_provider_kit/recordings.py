"""Recorded exchanges with real services, for tests: read where they lie, skipped by name where they don't.

They are third-party data and no part of the project: files in VCR's YAML below a folder `shared/wire` beside the
repository (or further up), or below what `LASH_TEST_WIRE` names.
"""

from __future__ import annotations

import json
import os
import random
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmCallError, LlmResponse, Provider
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    import httpx
    import pytest

__all__ = ["Exchange", "cuts", "exchanges", "over", "played", "wire_folder"]


@frozen(kw_only=True)
class Exchange:
    """One recorded request and its response. `name` is `FOLDER/FILE/NUMBER`; `request` is None without a JSON body."""

    name: str
    method: str
    uri: str
    request: Any = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def content_type(self) -> str:
        """Of the response."""
        return self.headers.get("content-type", "")

    @property
    def is_stream(self) -> bool:
        """Whether the response is a stream of events."""
        return "event-stream" in self.content_type


def wire_folder() -> Path | None:
    """Where the recordings are, if anywhere."""
    if named := os.environ.get("LASH_TEST_WIRE"):
        return Path(named) if Path(named).is_dir() else None
    places = (above / "shared" / "wire" for above in Path(__file__).resolve().parents)
    return next((place for place in places if place.is_dir()), None)


@cache
def exchanges(*folders: str, uri: str = "") -> tuple[Exchange, ...]:
    """The exchanges of these folders (patterns such as `compat-*`) whose URI holds `uri`; none where there are none."""
    root = wire_folder()
    try:
        import yaml  # type: ignore[import-untyped]  # it has no types of its own
    except ImportError:
        return ()
    if root is None:
        return ()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    paths = [path for folder in folders for place in sorted(root.glob(folder)) for path in sorted(place.glob("*.yaml"))]
    found = [
        _exchange(f"{path.parent.name}/{path.stem.removeprefix('test_')}/{number}", each)
        for path in paths
        for number, each in enumerate(yaml.load(path.read_text(encoding="utf-8"), loader)["interactions"])
        if uri in each["request"]["uri"]
    ]
    return tuple(found)


def _exchange(name: str, recorded: Mapping[str, Any]) -> Exchange:
    request, response = recorded["request"], recorded["response"]
    sent = request.get("parsed_body")
    if sent is None and request.get("body"):
        sent = _json(_bytes(request))
    return Exchange(
        name=name,
        method=request["method"],
        uri=request["uri"],
        request=sent,
        status=response["status"]["code"],
        headers={key.lower(): ", ".join(values) for key, values in response["headers"].items()},
        body=_bytes(response),
    )


def _bytes(part: Mapping[str, Any]) -> bytes:
    if "parsed_body" in part:
        return json.dumps(part["parsed_body"]).encode()
    body = part.get("body") or ""
    if isinstance(body, Mapping):
        body = b64decode(body["base64_string"]) if "base64_string" in body else body.get("string") or ""
    return body if isinstance(body, bytes) else body.encode()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def cuts(exchange: Exchange, ways: int = 40) -> Iterator[list[bytes]]:
    """The response's body cut into reads: byte by byte, then `ways` times at places that its name decides."""
    body, rng = exchange.body, random.Random(exchange.name)
    yield [body[at : at + 1] for at in range(len(body))]
    for _ in range(ways):
        places = [0, *sorted(rng.sample(range(1, len(body)), min(len(body) - 1, rng.randint(1, 30)))), len(body)]
        yield [body[start:end] for start, end in pairwise(places)]


async def played(
    exchange: Exchange, open: Callable[[httpx.AsyncBaseTransport], Provider], reads: Sequence[bytes] = ()
) -> tuple[LlmResponse | LlmCallError, str]:
    """What a provider makes of a recorded response that comes in these `reads`, or in one; and the text it streamed.

    `open` makes the provider, which asks the transport that it is given; then it is closed.
    """
    import httpx

    from lash_hookspecs.testing.provider import Caller

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for read in reads or [exchange.body]:
                yield read

    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(exchange.status, headers={"content-type": exchange.content_type}, stream=Body())

    caller = Caller(open(httpx.MockTransport(respond)))
    try:
        return await caller.ask(), caller.text
    except LlmCallFailed as failed:
        return failed.error, caller.text


def over(found: Sequence[Exchange]) -> pytest.MarkDecorator:
    """A test's parameter `exchange`; without any, the test is skipped by name."""
    import pytest

    reason = "no recordings in `shared/wire` (or what LASH_TEST_WIRE names), or no PyYAML to read them"
    missing = pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))
    return pytest.mark.parametrize("exchange", [pytest.param(each, id=each.name) for each in found] or [missing])
