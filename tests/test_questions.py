"""Questions about tool calls: hooks ask a person, the turn is suspended, and goes on with what was answered.

The agent has a plugin that asks about every call of `act`, and remembers what it was told, in order.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from agents import agent, inline_agent, plugin
from attrs import define, field, frozen
from loops import on_asyncio

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing import Crash, CrashPoint, crash_at_every_effect
from lash_hookspecs import (
    ALLOW,
    DENY,
    AlreadyAnswered,
    AskPerson,
    ConfigurationError,
    DenyToolCall,
    LlmRequest,
    PersonChoice,
    ReplaceToolArgs,
    SessionStateSpec,
    ShortCircuitTool,
    ToolCallContext,
    ToolCallSuccess,
    TurnBlocked,
    TurnSuspended,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

ALWAYS = PersonChoice(choice_id="always", text="and all others", allows=True)


@frozen
class Heard:
    """What the plugin remembers of what it was told."""

    answers: tuple[str, ...] = ()


@define
class World:
    """An agent whose calls are asked about; `deeds` is what its tools did, `asked` how often its hooks were called."""

    deeds: list[str] = field(factory=list)
    asked: Counter[str] = field(factory=Counter)
    heard: list[str] = field(factory=list)
    ask: AskPerson = AskPerson("May it?", (ALLOW, ALWAYS, DENY))
    after: Any = None

    def tools(self) -> list[Any]:
        @tool(effect="unsafe")
        async def act(what: str = "") -> str:
            "Act."
            self.deeds.append(what)
            return f"did {what}"

        @tool(effect="pure")
        async def look(what: str = "") -> str:
            "Look."
            self.deeds.append(f"looked {what}")
            return "seen"

        @tool(effect="pure")
        async def several(ctx: ToolCallContext) -> Any:
            "Act twice."
            done = [await ctx.call_tool(at, "act", {"what": f"within {at}"}) for at in range(2)]
            return [getattr(each.output.outcome, "value", None) or each.output.outcome.code for each in done]

        @tool(effect="unsafe")
        async def rashly(ctx: ToolCallContext) -> Any:
            "Act through an unsafe tool."
            return (await ctx.call_tool(0, "act", {"what": "within"})).output.outcome.code

        return [act, look, several, rashly]

    def asker(self, plugin_id: str = "asker") -> object:
        def lash_session_state() -> SessionStateSpec:
            return SessionStateSpec(state=Heard)

        async def lash_before_tool_call(ctx: Any, call: Any) -> Any:
            self.asked["before"] += 1
            return self.ask if call.tool_name == "act" else None

        async def lash_person_answered(ctx: Any, call: Any, answer: Any) -> Any:
            self.asked["answered"] += 1
            ctx.set_state(Heard((*ctx.state.answers, f"{call.args['what']}: {answer.choice}")))
            return None if self.after is None else self.after(ctx, call, answer)

        async def lash_turn_committed(ctx: Any, turn: Any) -> None:
            self.heard = list(ctx.state.answers)

        return plugin(plugin_id, lash_session_state, lash_before_tool_call, lash_person_answered, lash_turn_committed)

    def open(self, *calls: tuple[str, dict[str, Any]], plugins: Any = None, **options: Any) -> Any:
        def script(request: LlmRequest) -> Reply:
            if any(message.role == "assistant" for message in request.messages):
                return Reply(text="Done.")
            return Reply(text="", tool_calls=[Call(*each, f"c{at}") for at, each in enumerate(calls)])

        plugins = [self.asker()] if plugins is None else plugins
        return agent(script, **{"tools": self.tools(), "plugins": plugins, **options})


A, B = ("act", {"what": "a"}), ("act", {"what": "b"})


async def suspended(lash: Lash, text: str = "go", turn_id: str = "t") -> TurnSuspended:
    with pytest.raises(TurnSuspended) as found:
        await (await lash.session("s", recover=False)).run(text, turn_id=turn_id)
    return found.value


async def answered(lash: Lash, **choices: str) -> None:
    """Answer by call id."""
    for call in await lash.pending():
        if call.call_id.replace(":", "_") in choices:
            await lash.answer(call.key, choices[call.call_id.replace(":", "_")])


def codes(turn: Any) -> list[Any]:
    return [getattr(each.output.outcome, "value", None) or each.output.outcome.code for each in turn.tool_calls]


async def test_hook_lash_person_answered_hears_what_was_said_and_the_turn_goes_on_in_another_process(
    tmp_path: Path,
) -> None:
    """All questions of a batch are there at once, what isn't asked about runs meanwhile, and any may be answered."""
    world, store = World(), f"sqlite:///{tmp_path}/lash.db"
    async with world.open(A, ("look", {}), B, store=store) as lash:
        waits = await suspended(lash)
        assert len(waits.questions) == len(waits.keys) == 2
        assert "`lash pending answer KEY CHOICE`" in str(waits)
        assert "resolve" not in str(waits)
        assert world.deeds == ["looked "]
    async with world.open(A, ("look", {}), B, store=store) as lash:
        first, second = await lash.pending()
        assert (second.said, second.args, second.call_id, second.tool_name) == ("May it?", {"what": "b"}, "c2", "act")
        assert second.question is not None
        assert (second.question.plugin_id, len(second.question.choices)) == ("asker", 3)
        await lash.answer(second.key, "allow")
        assert [each.key for each in await lash.pending()] == [first.key]
        assert (await suspended(lash)).keys == (first.key,)
        assert world.deeds == ["looked ", "b"]
    async with world.open(A, ("look", {}), B, store=store) as lash:
        await lash.answer(first.key[:10], "deny", note="not today")
        turn = await (await lash.session("s", recover=False)).run("go", turn_id="t")
    assert codes(turn) == ["denied_by_person", "seen", "did b"]
    assert turn.tool_calls[0].output.outcome.message == (
        "`act` was not called: it was denied by a person, who says: not today"
    )
    assert world.deeds == ["looked ", "b"]
    assert world.asked == {"before": 3, "answered": 2}
    assert world.heard == ["b: allow", "a: deny"]
    did = [[(each.kind, each.detail) for each in call.interventions] for call in turn.tool_calls]
    assert did == [[("asked", "deny"), ("denied", "denied_by_person")], [], [("asked", "allow")]]


