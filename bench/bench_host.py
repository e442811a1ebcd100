"""What plugins cost: starting a host, opening a session, calling hooks.

Run: `python bench/bench_host.py` (some ten seconds). Figures are the best of 100 short rounds, since a shared machine
only ever adds time; `bench/README.md` holds the last ones.

The runners' figures are of hooks that a turn calls not for the first time: their contexts are there, as they are for
every checkpoint but the first. Making them is shown apart.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import starmap
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
from attrs import frozen

from lash_framework.hooks import HookImpl, chain, collect, observe
from lash_framework.host import PluginHost
from lash_framework.prompt import OwnedContribution, OwnedLayer, PromptInputs, PromptRenderer
from lash_framework.state import PluginStates
from lash_hookspecs import (
    EnqueueMessages,
    Mode,
    ModeDriver,
    PluginInfo,
    PromptContribution,
    PromptLayer,
    PromptSlot,
    SessionPolicy,
    SessionStateSpec,
    TurnInput,
    hookimpl,
    tool,
)
from lash_hookspecs.contexts import PluginScope, SessionCall, SessionHookContext, TurnCall, TurnHookContext, binding

ROUNDS = 100
COUNT = 10
POLICY = SessionPolicy(model="provider:model")
DIRECTIVES = [EnqueueMessages.note("x")]


@frozen
class State:
    """A plugin's memory."""

    count: int = 0


