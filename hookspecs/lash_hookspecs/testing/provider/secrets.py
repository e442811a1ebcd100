"""Cases: no text that leaves a provider holds its key. Each ends in a search through all that there is."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.testing.provider.asking import asked, user
from lash_hookspecs.testing.provider.caller import KEY
from lash_hookspecs.testing.provider.kit import Cases, Scene, check, hello
from lash_hookspecs.testing.provider.server import document, garbage, refused_origin, reset, status
from lash_hookspecs.testing.provider.wire import Ability, Fails, Fault, Text

__all__ = ["CASES"]

CASES = Cases("secrets", network=True)


def _search(name: str, prepare: Callable[[Scene], None], statement: str, *needs: Ability) -> None:
    async def run(scene: Scene) -> None:
        prepare(scene)
        _clean(await _all_texts(scene, scene.ask))

    CASES.add(name, statement, run, *needs)


async def _all_texts(scene: Scene, ask: Callable[[], Awaitable[object]]) -> str:
    """All that a call leaves: answer, error, traceback with its chain, events, log, and the provider's own words."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)  # what libraries say when debugged is theirs
    try:
        outcome: object = await ask()
        told = repr(outcome)
    except LlmCallFailed as failed:
        lines = traceback.TracebackException.from_exception(failed, capture_locals=False).format(chain=True)
        told = f"{failed} {failed!r} {failed.error!r} {failed.args!r} {''.join(lines)}"
        each: BaseException | None = failed
        while each is not None:
            told += f" {each!r} {each.args!r} {vars(each)!r}"
            each = each.__cause__ or each.__context__
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    provider = scene.provider
    return f"{told} {scene.events!r} {log.getvalue()} {provider!r} {provider} {provider.capability('test-model')!r}"


def _clean(texts: str) -> None:
    for form in (KEY, quote(KEY, safe=""), KEY[:30], KEY[-30:]):
        at = texts.find(form)
        check(at < 0, f"the key is in {texts[max(0, at - 60) : at]!r}")


_ECHO = f"Incorrect API key provided: {KEY}. Authorization: Bearer {KEY}, x-api-key={KEY}"


_search("answered", lambda scene: scene.server.answer(scene.say(*hello())), "An answer doesn't hold the key.")
_search(
    "echoed-by-a-refusal",
    lambda scene: scene.server.answer(scene.refuse(Fault.AUTH, message=_ECHO)),
    "A service that quotes the key in its refusal isn't quoted.",
)
_search(
    "echoed-by-a-page",
    lambda scene: scene.server.answer(status(500, f"<pre>{_ECHO}</pre>".encode())),
    "Nor is a page.",
)
_search(
    "echoed-instead-of-an-answer",
    lambda scene: scene.server.answer(document(f"<pre>{_ECHO}</pre>".encode(), content_type="text/html")),
    "Nor is a page that comes instead of an answer.",
)
_search(
    "echoed-in-the-stream",
    lambda scene: scene.server.answer(scene.say(Text("x"), Fails(Fault.SERVER, _ECHO))),
    "Nor is an error in the stream.",
    Ability.FAILS,
)
_search(
    "echoed-at-the-limit",
    lambda scene: scene.server.answer(scene.refuse(Fault.SERVER, message="x" * 1000 + KEY + "y" * 5000)),
    "Shortening a text leaves no half of a key.",
)
_search(
    "echoed-and-repeated",
    lambda scene: scene.server.answer(
        scene.refuse(Fault.RATE, message=_ECHO, retry_after="1"), scene.refuse(Fault.INVALID, message=_ECHO)
    ),
    "What is told of waits and earlier attempts doesn't hold the key.",
)
_search("reset", lambda scene: scene.server.answer(*[reset()] * 9), "A broken connection's error doesn't hold it.")
_search("garbage", lambda scene: scene.server.answer(garbage()), "What isn't HTTP doesn't bring it up.")
_search(
    "refused-connection",
    lambda scene: _open_elsewhere(scene),
    "Nor does a connection that can't be made.",
)


def _open_elsewhere(scene: Scene) -> None:
    scene.open(base_url=refused_origin())


@CASES("captured", Ability.CAPTURE)
async def captured(scene: Scene) -> None:
    """A request that is kept has no key, though the user wrote it into the conversation."""
    scene.open(capture_requests=True)
    scene.server.answer(scene.say(*hello()))
    _clean(await _all_texts(scene, lambda: scene.ask(asked(user(f"my key is {KEY}")))))


@CASES("malformed-event")
async def malformed_event(scene: Scene) -> None:
    """An event that can't be read, and is shown, is shown without the key."""
    first, *_ = scene.wire.stream([Text("x")])
    from attrs import evolve

    scene.server.answer(evolve(scene.say(), pieces=(first, b"data: {" + _ECHO.encode() + b"\n\n")))
    _clean(await _all_texts(scene, scene.ask))