async def test_what_plugins_remember_of_answers_is_what_they_were_told_last_also_in_a_replay() -> None:
    """Those that were heard first are heard first when the turn goes on, though their calls come later."""
    world = World()
    async with world.open(A, B, ("act", {"what": "c"})) as lash:
        for call_id in ("c2", "c0", "c1"):
            await suspended(lash)
            await answered(lash, **{call_id: "allow"})
        turn = await (await lash.session("s", recover=False)).run("go", turn_id="t")
    assert turn.text == "Done."
    assert world.heard == ["c: allow", "a: allow", "b: allow"]
    assert world.asked == {"before": 3, "answered": 3}


async def test_who_says_nothing_more_to_an_answer_needs_no_hook_for_it() -> None:
    """The choice says whether the call is made."""
    world = World()

    async def lash_before_tool_call(ctx: Any, call: Any) -> Any:
        return AskPerson("May it?")

    async with world.open(A, B, plugins=[plugin("plain", lash_before_tool_call)]) as lash:
        await suspended(lash)
        await answered(lash, c0="allow", c1="deny")
        ((turn),) = [each.turn for each in await (await lash.session("s", recover=False)).recover()]
    assert codes(turn) == ["did a", "denied_by_person"]


async def test_the_hook_may_deny_what_a_person_allowed_but_never_allow_what_was_denied() -> None:
    ask = AskPerson("May it?", memo="late")
    world = World(ask=ask, after=lambda ctx, call, answer: DenyToolCall("Too late.", code=answer.memo))
    async with world.open(A, B) as lash:
        await suspended(lash)
        await answered(lash, c0="allow", c1="deny")
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert codes(done.turn) == ["late", "late"]
    assert world.deeds == []


