"""Cases: opaque state comes back to the route that made it, and to no other. The kit plays the host's part."""

from __future__ import annotations

from attrs import evolve

from lash_hookspecs.llm import (
    LlmResponse,
    LlmTerminalReason as Reason,
    ReasoningOutput,
    TextOutput,
)
from lash_hookspecs.llm_messages import (
    LlmBlock,
    LlmMessage,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import ProviderRoute
from lash_hookspecs.replay import foreign_origin, stamp_response, strip_foreign_replay
from lash_hookspecs.testing.provider.asking import asked, user
from lash_hookspecs.testing.provider.kit import Cases, Scene, check, hello, same
from lash_hookspecs.testing.provider.wire import MODEL, Ability, Call, Reasoning, Said, Sealed, Text

__all__ = ["CASES"]

CASES = Cases("replay")

_STATE = "b3BhcXVlLXN0YXRlLTEyMzQ="
_OTHER = "b3RoZXItc3RhdGUtOTg3NjU="


def _route(scene: Scene, **changes: str) -> ProviderRoute:
    endpoint = scene.open().capability(MODEL).endpoint
    route = ProviderRoute(provider_id=scene.wire.provider_id, endpoint=endpoint, model=MODEL)
    return evolve(route, **changes)


def _as_history(answer: LlmResponse) -> LlmMessage:
    """An answer as it is sent back, by a host."""
    blocks: list[LlmBlock] = []
    for part in answer.parts:
        if isinstance(part, TextOutput):
            blocks.append(TextBlock(text=part.text, response_meta=part.response_meta))
        elif isinstance(part, ReasoningOutput):
            blocks.append(ReasoningBlock(text=part.text, replay=part.replay))
        else:
            call = ToolCallBlock(call_id=part.call_id, tool_name=part.tool_name, input_json=part.input_json)
            blocks.append(evolve(call, replay=part.replay))
    return LlmMessage(LlmRole.ASSISTANT, tuple(blocks))


async def _sent_back(scene: Scene, answer: LlmResponse, *, by: ProviderRoute, to: ProviderRoute) -> bytes:
    """The bytes of the next request: the answer came `by` one route, and goes `to` one."""
    said = strip_foreign_replay(_as_history(stamp_response(answer, by)), to)
    results = tuple(
        ToolResultBlock(call_id=block.call_id, content="done", tool_name=block.tool_name)
        for block in (said.blocks if said else ())
        if isinstance(block, ToolCallBlock)
    )
    then = (LlmMessage(LlmRole.USER, results),) if results else (user("and now?"),)
    scene.server.answer(scene.say(*hello()))
    await scene.ask(asked(user("hello"), *([said] if said else []), *then))
    return scene.server.requests[-1].body


@CASES("same-route", Ability.SEALED)
async def same_route(scene: Scene) -> None:
    """Opaque state of reasoning goes back on its own route, unchanged."""
    here = _route(scene)
    scene.server.answer(scene.say(*hello(Reasoning("hm"), Sealed(_STATE), Text("Four."))))
    body = await _sent_back(scene, await scene.ask(), by=here, to=here)
    check(_STATE.encode() in body, "the state isn't sent")
    check(b"Four." in body, "the text isn't sent")


@CASES("state-alone", Ability.SEALED)
async def state_alone(scene: Scene) -> None:
    """Opaque state without any text that is shown goes back as well."""
    here = _route(scene)
    scene.server.answer(scene.say(*hello(Sealed(_STATE), Text("Four."))))
    check(_STATE.encode() in await _sent_back(scene, await scene.ask(), by=here, to=here), "the state isn't sent")
    same(scene.reasoning, "")


@CASES("several-states", Ability.SEALED)
async def several_states(scene: Scene) -> None:
    """Each piece of reasoning keeps its own state, in order."""
    here = _route(scene)
    said = (Reasoning("one"), Sealed(_STATE), Reasoning("two"), Sealed(_OTHER), Text("Four."))
    scene.server.answer(scene.say(*hello(*said)))
    body = await _sent_back(scene, await scene.ask(), by=here, to=here)
    check(0 <= body.find(_STATE.encode()) < body.find(_OTHER.encode()), "the states aren't sent in order")


def _foreign(name: str, change: dict[str, str]) -> None:
    async def run(scene: Scene) -> None:
        here = _route(scene)
        scene.server.answer(scene.say(*hello(Reasoning("hm"), Sealed(_STATE), Text("Four."))))
        body = await _sent_back(scene, await scene.ask(), by=evolve(here, **change), to=here)
        check(_STATE.encode() not in body, "the state is sent to whom it isn't from")
        check(b"Four." in body, "the text is lost")

    statement = f"State of another {name} isn't sent; the text stays."
    CASES.add(f"other-{name}", statement, run, Ability.SEALED, invariant=18)


_foreign("provider", {"provider_id": "another"})
_foreign("endpoint", {"endpoint": "https://elsewhere.example/v1"})
_foreign("model", {"model": "another-model"})


@CASES("call-state", Ability.SEALED_CALLS)
async def call_state(scene: Scene) -> None:
    """Opaque state of a call goes back with it, on its own route."""
    here = _route(scene)
    call = Call("call_1", "weather", ("{}",), sealed=_STATE)
    scene.server.answer(scene.say(*hello(call, reason=Reason.TOOL_USE)))
    check(_STATE.encode() in await _sent_back(scene, await scene.ask(), by=here, to=here), "the state isn't sent")


@CASES("foreign-call-state", Ability.SEALED_CALLS, invariant=18)
async def foreign_call_state(scene: Scene) -> None:
    """On another route the call stays, and its state doesn't."""
    here = _route(scene)
    call = Call("call_1", "weather", ("{}",), sealed=_STATE)
    scene.server.answer(scene.say(*hello(call, reason=Reason.TOOL_USE)))
    body = await _sent_back(scene, await scene.ask(), by=evolve(here, model="another"), to=here)
    check(_STATE.encode() not in body, "the state is sent to whom it isn't from")
    check(b"weather" in body, "the call is lost")


@CASES("stamps", invariant=19)
async def stamps(scene: Scene) -> None:
    """An answer's opaque state bears no other route than the provider's own: a host refuses one that does."""
    here = _route(scene)
    said: list[Said] = [Text("Four."), Call("call_1", "weather", ("{}",))]
    if Ability.SEALED not in scene.wire.cannot:
        said[:0] = [Reasoning("hm"), Sealed(_STATE)]
    scene.server.answer(scene.say(*hello(*said, reason=Reason.TOOL_USE)))
    same(foreign_origin(await scene.ask(), here), None)


@CASES("endpoints", invariant=18)
async def endpoints(scene: Scene) -> None:
    """The same model behind two gateways is two routes."""
    one = scene.open(base_url="http://one.example").capability(MODEL).endpoint
    other = scene.open(base_url="http://two.example").capability(MODEL).endpoint
    check(one and other and one != other, f"both are {one!r}")


@CASES("reasoning-without-state")
async def reasoning_without_state(scene: Scene) -> None:
    """Earlier reasoning that has no state stops nothing, and doesn't go back as the answer's text."""
    blocks = (ReasoningBlock(text="inner-voice"), TextBlock(text="Four."))
    scene.server.answer(scene.say(*hello()))
    await scene.ask(asked(user("hello"), LlmMessage(LlmRole.ASSISTANT, blocks), user("sure?")))
    check(b"Four." in scene.server.requests[0].body, "the text is lost")