def best(action: Callable[[], object], times: int) -> float:
    """Seconds per call."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            action()
        seconds.append((time.perf_counter() - start) / times)
    return min(seconds)


async def best_async(action: Callable[[], Awaitable[object]], times: int) -> float:
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            await action()
        seconds.append((time.perf_counter() - start) / times)
    return min(seconds)


def show(what: str, seconds: float, note: str = "") -> None:
    figure = f"{seconds * 1e6:9.2f} µs" if seconds < 1e-3 else f"{seconds * 1e3:9.2f} ms"
    print(f"{what:62}{figure}  {note}".rstrip())


# ---- the host -------------------------------------------------------------------------------------------------------


def make_plugin(index: int) -> Any:
    """A plugin with the hooks that plugins usually have."""
    id = f"plugin-{index:02}"

    async def function(text: str) -> str:
        """Return the text."""
        return text

    async def nothing(ctx: object) -> None:
        """Add nothing."""

    made = tool(name=f"tool_{index}")(function)
    return SimpleNamespace(
        lash_plugin_info=hookimpl(lambda: PluginInfo(id=id)),
        lash_tools=hookimpl(lambda ctx: [made]),
        lash_session_state=hookimpl(lambda: SessionStateSpec(state=State)),
        lash_session_opened=hookimpl(nothing),
        lash_checkpoint=hookimpl(lambda ctx: None),
        lash_before_turn=hookimpl(lambda ctx: None),
    )


MODE = Mode(mode_id="m", driver=ModeDriver(make=SimpleNamespace))


def host_figures() -> PluginHost:
    plugins = [make_plugin(index) for index in range(COUNT * 2)]
    show("start a host: 20 plugins with 6 hooks each", best(lambda: PluginHost(plugins, only=(), modes=[MODE]), 1))
    modes = [Mode(mode_id=f"m{index}", driver=MODE.driver) for index in range(ROUNDS)]
    host = PluginHost(plugins, only=(), modes=modes)
    names = iter(modes)
    show("resolve a composition of them", best(lambda: host.composition(next(names).mode_id), 1))
    return PluginHost(plugins[:COUNT], only=(), modes=[MODE])


def open_figures(host: PluginHost) -> None:
    host.composition("m")

    def open_session() -> PluginStates:
        states = PluginStates(host.composition("m"), {})
        _ = states.scopes
        return states

    show("open a session in a known composition: scopes of 10 plugins", best(open_session, 200), "asked for: < 100 µs")

    async def open_and_tell() -> None:
        composition = host.composition("m")
        await host.enter(composition)
        states = PluginStates(composition, {})
        call = SessionCall(session_id="s", mode_id="m", policy=POLICY, reason="opened")
        await observe(
            composition.hooks["lash_session_opened"],
            binding(SessionHookContext, states.scopes, call),
        )

    async def run() -> None:
        show("the same, and 10 `lash_session_opened` called", await best_async(open_and_tell, 100))

    anyio.run(run)


def memory_figures(host: PluginHost) -> None:
    composition = host.composition("m")
    gc.collect()
    before = sys.getallocatedblocks()
    idle = [PluginStates(composition, {}) for _ in range(1000)]
    blocks = sys.getallocatedblocks() - before
    print(f"{'an idle session, plugin states only':62}{sys.getsizeof(idle[0]):9} bytes, {blocks / 1000:.1f} blocks")


# ---- prompts --------------------------------------------------------------------------------------------------------


def contributions() -> list[tuple[str, PromptContribution]]:
    """A hundred, made anew as plugins do."""
    slots = tuple(PromptSlot)
    return [
        (
            f"p{n % COUNT}",
            PromptContribution(content=f"Line {n} of a prompt.", slot=slots[n % len(slots)], priority=n % 5),
        )
        for n in range(100)
    ]


def prompt_figures() -> None:
    layers = tuple(OwnedLayer(owner, PromptLayer()) for owner in ("host", "mode", "session", "turn"))
    offered = contributions()

    def render(renderer: PromptRenderer, offered: list[tuple[str, PromptContribution]]) -> None:
        renderer.render(PromptInputs(layers=layers, contributions=tuple(starmap(OwnedContribution, offered))))

    known = PromptRenderer()
    made = iter([contributions() for _ in range(ROUNDS * 10)])
    render(known, offered)
    show(
        "a prompt of 100 contributions, the same objects",
        best(lambda: render(known, offered), 10),
        "asked for: <= 100 µs",
    )
    show("the same, equal ones", best(lambda: render(known, next(made)), 10), "asked for: <= 100 µs")
    show("the same, rendered", best(lambda: render(PromptRenderer(), offered), 1))


# ---- runners --------------------------------------------------------------------------------------------------------

CALL = TurnCall(
    session_id="s",
    mode_id="m",
    policy=POLICY,
    turn_id="t",
    turn_input=TurnInput(),
    moment=lambda: (0, ()),
    tools=lambda: (),
)
SCOPES = {f"p{index}": PluginScope(f"p{index}") for index in range(COUNT)}
bind = binding(TurnHookContext, SCOPES, CALL)


async def none(ctx: object) -> None:
    """The usual answer."""


def plain_none(ctx: object) -> None:
    """The same from a plain function."""


async def one(ctx: object) -> list[EnqueueMessages]:
    return DIRECTIVES


async def awaits(ctx: object) -> None:
    await none(ctx)


async def suspends(ctx: object) -> None:
    await anyio.lowlevel.checkpoint()


async def same(ctx: object, policy: SessionPolicy) -> SessionPolicy:
    return policy


def impls(function: Callable[..., Any], *argnames: str) -> tuple[HookImpl, ...]:
    return tuple(HookImpl(plugin_id, function, argnames, "lash_bench") for plugin_id in SCOPES)


async def runner_figures() -> None:
    def make_contexts() -> None:
        binding(TurnHookContext, SCOPES, CALL)

    contexts = best(make_contexts, 200)
    show("ten contexts, made", contexts)
    for name, function in (("None", none), ("None, plain function", plain_none), ("one item", one)):
        table = impls(function, "ctx")
        seconds = await best_async(lambda table=table: collect(table, bind, item=EnqueueMessages), 200)
        show(f"collect, 10 implementations: {name}", seconds, "asked for: <= 5 µs")
    table = impls(same, "ctx", "policy")
    seconds = await best_async(lambda: chain(table, bind, POLICY, argname="policy", expects=SessionPolicy), 200)
    show("chain, 10 implementations", seconds, "asked for: <= 5 µs")
    for name, function, asked in (
        ("don't suspend", none, "asked for: <= 60 µs"),
        ("await, but don't suspend", awaits, "asked for: <= 60 µs"),
        ("suspend", suspends, ""),
    ):
        table = impls(function, "ctx")
        show(f"observe, 10 that {name}", await best_async(lambda table=table: observe(table, bind), 30), asked)


def main() -> None:
    host = host_figures()
    open_figures(host)
    memory_figures(host)
    prompt_figures()
    for backend in ("asyncio", "trio"):
        print(f"-- {backend}")
        anyio.run(runner_figures, backend=backend)


if __name__ == "__main__":
    main()