async def test_a_hook_that_fails_on_an_answer_fails_its_call() -> None:
    """What was allowed isn't made then, and nothing of it is remembered."""

    def fail(ctx: Any, call: Any, answer: Any) -> None:
        raise RuntimeError("no disk")

    world = World(after=fail)
    async with world.open(A) as lash:
        await suspended(lash)
        await answered(lash, c0="allow")
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert codes(done.turn) == ["answered_tool_call_failed"]
    assert "asker" in done.turn.tool_calls[0].output.outcome.message
    assert (world.deeds, world.heard) == ([], [])


def other(says: Any, plugin_id: str) -> object:
    async def lash_before_tool_call(ctx: Any, call: Any) -> Any:
        return says

    return plugin(plugin_id, lash_before_tool_call)


@pytest.mark.parametrize("plugin_id", ["a-first", "z-last"])
async def test_a_denial_beats_a_question_in_any_order(plugin_id: str) -> None:
    world = World()
    async with world.open(A, plugins=[world.asker(), other(DenyToolCall("no", code="no"), plugin_id)]) as lash:
        turn = await (await lash.session("s")).run("go")
        assert await lash.pending() == []
    assert codes(turn) == ["no"]


@pytest.mark.parametrize("plugin_id", ["a-first", "z-last"])
@pytest.mark.parametrize(("choice", "came"), [("allow", "from a cache"), ("deny", "denied_by_person")])
async def test_a_question_beats_an_answer_in_the_tools_place(plugin_id: str, choice: str, came: str) -> None:
    """What a person doesn't allow isn't read from a cache either."""
    world = World()
    plugins = [world.asker(), other(ShortCircuitTool("from a cache"), plugin_id)]
    async with world.open(A, plugins=plugins) as lash:
        await suspended(lash)
        await answered(lash, c0=choice)
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert (codes(done.turn), world.deeds) == ([came], [])


@pytest.mark.parametrize("plugin_id", ["a-first", "z-last"])
async def test_a_person_is_shown_the_call_as_it_will_be_made(plugin_id: str) -> None:
    """Also where another plugin changes it afterwards; and it is made so, and not otherwise."""
    world = World()
    plugins = [world.asker(), other(ReplaceToolArgs({"what": "z"}), plugin_id)]
    async with world.open(A, plugins=plugins) as lash:
        await suspended(lash)
        (call,) = await lash.pending()
        assert call.args == {"what": "z"}
        await answered(lash, c0="allow")
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert (codes(done.turn), world.deeds, world.heard) == (["did z"], ["z"], ["z: allow"])


async def test_several_plugins_may_ask_about_one_call_and_each_must_have_its_answer() -> None:
    world, plain = World(), other(AskPerson("Really?"), "plain")
    async with world.open(A, plugins=[world.asker(), plain]) as lash:
        waits = await suspended(lash)
        one, two = await lash.pending()
        assert [each.question.plugin_id for each in (one, two)] == ["asker", "plain"]  # type: ignore[union-attr]
        assert waits.keys == (one.key, two.key)
        await lash.answer(one.key, "allow")
        await suspended(lash)
        assert world.deeds == []
        await lash.answer(two.key, "deny")
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert (codes(done.turn), world.heard) == (["denied_by_person"], ["a: allow"])


async def test_calls_within_calls_are_asked_about_too() -> None:
    """The tool around them is run again from its beginning, and finds what was answered."""
    world = World()
    async with world.open(("several", {}), B) as lash:
        await suspended(lash)
        await answered(lash, c0_00="allow", c1="allow")
        await suspended(lash)
        await answered(lash, c0_01="deny")
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert done.turn.tool_calls[0].output.outcome == ToolCallSuccess(["did within 0", "denied_by_person"])
    assert world.deeds == ["b", "within 0"]
    assert sorted(world.heard) == ["b: allow", "within 0: allow", "within 1: deny"]


