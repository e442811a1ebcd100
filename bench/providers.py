"""Model providers, each against raw httpx and raw aiohttp loops in the same run: `python bench/providers.py [WIRE…]`.

A wire is a name of `WIRES`, or `FOLDER:MODULE:CLASS:PLUGIN` of anybody's: the kit's adapter (`lash_hookspecs.testing.
provider.Wire`) and the module with the plugin's hooks. `--only FIGURE` picks figures, `--profile` shows where a request
of 10,002 messages, and 500 calls at once, spend their time. Times are CPU of the process, the least of several samples,
taken in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import importlib
import json
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmResponse, LlmTerminalReason, TokenUsage
from lash_hookspecs.llm_messages import LlmMessages, LlmRole, MessageRun, llm_text
from lash_hookspecs.testing.provider import Ends, ProviderSetup, Text, Used, Wire, WireServer, asked, unheard
from lash_hookspecs.testing.provider.server import raw

ROOT = Path(__file__).parents[1]
WIRES = {
    "openai-chat": "plugins/lash-plugin-provider-openai/tests:openai_chat_wire:ChatWire:"
    "lash_plugin_provider_openai.plugin",
    "openai": "plugins/lash-plugin-provider-openai/tests:openai_responses_wire:ResponsesWire:"
    "lash_plugin_provider_openai.plugin",
    "anthropic": "plugins/lash-plugin-provider-anthropic/tests:anthropic_wire:AnthropicWire:"
    "lash_plugin_provider_anthropic.plugin",
    "google": "plugins/lash-plugin-provider-google/tests:gemini_wire:GeminiWire:lash_plugin_provider_google.plugin",
}
DELTA = " and some"
LENGTHS = (2_000, 20_000)
FIGURES = ("decode", "stream", "request", "memory", "import", "many")
MIB = 1024 * 1024


def wire_of(named: str) -> tuple[Wire, str]:
    """The adapter, and the name of the plugin's module."""
    folder, module, cls, plugin = WIRES.get(named, named).split(":")
    sys.path.insert(0, str(ROOT / folder))
    return getattr(importlib.import_module(module), cls)(), plugin


def answer(wire: Wire, deltas: int, text: str = DELTA) -> list[bytes]:
    """The events of an answer."""
    usage = Used(TokenUsage(input=12, output=deltas))
    return wire.stream([*[Text(text)] * deltas, usage, Ends(LlmTerminalReason.STOP)])


def opened(wire: Wire, origin: str, **changes: Any) -> Any:
    """A provider for a server."""
    setup: dict[str, Any] = {"base_url": origin, "api_key": "k" * 30, "sleep": anyio.sleep, "wall_clock": time.time}
    return wire.open(ProviderSetup(**{**setup, **changes}))


REQUEST = asked()


