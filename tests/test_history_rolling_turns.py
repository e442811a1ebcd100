"""The plugin `history-rolling` in sessions: old attachments out, a summary in time, a prefix that stays."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hook_kit import Told, opened

from lash_framework.testing import crash_at_every_effect, crash_host
from lash_hookspecs import (
    ConfigurationError,
    LlmCallError,
    LlmRequest,
    LlmTerminalReason,
    ProviderFailureKind,
    TokenUsage,
    TurnInput,
    tool,
)
from lash_hookspecs.codec import encode
from lash_plugin_history_rolling import plugin as rolling
from lash_plugin_memory import plugin as memory
from lash_plugin_provider_scripted import Call, Reply

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
MODE = "[modes.long]\nextends = 'standard'\nplugins = ['history-rolling']\n[plugin.history-rolling]\n"
PICTURE = 400
"""What the model of these tests takes for a picture, in tokens."""


class Model:
    """A model whose usage is what it was shown; `requests` are those of turns, `asked` those for summaries."""

    def __init__(self, window: int = 2000, *, calls: bool = False, fails: bool = False) -> None:
        self.requests: list[LlmRequest] = []
        self.asked: list[str] = []
        self.calls, self.fails = calls, fails
        self.notes = 0
        self.notes_fail = False
        self.told = Told(self.say, context_window=window)

    def say(self, request: LlmRequest) -> Reply:
        texts = [_text(b) for m in request.messages for b in m.blocks]
        if any("You keep the notes" in each for each in texts):
            if self.notes_fail:
                return Reply(error=LlmCallError(message="no notes", kind=ProviderFailureKind.VALIDATION))
            self.notes += 1
            return Reply(text=f"- NOTE {self.notes - 1}")
        size = sum(map(len, texts)) // 4 + PICTURE * len(request.attachments)
        usage = TokenUsage(input=size, output=10)
        if any("Sum up the conversation below" in each for each in (*texts, str(getattr(request, "instructions", "")))):
            self.asked.append("\n".join(texts))
            if self.fails:
                error = LlmCallError(message="no answer", kind=ProviderFailureKind.VALIDATION)
                return Reply(error=error)
            return Reply(text=f"SUM {len(self.asked)}", usage=usage)
        self.requests.append(request)
        if self.calls and request.messages[-1].blocks[0].tag == "text":
            return Reply(text="", tool_calls=[Call("look", {}, f"c{len(self.requests)}")], usage=usage)
        return Reply(text=f"answer {len(self.requests)} " + "y" * 100, usage=usage)


@tool(effect="pure")
async def look() -> str:
    "Look."
    return "z" * 200


def _text(block: Any) -> str:
    return "" if block.tag == "image" else getattr(block, "text", "") or repr(block)[:500]


def host(model: Model, folder: Path, options: str = "keep_tokens = 300", **more: Any) -> Any:
    return opened(rolling, says=model.told, toml=MODE + options, folder=folder, mode="long", tools=[look], **more)


def pieces(request: LlmRequest) -> list[bytes]:
    """A request, message by message, as bytes, with its prompt and tools in front."""
    return [encode(request.tools), *(encode(list(each.blocks)) for each in request.messages)]


def breaks(requests: Sequence[LlmRequest]) -> list[int]:
    """The requests that don't begin with all of the one before."""
    found = []
    for at, (before, after) in enumerate(pairwise(requests), 1):
        if pieces(after)[: len(pieces(before))] != pieces(before):
            found.append(at)
    return found


async def test_over_thirty_turns_the_window_holds_and_the_prefix_changes_only_with_a_compaction(tmp_path: Path) -> None:
    """Nothing that is stored is lost, and each summary is made of the one before."""
    model, compactions, changed = Model(calls=True), [], []
    async with host(model, tmp_path, store=f"sqlite:///{tmp_path}/lash.db") as lash:
        session = await lash.session("s")
        for number in range(30):
            first = len(model.requests)
            turn = await session.run(f"question {number} " + "x" * 200)
            if turn.compaction is not None:
                compactions.append(first)
                changed.append((turn.compaction.plugin_id, turn.compaction.reason))
        shown = (await session.messages())[0]
        stored = [each.text for each in (await lash.load_history("s")).messages]
    assert len(compactions) >= 3
    assert [text for text in stored if text.startswith("question ")] == [
        f"question {n} " + "x" * 200 for n in range(30)
    ]
    assert breaks(model.requests) == compactions
    assert set(changed) == {("history-rolling", "threshold")}
    assert shown.text.startswith("Summary of the conversation before:")
    assert shown.role == "user"  # a system message would give a service's authority to what a web page said
    assert all(f"SUM {at}" in each for at, each in enumerate(model.asked[1:], 1))
    assert "question 0 " in model.asked[0]
    assert "(calls look with" in model.asked[0]
    sizes = [sum(map(len, pieces(each))) for each in model.requests]
    assert max(sizes) < 4 * 2000 * 2