async def test_within_an_unsafe_tool_nobody_can_be_asked() -> None:
    """It couldn't be run again when the turn goes on, so the call is denied and says why."""
    world = World()
    async with world.open(("rashly", {})) as lash:
        turn = await (await lash.session("s")).run("go")
    assert turn.tool_calls[0].output.outcome == ToolCallSuccess("question_within_unsafe")
    assert world.deeds == []


async def test_without_a_journal_nobody_can_be_asked() -> None:
    world = World()

    def script(request: LlmRequest) -> Reply:
        if any(message.role == "assistant" for message in request.messages):
            return Reply(text="Done.")
        return Reply(text="", tool_calls=[Call("act", {}, "c0")])

    async with inline_agent(script, tools=world.tools(), plugins=[world.asker()]) as lash:
        turn = await (await lash.session("s")).run("go")
    assert codes(turn) == ["question_not_durable"]
    assert world.deeds == []


async def test_who_isnt_answered_in_time_is_not_allowed() -> None:
    world = World(ask=AskPerson("May it?", timeout_s=0.001))
    async with world.open(A) as lash:
        try:
            turn = await (await lash.session("s", recover=False)).run("go", turn_id="t")
        except TurnSuspended:
            while not (done := await _recovered(lash)):
                pass
            turn = done[0].turn
    assert codes(turn) == ["question_timeout"]
    assert world.heard == ["a: None"]


@pytest.mark.parametrize("wait", [False, True], ids=["before", "while it waits for the session"])
async def test_an_answer_that_comes_too_late_is_refused(wait: bool) -> None:
    """It was taken, and the call was made, hours after it counted as denied; also if it came in time, and waited."""
    world = World(ask=AskPerson("May it?", timeout_s=0.3))
    async with world.open(A) as lash:
        await suspended(lash)
        (call,) = await lash.pending()
        assert call.question is not None
        assert call.question.until_ms is not None
        until_ms, store = call.question.until_ms, cast(Any, lash.store)
        begins = store.begin_turn

        async def time_is_up() -> None:
            while lash.world.now_ms() < until_ms:
                await anyio.lowlevel.checkpoint()

        async def busy_so_long(begin: Any) -> Any:
            await time_is_up()
            return await begins(begin)

        if wait:
            store.begin_turn = busy_so_long
        else:
            await time_is_up()
        with pytest.raises(ConfigurationError, match="too late"):
            await lash.answer(call.key, "allow", wait=wait)
        store.begin_turn = begins
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert codes(done.turn) == ["question_timeout"]


async def _recovered(lash: Lash) -> Any:
    try:
        return await (await lash.session("s", recover=False)).recover()
    except TurnSuspended:
        return ()


async def test_an_answer_is_one_of_the_choices_and_the_first_one_counts() -> None:
    world = World()
    async with world.open(A, B) as lash:
        await suspended(lash)
        first, second = await lash.pending()
        with pytest.raises(ConfigurationError, match="`yes` is no answer to plugin `asker`: it takes `allow`"):
            await lash.answer(first.key, "yes")
        with pytest.raises(ConfigurationError, match="waits for a person to allow it: answer with `allow`, `always`"):
            await lash.resolve(first.key, result={"choice": "allow"})
        await lash.answer(first.key, "deny")
        with pytest.raises(AlreadyAnswered):
            await lash.answer(first.key, "allow")
        await lash.answer(second.key, "always")
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert codes(done.turn) == ["denied_by_person", "did b"]