@contextmanager
def serving(named: str, deltas: int, text: str = DELTA) -> Iterator[str]:
    """The origin of a server in a process of its own."""
    command = [sys.executable, __file__, named, "--serve", str(deltas), "--text", text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def serve(wire: Wire, deltas: int, text: str) -> None:
    """Answer for ever, each event in an HTTP chunk of its own, all in one write."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in answer(wire, deltas, text))
    whole = raw(framed + b"0\r\n\r\n", content_type=wire.content_type)
    with WireServer(record=False) as server:
        server.default = type(whole)(head=whole.head, pieces=whole.pieces, chunked=False)
        sys.stdout.write(f"{server.origin}\n")
        sys.stdout.flush()
        sys.stdin.read()


async def least(samples: int, times: int = 1, **contenders: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """The least CPU time of each contender, in seconds, taken in turns; of a run, where `times` of them are a sample.

    On a busy machine a short sample finds a quiet moment and a long one never does: only those of one length compare.
    """
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(samples):
        for name, run in contenders.items():
            began = time.process_time()
            for _ in range(times):
                await run()
            best[name] = min(best[name], (time.process_time() - began) / times)
    return best


# ---- figures


async def decode(wire: Wire, named: str, plugin: str) -> None:
    """The decoder alone, in reads of 16 KiB."""
    for deltas in LENGTHS:
        body = b"".join(answer(wire, deltas))
        reads = [body[at : at + 16384] for at in range(0, len(body), 16384)]

        async def run(reads: list[bytes] = reads) -> None:
            assert isinstance(wire.decode(reads).outcome, LlmResponse)

        best = await least(7, LENGTHS[-1] // deltas, lash=run)
        show(f"decode {deltas:,} deltas", f"{best['lash'] / deltas * 1e6:.2f} µs per delta")


async def stream(wire: Wire, named: str, plugin: str) -> None:
    """Whole calls: the provider, and loops that read the same bytes and decode each event's JSON."""
    import aiohttp
    import httpx
    import orjson

    for deltas in LENGTHS:
        with serving(named, deltas) as origin:
            provider = opened(wire, origin)

            async def lash(provider: Any = provider) -> None:
                await provider.complete(REQUEST, unheard)

            for _ in range(6):  # until the connections for many calls serve
                await lash()
            async with httpx.AsyncClient(timeout=60) as client, aiohttp.ClientSession() as session:

                async def over_httpx(origin: str = origin, client: httpx.AsyncClient = client) -> None:
                    async with client.stream("POST", origin, content=b"{}") as response:
                        async for line in response.aiter_lines():
                            if line.startswith("data: {"):
                                json.loads(line[6:])

                async def over_aiohttp(origin: str = origin, session: aiohttp.ClientSession = session) -> None:
                    async with session.post(origin, data=b"{}") as response:
                        rest = b""
                        async for read in response.content.iter_any():
                            *events, rest = (rest + read).split(b"\n\n")
                            for event in events:
                                at = event.find(b"data: {")
                                if at >= 0:
                                    orjson.loads(event[at + 6 :])

                async def only_reads(origin: str = origin, session: aiohttp.ClientSession = session) -> None:
                    async with session.post(origin, data=b"{}") as response:
                        async for _ in response.content.iter_any():
                            pass

                contenders = {"lash": lash, "httpx": over_httpx, "aiohttp": over_aiohttp, "reads": only_reads}
                took = await least(7, LENGTHS[-1] // deltas, **contenders)
                best = {name: value / deltas * 1e6 for name, value in took.items()}
            await provider.aclose()
        own = best["lash"] - best["reads"]
        told = f"lash {best['lash']:.2f}, raw httpx {best['httpx']:.2f}, raw aiohttp {best['aiohttp']:.2f} µs per delta"
        show(f"stream {deltas:,} deltas", f"{told}; our own, reads of the network apart: {own:.2f} (<= 15)")


async def request(wire: Wire, named: str, plugin: str) -> None:
    """Building a request of 10,000 messages of which 2 are new, until its bytes are handed on."""
    runs, made = [], 0
    for size in (8192, 1024, 512, 256, 16):
        messages = [llm_text(LlmRole.USER, f"question {made + at} " + "x" * 200) for at in range(size)]
        runs.append(MessageRun(tuple(messages)))
        made += size
    provider = opened(wire, "http://127.0.0.1:9")
    sizes: list[int] = []

    async def handed_on(body: Any, *rest: Any, **options: Any) -> LlmResponse:
        sizes.append(sum(map(len, body)) if not isinstance(body, bytes) else len(body))
        return LlmResponse()

    provider._service.call = handed_on  # where the provider's part ends

    async def run() -> None:
        new = MessageRun(tuple(llm_text(LlmRole.USER, f"new {len(sizes)} {at}") for at in range(2)))
        await provider.complete(asked(messages=LlmMessages([*runs, new])), unheard)

    began = time.process_time()
    await run()
    first = time.process_time() - began
    best = await least(30, warm=run)
    if PROFILE:
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(100):
            await run()
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(12)
    copied = bytearray(sizes[-1])
    began = time.process_time()
    bytes(copied)
    copy = time.process_time() - began
    told = f"{best['warm'] * 1e3:.3f} ms (<= 3), the first time {first * 1e3:.1f} ms"
    show(f"request of {made + 2:,} messages", f"{told}; a copy of its {sizes[-1] / MIB:.1f} MiB: {copy * 1e3:.2f} ms")


def memory(wire: Wire, named: str, plugin: str) -> None:
    """An answer above 64 MiB, of deltas of 9 and of 4,000 characters, each in a process of its own."""
    for length in (9, 4_000):
        text = ("x" * 100 * 40)[:length]
        deltas = 80 * MIB // (length + 120)
        with serving(named, deltas, text) as origin:
            done = subprocess.run([sys.executable, __file__, named, "--read", origin], capture_output=True, text=True)
        show(f"64 MiB cap, deltas of {length:,}", done.stdout.strip() or done.stderr[-300:])


def peak() -> int:
    """The most memory that this process had, in KiB. Unlike getrusage's, not that of who started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def read_too_much(wire: Wire, origin: str) -> None:
    """What the memory grows by, told on stdout."""

    async def main() -> None:
        provider = opened(wire, origin)
        before = peak()
        try:
            await provider.complete(REQUEST, unheard)
        except LlmCallFailed as failed:
            code = failed.error.code
        else:
            code = "no failure"
        sys.stdout.write(f"grew by {(peak() - before) / 1024:.1f} MiB (< 80), {code}\n")
        await provider.aclose()

    asyncio.run(main())


_IMPORT = (
    "import time, lash_hookspecs, pluggy; t = time.process_time(); import {plugin}; print(time.process_time() - t)"
)
_RAW = """
import asyncio, time, warnings
async def main():
    began = time.process_time()
    import httpx
    httpx.AsyncClient()
    print(time.process_time() - began)
asyncio.run(main())
"""
_FIRST = """
import asyncio, time
import lash_hookspecs.testing.provider as kit
from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmRequest, ProviderContext
from lash_hookspecs.llm_messages import LlmRole, llm_text
request = LlmRequest(model="m", messages=(llm_text(LlmRole.USER, "hi"),))
async def nobody(events): pass
async def main():
    began = time.process_time()
    from {plugin} import lash_providers
    spec = next(each for each in lash_providers() if each.provider_id == "{provider}")
    provider = spec.open(ProviderContext(
        provider_id=spec.provider_id, settings=spec.settings_class()(base_url="https://127.0.0.1:9", api_key="k" * 30)))
    try:
        await provider.complete(request, nobody)
    except LlmCallFailed as failed:
        assert failed.error.code == "connection_refused", failed.error
    print(time.process_time() - began)
asyncio.run(main())
"""


def imports(wire: Wire, named: str, plugin: str) -> None:
    """The plugin's module, and the first use up to a refused connection, each in new processes."""
    codes = {"plugin": _IMPORT, "raw": _RAW, "first": _FIRST}
    best = dict.fromkeys(codes, float("inf"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(9):
        for name, code in codes.items():
            code = code.replace("{plugin}", plugin).replace("{provider}", wire.provider_id)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
            if done.returncode:
                show(f"import: {name}", done.stderr[-300:])
                return
            best[name] = min(best[name], float(done.stdout))
    show("import of plugin.py", f"{best['plugin'] * 1e3:.2f} ms (< 2)")
    ratio = best["first"] / best["raw"]
    told = f"{best['first'] * 1e3:.1f} ms; raw httpx {best['raw'] * 1e3:.1f} ms; {ratio:.2f} times (<= 1.3)"
    show("first use", told)


PROFILE = False


_PARTS = {
    "the pool": ("aiohttp/connector.py",),
    "HTTP": ("aiohttp/", "yarl/", "multidict/", "httpx/", "over_httpx.py", "over_aiohttp.py", "growing.py"),
    "the event loop": ("asyncio/", "anyio/", "selectors.py", "contextvars", "socket", "epoll"),
    "ours": ("lash_",),
}


def shares(profiler: cProfile.Profile) -> str:
    """Whose functions the time went to, theirs alone; whoever's name is first in `_PARTS`, and Python's own else."""
    spent: dict[str, float] = dict.fromkeys([*_PARTS, "Python's own"], 0.0)
    for (file, _, name), (_, _, own, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        whose = (part for part, words in _PARTS.items() if any(word in file + name for word in words))
        spent[next(whose, "Python's own")] += own
    whole = sum(spent.values())
    return ", ".join(f"{part} {own / whole:.0%}" for part, own in spent.items())


async def many(wire: Wire, named: str, plugin: str) -> None:
    """500 calls at once to one host, and as many one after the other."""
    import aiohttp

    count, deltas = 500, 20
    with serving(named, deltas) as origin:
        provider = opened(wire, origin)
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

        async def ask() -> None:
            await provider.complete(REQUEST, unheard)

        async def by_hand() -> None:
            async with session.post(origin, data=b"{}") as response:
                await response.read()

        async def at_once(one: Callable[[], Awaitable[None]]) -> None:
            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(one)

        async def in_turn() -> None:
            for _ in range(count):
                await ask()

        await at_once(ask)
        together, raw_together = (lambda: at_once(ask)), (lambda: at_once(by_hand))
        best = await least(5, together=together, in_turn=in_turn, raw=raw_together)
        if PROFILE:
            profiler = cProfile.Profile()
            profiler.enable()
            await at_once(ask)
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(20)
            show("of these calls' time", shares(profiler))
        await provider.aclose()
        await session.close()
    told = {name: value / count * 1e6 for name, value in best.items()}
    extra = told["together"] / told["in_turn"]
    show(
        f"{count} calls at once",
        f"{told['together']:.0f} µs each ({extra:.2f} times that of one after the other); "
        f"raw aiohttp, undecoded: {told['raw']:.0f}",
    )


def show(figure: str, told: str) -> None:
    """A line of the table."""
    sys.stdout.write(f"  {figure:28} {told}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the figures for each wire."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wires", nargs="*", default=list(WIRES))
    parser.add_argument("--only", action="append", choices=FIGURES)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--text", default=DELTA, help=argparse.SUPPRESS)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args()
    global PROFILE
    PROFILE = options.profile
    runs: dict[str, Callable[..., Any]] = dict(
        zip(FIGURES, (decode, stream, request, memory, imports, many), strict=True)
    )
    for named in options.wires:
        wire, plugin = wire_of(named)
        if options.serve is not None:
            serve(wire, options.serve, options.text)
        elif options.read is not None:
            read_too_much(wire, options.read)
        else:
            sys.stdout.write(f"{named}\n")
            for figure in options.only or FIGURES:
                done = runs[figure](wire, named, plugin)
                if done is not None:
                    asyncio.run(done)


if __name__ == "__main__":
    main()