@pytest.mark.statement(82, page="plugin-system")
async def test_old_attachments_are_left_out_in_steps_and_recent_ones_are_kept(tmp_path: Path) -> None:
    """Those older than the two latest user turns, once 60 % of the window are filled; stored they stay."""
    model = Model(window=4000)
    async with host(model, tmp_path, "keep_tokens = 3000") as lash:
        session = await lash.session("s")
        for number in range(8):
            await session.run(TurnInput.text(f"picture {number}").with_image("p", PIXEL + bytes([number])))
        stored = [part for each in await session.messages() for part in each.parts if part.attachment is not None]
    counts = [len(each.attachments) for each in model.requests]
    assert counts[:7] == [1, 2, 3, 4, 5, 6, 3]  # at 2400 tokens four of them went; two turns and the new one stay
    assert counts[7] == 4
    assert breaks(model.requests) == [6]
    words = [b.text for m in model.requests[6].messages for b in m.blocks if b.tag == "text"]  # type: ignore[union-attr]
    assert sum("an attachment that was shown here before: image/png" in each for each in words) == 4
    assert len(stored) == 8


async def test_where_there_is_room_or_no_window_is_known_nothing_is_left_out(tmp_path: Path) -> None:
    model = Model()
    model.told = Told(model.say)
    async with host(model, tmp_path) as lash:
        session = await lash.session("s")
        for number in range(6):
            turn = await session.run(TurnInput.text(f"picture {number}").with_image("p", PIXEL))
            assert turn.compaction is None
    assert [len(each.attachments) for each in model.requests] == [1, 2, 3, 4, 5, 6]
    assert breaks(model.requests) == []


async def test_a_summary_that_cant_be_had_is_told_as_missing_and_the_turn_goes_on(tmp_path: Path) -> None:
    model = Model(window=400, fails=True)
    async with host(model, tmp_path, "keep_tokens = 50") as lash:
        session = await lash.session("s")
        turns = [await session.run(f"question {number} " + "x" * 200) for number in range(6)]
        assert any(each.compaction for each in turns)
        assert all(each.is_success for each in turns)
        assert "could not be summed up" in (await session.messages())[0].text


async def test_who_asks_for_a_compaction_learns_that_it_failed(tmp_path: Path) -> None:
    model = Model(fails=True)
    async with host(model, tmp_path, "keep_tokens = 1") as lash:
        session = await lash.session("s")
        await session.run("question " + "x" * 200)
        with pytest.raises(Exception, match="history-rolling"):
            await session.compact()
        assert len(await session.messages()) == 2


async def test_who_asks_for_a_compaction_may_say_what_matters(tmp_path: Path) -> None:
    """A second one with nothing new to sum up changes nothing."""
    model = Model()
    async with host(model, tmp_path, "keep_tokens = 1") as lash:
        session = await lash.session("s")
        await session.run("question " + "x" * 200)
        done = await session.compact("Keep the names.")
        assert done is not None
        assert (done.before, done.after) == (2, 1)
        assert "Keep the names." in model.asked[0]
        assert await session.compact() is None


async def test_with_memory_its_notes_stay_and_only_what_none_tells_of_is_summed_up(tmp_path: Path) -> None:
    """Memory shows notes of long ago, this one leaves old attachments out of that, and compacts: the notes go on.

    So what was noted is found for ever, the latest messages are as they were, and a compaction asks no model.
    """
    model, compactions = Model(), []
    toml = "[modes.long]\nextends = 'standard'\nplugins = ['history-rolling', 'memory']\n[plugin.history-rolling]\n"
    toml += "keep_tokens = 150\nattachments_at = 0.3\n[plugin.memory]\nobserve_tokens = 50\nactivate_tokens = 3000\n"
    async with opened(rolling, memory, says=model.told, toml=toml, folder=tmp_path, mode="long") as lash:
        session = await lash.session("s")
        for number in range(24):
            asked = TurnInput.text(f"question {number} " + "x" * 200)
            turn = await session.run(asked.with_image("p", PIXEL) if number == 1 else asked)
            assert turn.is_success
            if turn.compaction is not None:
                compactions.append((number, turn.compaction.plugin_id, turn.compaction.reason))
        shown = await session.messages()
    assert compactions
    assert {(plugin, why) for _, plugin, why in compactions} == {("history-rolling", "threshold")}
    assert model.asked == [], "all of it was noted"
    notes = [each.text for each in shown if "memory-note-" in each.id]
    assert [f"NOTE {number}" in text for number, text in enumerate(notes)] == [True] * 24
    assert not any("question 1 " in each.text for each in shown)
    assert shown[-3].text.startswith("question 23 ")
    assert 0 in [len(each.attachments) for each in model.requests[2:]], "the picture went before its turn did"
    held = [sum(map(len, pieces(each))) for each in model.requests]
    assert max(held) < 4 * 2000 * 2