async def test_a_completion_is_no_question() -> None:
    @tool(may_defer=True)
    async def later(ctx: ToolCallContext) -> str:
        "Later."
        return ctx.defer()  # type: ignore[misc]

    def script(request: LlmRequest) -> Reply:
        return Reply(text="", tool_calls=[Call("later", {}, "c0")])

    async with agent(script, tools=[later]) as lash:
        await suspended(lash)
        (call,) = await lash.pending()
        with pytest.raises(ConfigurationError, match="`lash pending resolve"):
            await lash.answer(call.key, "allow")


async def test_an_answer_of_another_turn_fits_nothing() -> None:
    """The key follows from the turn, the call, its arguments and what was asked."""
    keys = []
    for turn_id, calls in (("t", (A,)), ("u", (A,)), ("t", (B,)), ("t", (A, A)), ("t", (A,))):
        async with World().open(*calls) as lash:
            keys.append((await suspended(lash, turn_id=turn_id)).keys)
    assert len({key for found in keys for key in found}) == 4  # of another turn, other arguments, another call
    assert keys[0] == keys[-1]


async def test_a_turn_that_waits_for_an_answer_can_be_cancelled() -> None:
    """What it asked about was never made, and says so."""
    world = World()
    async with world.open(A, ("look", {})) as lash:
        await suspended(lash)
        session = await lash.session("s", recover=False)
        await session.cancel("never mind")
        (done,) = await session.recover()
        assert await lash.pending() == []
    asked, looked = (each.output.outcome.message for each in done.turn.tool_calls)
    assert asked == "the turn was cancelled"
    assert looked.startswith("`look` ran")  # which no plugin that looks at results has seen
    assert world.deeds == ["looked "]


async def test_what_a_plugin_asked_holds_though_it_is_gone_when_the_turn_goes_on(tmp_path: Path) -> None:
    world, store = World(), f"sqlite:///{tmp_path}/lash.db"
    async with world.open(A, B, store=store) as lash:
        await suspended(lash)
    async with world.open(A, B, store=store, plugins=[]) as lash:
        assert len((await suspended(lash)).keys) == 2
        await answered(lash, c0="deny", c1="allow")
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert codes(done.turn) == ["denied_by_person", "did b"]


@pytest.mark.parametrize(("choice", "came"), [("deny", "denied_by_person"), ("allow", "did a")])
async def test_what_a_person_said_is_kept_for_whoever_has_the_tool(choice: str, came: str, tmp_path: Path) -> None:
    """With nobody there to hear a denial, it was recorded that nothing came of it; and then the call was made."""
    world, store = World(), f"sqlite:///{tmp_path}/lash.db"
    async with world.open(A, store=store) as lash:
        await suspended(lash)
        await answered(lash, c0=choice)
    async with world.open(A, store=store, tools=[]) as lash:
        with pytest.raises(TurnBlocked, match="isn't here any more"):
            await (await lash.session("s", recover=False)).recover()
    async with world.open(A, store=store) as lash:
        (done,) = await (await lash.session("s", recover=False)).recover(force=True)
    assert codes(done.turn) == [came]
    assert world.asked["answered"] == 1
    assert world.heard == [f"a: {choice}"]


async def test_what_ran_is_told_when_its_turn_is_cancelled_where_its_tool_is_gone(tmp_path: Path) -> None:
    world, store = World(), f"sqlite:///{tmp_path}/lash.db"
    async with world.open(A, B, store=store) as lash:
        await suspended(lash)
        await answered(lash, c0="allow")
        assert len((await suspended(lash)).keys) == 1
    assert world.deeds == ["a"]
    async with world.open(A, B, store=store, tools=[]) as lash:
        session = await lash.session("s", recover=False)
        await session.cancel("never mind")
        (done,) = await session.recover()
    first, second = (each.output.outcome for each in done.turn.tool_calls)
    assert "ran" in getattr(first, "message", "") or getattr(first, "value", None) == "did a"
    assert getattr(second, "message", "") == "the turn was cancelled"


