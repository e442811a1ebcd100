"""The rendered prompt in a turn: rendered once while nothing changes, and each of its lines with its owner."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hook_kit import Plugin, Told, opened, system_prompt

from lash_framework import prompt as prompts
from lash_hookspecs import PromptContribution, PromptLayer, PromptSlot, TurnContext, TurnInput, hookimpl, tool
from lash_plugin_provider_scripted import Call, Reply

SLOTS = tuple(PromptSlot)


class Speaker(Plugin):
    """Makes its contributions anew at each call."""

    def __init__(self, id: str, *texts: str, **more: Any) -> None:
        super().__init__(id)
        self.texts, self.more = texts, more

    @hookimpl
    async def lash_prompt_contributions(self, ctx: Any) -> list[PromptContribution]:
        self.calls.append(ctx.iteration)
        return [
            PromptContribution(content=text, slot=SLOTS[at % len(SLOTS)], **self.more)
            for at, text in enumerate(self.texts)
        ]


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a prompt was rendered."""
    made: Counter[str] = Counter()
    render = prompts.render_prompt

    def counted(inputs: Any) -> Any:
        made["renders"] += 1
        return render(inputs)

    monkeypatch.setattr(prompts, "render_prompt", counted)  # a counter around our own function, not a stand-in
    return made


async def test_a_hundred_contributions_are_rendered_once_while_none_of_them_changes(renders: Counter[str]) -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    speakers = [Speaker(f"s{n}", *(f"line {n}.{at}" for at in range(10))) for n in range(10)]
    says = [Reply(tool_calls=[Call("look")]), Reply(tool_calls=[Call("look")]), "done", "one", "two", "three", "four"]
    async with opened(*speakers, says=says, tools=[look]) as lash:
        session = await lash.session("s")
        for text in ("a", "b"):
            await session.run(text)
        assert renders == {"renders": 1}
        assert speakers[0].calls == [0, 1, 2, 0]
        # Sessions of one mode with instructions of their own take turns.
        other = await lash.session("other", instructions="Be brief.")
        await other.run("c")
        assert renders == {"renders": 2}
        await session.run("d")
        assert renders == {"renders": 2}
        speakers[0].texts = ("another line",)
        await session.run("e")
        assert renders == {"renders": 3}


async def test_every_line_of_the_rendered_prompt_has_its_owner() -> None:
    model = Told(["done"])
    one, two = Speaker("one", "first\n\nsecond", title="Both"), Speaker("two", "third")
    async with opened(one, two, says=model, instructions="Be brief.") as lash:
        turn = await (await lash.session("s")).run("go")
        explained = await lash.explain(turn.turn_id)
    assert "\n".join(each.text for each in explained.lines) == system_prompt(model)
    by_text = {each.text: each.plugin_ids for each in explained.lines if each.text}
    assert by_text["first"] == by_text["second"] == by_text["### Both"] == ("one",)
    assert by_text["third"] == ("two",)
    assert by_text["Be brief."] == ("application",)
    assert by_text["## Guidance"] == ("lash-framework",)
    assert all(each.plugin_ids for each in explained.lines)


async def test_what_was_left_out_says_why_and_because_of_whom() -> None:
    gated = Speaker("gated", "look well", tools=frozenset({"look"}))
    said = [Speaker("one", "the same"), Speaker("two", "the same"), Speaker("blank", " \n")]
    quiet = PromptLayer().without_slot(PromptSlot.PROJECT_INSTRUCTIONS)
    async with opened(gated, *said, instructions="Be brief.") as lash:
        asked = TurnInput(items=TurnInput.text("go").items, context=TurnContext(prompt=quiet))
        turn = await (await lash.session("s")).run(asked)
        explained = await lash.explain(turn.turn_id)
    assert {(each.plugin_ids, each.dropped, each.because) for each in explained.prompt if each.dropped} == {
        (("gated",), "gated", "no tool of `look`"),
        (("two",), "duplicate", "said by `one`"),
        (("blank",), "blank", ""),
        (("application",), "reset", "layer `turn`"),
    }
    (shared,) = [each for each in explained.prompt if each.text == "the same"]
    assert shared.plugin_ids == ("one", "two")
