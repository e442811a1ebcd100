"""The mode `research` from end to end: a search, pages of a real server, notes, `recall`, a window that is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lash_framework.testing import call
from lash_hookspecs import (
    LlmRequest,
    LlmRole,
    PluginInfo,
    TextBlock,
    hookimpl,
    tool,
)

PARTS = ("mode-research", "history-rolling", "memory", "tools-web")


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        number = self.path.rpartition("/")[2]
        words = f"The hive number {number} gave honey-{number} that year. " + "It hummed on and on. " * 40
        body = f"<title>Hive {number}</title><p>{words}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Searching:
    """A search of one's own, in the place of a service."""

    def __init__(self, site: str) -> None:
        self.site = site

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="searching")

    @hookimpl
    def lash_tools(self) -> list[Any]:
        @tool(activation="internal", effect="pure")
        async def find_hives(query: str, limit: int) -> list[dict[str, str]]:
            "Find hives."
            number = query.rpartition(" ")[2]
            return [{"title": f"Hive {number}", "url": f"{self.site}/hives/{number}", "snippet": "A hive."}]

        return [find_hives]


def texts(request: LlmRequest, role: LlmRole | None = None) -> str:
    """What a request shows, of one role or of all, results of tools among it."""
    shown = [block for each in request.messages if role in (None, each.role) for block in each.blocks]
    return "\n".join(block.text if isinstance(block, TextBlock) else repr(block) for block in shown)


def answer(site: str) -> Any:
    """Each turn asks about a hive: the model searches, reads the page, and says what it read, or recalls."""

    def reply(request: LlmRequest) -> Any:
        system = texts(request, LlmRole.SYSTEM)
        if "You keep the notes" in system:
            read = texts(request)
            return "\n".join(f"- hive {n} gave honey-{n}" for n in range(1, 9) if f"hive number {n} " in read)
        said = [at for at, each in enumerate(request.messages) if each.role is LlmRole.USER and _asks(each)]
        since = request.messages[said[-1] :]
        question = "\n".join(block.text for block in since[0].blocks if isinstance(block, TextBlock))
        number = question.strip("?").rpartition(" ")[2]
        step = sum(each.role is LlmRole.ASSISTANT for each in since)
        if "What did you find" in question:
            steps = [call("recall", query=f"hive {number} honey"), f"It was honey-{number}."]
        else:
            steps = [
                call("search_web", query=f"hive {number}"),
                call("fetch_url", url=f"{site}/hives/{number}"),
                f"See {site}/hives/{number}. " + "There is much to say of it. " * 20,
            ]
        return steps[step]

    return reply


def _asks(message: Any) -> bool:
    return any(isinstance(each, TextBlock) and each.text.strip().endswith("?") for each in message.blocks)


TOML = """
[plugin.tools-web]
search = "tool:find_hives"
allow_networks = ["127.0.0.1/32"]
ports = []

[plugin.memory]
observe_tokens = 200
activate_tokens = 800

[plugin.history-rolling]
keep_tokens = 200
"""


async def test_research_searches_reads_notes_and_recalls_within_its_window(lash_host: Any, site: str) -> None:
    async with lash_host(*PARTS, Searching(site), toml=TOML, mode="research", says=answer(site)) as host:
        for number in range(1, 9):
            turn = await host.run(f"What is known of hive {number}?", turn_id=f"t{number}")
            assert [each.tool_name for each in turn.tool_calls if each.parent_call_id is None] == [
                "search_web",
                "fetch_url",
            ]
            assert all(each.output.is_success for each in turn.tool_calls), turn.tool_calls
        asked = await host.run("What did you find on hive 1?")
        session = await host.lash.session("test")
        asked_before = len(host.model.requests)
        compacted = await session.compact()
        asked_by_it = host.model.requests[asked_before:]
        again = await host.run("What did you find on hive 2?")
        later = texts(host.model.requests[-1])
        sizes = [len(texts(each)) for each in host.model.requests if "You keep the notes" not in texts(each)]
        system = texts(host.model.requests[0], LlmRole.SYSTEM)
    assert "Give the address of the page behind each statement" in system
    # The page on hive 1 isn't shown any more: a note has what it said, and is found.
    (recalled,) = asked.tool_calls
    assert "honey-1" in str(recalled.output.outcome.value)
    assert asked.text == "It was honey-1."
    # The window rolled on: notes and the latest messages are the new frame, and nobody summed up what is noted.
    assert (compacted.plugin_id, len(asked_by_it)) == ("history-rolling", 0)
    assert compacted.after < compacted.before
    assert "honey-2" in str(again.tool_calls[0].output.outcome.value)
    assert "It was honey-1." in later
    assert "It hummed on" not in later
    # Eight turns say more than twice of what is ever shown.
    assert max(sizes) < 0.6 * 8 * (sizes[2] - sizes[0])


async def test_without_a_word_it_reads_nothing_of_this_machine(lash_host: Any, site: str) -> None:
    says = [call("fetch_url", url=f"{site}/hives/1"), "I may not."]
    async with lash_host(*PARTS, toml="[plugin.tools-web]\nports = []\n", mode="research", says=says) as host:
        turn = await host.run("Read it.")
    assert turn.tool_calls[0].output.outcome.code == "refused_address"


@pytest.mark.costly
async def test_a_crash_anywhere_searches_reads_and_notes_nothing_twice_that_is_recorded(
    lash_crashes: Any, site: str
) -> None:
    """A turn of all parts: a search of another plugin, a page, an answer, and notes on it at the end."""
    toml = TOML.replace("observe_tokens = 200", "observe_tokens = 1")
    prompt = "What is known of hive 1?"
    given: dict[str, Any] = {"toml": toml, "mode": "research", "says": answer(site), "prompt": prompt}
    report = await lash_crashes(*PARTS, Searching(site), **given)
    assert not report.unreached
    points = [str(each.point) for each in report.crashes]
    assert all(any(word in each for each in points) for word in ("search_web", "fetch_url", "direct", "turn_end"))
    assert [each.source for each in report.golden.turn.children_usage] == ["memory"]


ONE = """
[modes.rolling]
extends = "research"
without = ["memory"]
[modes.noting]
extends = "research"
without = ["history-rolling"]
"""


async def test_each_way_to_keep_a_window_can_be_had_without_the_other(lash_host: Any) -> None:
    for mode, left in (("rolling", {"history-rolling"}), ("noting", {"memory"})):
        async with lash_host(*PARTS, toml=ONE, mode=mode) as host:
            names = {each.plugin_id for each in host.lash.host.composition(mode).plugins}
            assert names & {"memory", "history-rolling"} == left
            assert (await host.run("Hello.")).text == "Done."