async def test_a_call_that_was_refused_stays_refused_though_its_tool_comes_back_meanwhile() -> None:
    """No hook was asked about it. It was judged again when it would be made, and ran past all guards."""
    world = World()
    act, look, *_ = world.tools()

    class Away:
        manifest, is_async, unavailable = act.manifest, True, "it is away"

        async def call(self, ctx: ToolCallContext, args: Any) -> object:
            return await act.call(ctx, args)

    away = Away()

    async def lash_before_tool_call(ctx: Any, call: Any) -> Any:
        world.asked[call.tool_name] += 1
        away.unavailable = None  # type: ignore[assignment]  # it is back

    async with world.open(
        A, ("look", {}), tools=[away, look], plugins=[plugin("guard", lash_before_tool_call)]
    ) as lash:
        turn = await (await lash.session("s")).run("go", turn_id="t")
    assert codes(turn) == ["tool_unavailable", "seen"]
    assert world.deeds == ["looked "]
    assert world.asked == {"look": 1}


async def _says(what: str = "") -> str:
    return f"act on {what}"


async def _says_much(what: str = "") -> str:
    return "x" * 50_000


async def _fails(what: str = "") -> str:
    raise RuntimeError("no")


async def _hangs(what: str = "") -> str:
    await anyio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize(
    ("preview", "says"),
    [(_says, "act on a"), (_says_much, "… 18,000 more characters"), (_fails, None), (_hangs, None), (None, None)],
)
async def test_what_a_tool_says_of_a_call_is_recorded_with_the_question(
    preview: Any, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once; what fails, or takes too long, keeps nobody from asking."""
    monkeypatch.setattr("lash_framework.previews.LIMIT_S", 0.05 if preview is _hangs else 5)
    world, asked = World(), []

    async def counted(what: str = "") -> str:
        asked.append(what)
        said: str = await preview(what)
        return said

    @tool(effect="unsafe", preview=counted if preview else None)
    async def act(what: str = "") -> str:
        "Act."
        return "done"

    async with world.open(A, tools=[act]) as lash:
        await suspended(lash)
        await suspended(lash)
        (call,) = await lash.pending()
        assert call.question is not None
        assert call.question.preview is says if says is None else says in (call.question.preview or "")
        await answered(lash, c0="allow")
        (done,) = await (await lash.session("s", recover=False)).recover()
    assert codes(done.turn) == ["done"]
    assert len(asked) == (1 if preview else 0)


@on_asyncio
@pytest.mark.costly
async def test_a_crash_anywhere_loses_no_question_and_no_answer() -> None:
    """Killed at every place: each call that was asked about is made once, after its answer."""
    settings = load_settings(env={}, sets=["store_options.synchronous=normal"])

    def open_host(url: str) -> Any:
        return World().open(A, ("look", {}), B, store=url, settings=settings)

    def check(crash: Crash) -> None:
        assert all(count == 1 for label, count in crash.runs.items() if "`act`" in label and "tool_call" in label)
        asked = [each for each in crash.turn.tool_calls if each.tool_name == "act"]
        assert all([each.kind for each in call.interventions] == ["asked"] for call in asked)

    def few(point: CrashPoint) -> bool:
        return " sql " not in str(point) or "COMMIT" in str(point)

    report = await crash_at_every_effect(open_host, "go", checks=[check], points=few)
    assert codes(report.golden.turn) == ["did a", "seen", "did b"]
    assert len(report.crashes) > 10


@pytest.mark.parametrize(
    "made",
    [
        lambda: AskPerson(""),
        lambda: AskPerson("May it?", ()),
        lambda: AskPerson("May it?", (ALLOW,)),
        lambda: AskPerson("May it?", (DENY, DENY)),
        lambda: AskPerson("May it?", timeout_s=0),
        lambda: PersonChoice(choice_id=" ", text="", allows=True),
    ],
    ids=["empty", "no-choice", "no-no", "twice", "no-time", "blank"],
)
def test_a_question_that_nobody_could_answer_isnt_made(made: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        made()
