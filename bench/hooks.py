"""What plugins' hooks add to a turn, and what a tool call costs of our own.

Run: `python bench/hooks.py` (half a minute). `--profile` prints instead where the CPU time of turns with hooks goes.

Two hosts in one process take turns: one with 50 plugins of 10 hooks each, one without. Each is asked the same, a turn
of four tool rounds against a scripted model, and what the hooks add is the difference of the quickest turns, since a
shared machine only ever adds time. Hooks return None, as most do. A tool call's cost is the difference between a turn
of one round with one call and one with seventeen, per call: in CPU time, without a journal, whose write is not counted.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import anyio

from lash_framework import Lash
from lash_framework.session import Session
from lash_framework.settings import load_settings
from lash_hookspecs import PluginInfo, ProviderSpec, Tool, hookimpl, tool
from lash_plugin_provider_scripted import Call, Reply, ScriptedProvider, ScriptedSettings

PLUGINS = 50
ROUNDS = 4
TURNS = 60

ALL = (
    "before_turn",
    "prompt_contributions",
    "before_llm_call",
    "assistant_response",
    "checkpoint",
    "before_tool_call",
    "after_tool_call",
    "tool_result_view",
    "after_turn",
    "turn_committed",
)
"""The ten hooks of each plugin: all that a turn calls, but those of the reply's pieces and around effects."""

EITHER: dict[str, tuple[str, ...]] = {
    "all ten": ALL,
    "of the turn": ("before_turn", "prompt_contributions", "checkpoint", "after_turn", "turn_committed"),
    "of the model calls": ("before_llm_call", "assistant_response"),
    "of the tool calls": ("before_tool_call", "after_tool_call", "tool_result_view"),
}


def hook_plugin(index: int, hooks: Sequence[str]) -> Any:
    """A plugin whose hooks have nothing to say."""
    id = f"plugin-{index:02}"

    async def nothing(ctx: object) -> None:
        """Add nothing."""

    made = {f"lash_{name}": hookimpl(nothing) for name in hooks}
    return SimpleNamespace(lash_plugin_info=hookimpl(lambda: PluginInfo(id=id)), **made)


@tool(effect="pure")
async def look(text: str, often: int = 1) -> str:
    """Look at a text."""
    return text * often


def base_plugin(replies: Callable[[], list[Any]]) -> Any:
    """The model, which says the same in every turn, and the tool."""
    said: list[Any] = []

    def next_reply(request: object) -> Any:
        if not said:
            said.extend(replies())
        return said.pop(0)

    def lash_providers() -> list[ProviderSpec]:
        provider = ScriptedProvider(next_reply)
        return [ProviderSpec(provider_id="bench", settings=ScriptedSettings, open=lambda _: provider, live=False)]

    def lash_tools() -> list[Tool]:
        return [look]

    return SimpleNamespace(
        lash_plugin_info=hookimpl(lambda: PluginInfo(id="bench")),
        lash_providers=hookimpl(lash_providers),
        lash_tools=hookimpl(lash_tools),
    )


def rounds(count: int, calls: int = 1) -> list[Any]:
    """A turn with so many tool rounds."""
    one = [Reply(tool_calls=[Call("look", {"text": "x", "often": 2}) for _ in range(calls)]) for _ in range(count)]
    return [*one, "Done."]


async def opened(stack: AsyncExitStack, replies: Callable[[], list[Any]], hooks: Sequence[str], effects: str) -> Lash:
    plugins = [base_plugin(replies), *(hook_plugin(index, hooks) for index in range(PLUGINS if hooks else 0))]
    settings = load_settings(env={}, sets=[f"durability.effects={effects}", "plugins.disabled=hello"])
    made = Lash.open("sqlite://", model="bench:model", plugins=plugins, settings=settings)
    return await stack.enter_async_context(made)


async def quickest(hosts: dict[str, Lash], times: int) -> dict[str, tuple[float, float]]:
    """Seconds of the quickest turn of each: on the clock, and of CPU. They take turns, each in a session that is new
    every ten of them, so that all histories are as long."""
    best = dict.fromkeys(hosts, (9000000000.0, 9000000000.0))
    sessions: dict[str, Session] = {}
    gc.collect()
    gc.freeze()
    for number in range(times):
        for name, lash in hosts.items():
            if number % 10 == 0:
                sessions[name] = await lash.session(f"s{number}")
                await sessions[name].run("Warm up.")
            clock, cpu = time.perf_counter(), time.process_time()
            await sessions[name].run("Go on.")
            took = time.perf_counter() - clock, time.process_time() - cpu
            best[name] = min(best[name][0], took[0]), min(best[name][1], took[1])
    return best


def show(what: str, seconds: float, note: str = "") -> None:
    figure = f"{seconds * 1e6:9.2f} µs" if seconds < 1e-3 else f"{seconds * 1e3:9.2f} ms"
    print(f"{what:62}{figure}  {note}".rstrip())


async def hook_figures(effects: str, times: int) -> None:
    async with AsyncExitStack() as stack:
        hosts = {"none": await opened(stack, lambda: rounds(ROUNDS), (), effects)}
        for name, hooks in EITHER.items():
            hosts[name] = await opened(stack, lambda: rounds(ROUNDS), hooks, effects)
        best = await quickest(hosts, times)
    show(f"a turn of {ROUNDS} tool rounds, no hooks ({effects})", best["none"][0])
    for name in EITHER:
        wall, cpu = (best[name][each] - best["none"][each] for each in (0, 1))
        note = "asked for: <= 2 ms" if name == "all ten" else ""
        show(f"{PLUGINS} plugins add, hooks {name}", wall, f"{cpu * 1e3:.2f} ms CPU  {note}")


async def tool_figures(times: int) -> None:
    few, many = 1, 17
    async with AsyncExitStack() as stack:
        hosts = {
            str(calls): await opened(stack, lambda calls=calls: rounds(1, calls), (), "inline") for calls in (few, many)
        }
        best = await quickest(hosts, times)
    cost = (best[str(many)][1] - best[str(few)][1]) / (many - few)
    show("a tool call, all that is ours but the journal's write", cost, "asked for: <= 150 µs")


def profile(effects: str) -> None:
    import cProfile
    import pstats

    async def run() -> None:
        async with AsyncExitStack() as stack:
            lash = await opened(stack, lambda: rounds(ROUNDS), ALL, effects)
            await quickest({"": lash}, 10)
            profiler.enable()
            await quickest({"": lash}, 40)
            profiler.disable()

    profiler = cProfile.Profile()
    anyio.run(run)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--effects", choices=("journal", "inline"), default="journal")
    parser.add_argument("--turns", type=int, default=TURNS)
    chosen = parser.parse_args()
    if chosen.profile:
        profile(chosen.effects)
        return
    anyio.run(hook_figures, chosen.effects, chosen.turns)
    anyio.run(tool_figures, chosen.turns)


if __name__ == "__main__":
    main()
