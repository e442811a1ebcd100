"""Cases: where the key goes, and what is kept of requests."""

from __future__ import annotations

import json

from lash_hookspecs.testing.provider.caller import KEY
from lash_hookspecs.testing.provider.kit import Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.requests import sent
from lash_hookspecs.testing.provider.wire import Ability, Fault, Text

__all__ = ["CASES"]

CASES = Cases("requests")


@CASES("key-in-a-header")
async def key_in_a_header(scene: Scene) -> None:
    """The key goes with every request, in its headers: neither in the body nor in the URL, which people log."""
    await sent(scene)
    request = scene.server.requests[0]
    check(any(KEY in value for value in request.headers.values()), "no header has the key")
    check(KEY.encode() not in request.body, "the body has the key")
    check(KEY not in request.target, "the URL has the key")


@CASES("json-content-type")
async def json_content_type(scene: Scene) -> None:
    """A request says that it is JSON, and how long it is."""
    await sent(scene)
    headers = scene.server.requests[0].headers
    check(headers["content-type"].startswith("application/json"), headers["content-type"])
    same(int(headers["content-length"]), len(scene.server.requests[0].body))


@CASES("capture", Ability.CAPTURE)
async def capture(scene: Scene) -> None:
    """Where requests are kept, an answer holds the body that was sent."""
    scene.open(capture_requests=True)
    scene.server.answer(scene.say(*hello()))
    answer = await scene.ask()
    same(json.loads(answer.request_body or "null"), scene.server.requests[0].json)


@CASES("capture-of-a-failure", Ability.CAPTURE)
async def capture_of_a_failure(scene: Scene) -> None:
    """So does a failure."""
    scene.open(capture_requests=True)
    scene.server.answer(scene.refuse(Fault.INVALID))
    error = await scene.fail()
    same(json.loads(error.request_body or "null"), scene.server.requests[0].json)


@CASES("no-capture")
async def no_capture(scene: Scene) -> None:
    """Where they aren't, nothing of them is in an answer."""
    scene.server.answer(scene.say(*hello(Text("x"))))
    same((await scene.ask()).request_body, None)