async def test_with_memory_a_summary_stays_until_a_later_one_has_it(tmp_path: Path) -> None:
    """Notes that were made since, of other things, once had it dropped: what it told of was nowhere any more."""
    model = Model(window=1200)
    model.notes_fail = True
    toml = "[modes.long]\nextends = 'standard'\nplugins = ['history-rolling', 'memory']\n[plugin.history-rolling]\n"
    toml += "keep_tokens = 150\n[plugin.memory]\nobserve_tokens = 50\nactivate_tokens = 3000\n"
    async with opened(rolling, memory, says=model.told, toml=toml, folder=tmp_path, mode="long") as lash:
        session = await lash.session("s")
        compactions = 0
        for number in range(40):
            turn = await session.run(f"question {number} " + "x" * 200)
            assert turn.is_success
            if turn.compaction is not None:
                compactions += 1
                model.notes_fail = False
        shown = await session.messages()
    assert compactions > 1
    assert len(model.asked) == 1, "from then on all was noted"
    assert "question 0 " in model.asked[0]
    assert shown[0].text.endswith("SUM 1")
    last = "\n".join(_text(block) for each in model.requests[-1].messages for block in each.blocks)
    assert "SUM 1" in last


async def test_a_summary_that_cant_be_brought_up_to_date_stays(tmp_path: Path) -> None:
    model = Model(window=600)
    async with host(model, tmp_path, "keep_tokens = 50") as lash:
        session = await lash.session("s")
        said = []
        for number in range(24):
            turn = await session.run(f"question {number} " + "x" * 200)
            if turn.compaction is not None:
                model.fails = True
                said.append((await session.messages())[0].text)
    assert len(said) > 2
    assert said[0].endswith("SUM 1")
    assert all("SUM 1" in each and each.count("could not be summed up") == 1 for each in said[1:])


OURS = ("compact", "direct", "llm_call 3", "turn_end")
"""From the compaction on; what comes before is any turn's."""


@pytest.mark.costly
@pytest.mark.parametrize("beside", [(), ("memory",)], ids=["alone", "with memory"])
async def test_a_crash_loses_nothing_and_pays_no_summary_twice_that_is_recorded(
    beside: tuple[str, ...], lash_host: Any, tmp_path: Path
) -> None:
    """The turn that compacts, killed at each effect from there on: its summary or notes, its answer, its commit."""
    plugins = ("history-rolling", *beside)
    mode = f"[modes.long]\nextends = 'standard'\nplugins = {list(plugins)}\n[plugin.history-rolling]\nkeep_tokens = 4\n"
    toml = f"{mode}[plugin.memory]\nobserve_tokens = 1\n" if beside else mode
    given: dict[str, Any] = {"toml": toml, "mode": "long", "says": _clerk}
    prepared = tmp_path / "prepared.db"
    async with lash_host(*plugins, store=f"sqlite:///{prepared}", **given) as host:
        for number in range(3):
            await host.run(f"question {number}", session="s", turn_id=f"t{number}")

    def database(folder: Path) -> str:
        shutil.copy(prepared, folder / "crash.db")
        return f"sqlite:///{folder}/crash.db"

    report = await crash_at_every_effect(
        crash_host(*plugins, folder=tmp_path, **given),
        "question 3, which doesn't fit",
        session_id="s",
        turn_id="t3",
        points=lambda point: point.kind == "effect" and any(word in str(point) for word in OURS),
        database=database,
    )
    assert not report.unreached
    assert any("compact" in str(each.point) for each in report.crashes)
    golden = report.golden.turn
    assert golden.compaction is not None
    assert golden.compaction.plugin_id == "history-rolling"
    # What memory has noted nobody sums up; what it asks is of this turn.
    assert [each.source for each in golden.children_usage] == [beside[0] if beside else "history-rolling"]


def _clerk(request: LlmRequest) -> Any:
    """Sums up; and takes no more than three questions at once."""
    said = "\n".join(_text(block) for each in request.messages for block in each.blocks)
    if "Sum up the conversation below" in said:
        return "SUM"
    if "You keep the notes" in said:
        return "- asked"
    if said.count("question ") > 3:
        return LlmCallError(
            kind=ProviderFailureKind.VALIDATION,
            message="too long",
            terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW,
        )
    return "I see."


@pytest.mark.parametrize("option", ["attachments_at = 1.5", "keep_turns = 0", "keep_tokens = 0"])
async def test_an_option_that_doesnt_fit_is_refused_by_name(option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=option.partition(" ")[0]):
        async with host(Model(), tmp_path, option):
            pass
