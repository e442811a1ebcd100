"""The plugin in turns: what is asked, remembered and traced, however the turn goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin
from approval_kit import MODE, World, call, codes, goes_on, waits
from loops import on_asyncio

from lash_framework.settings import load_settings
from lash_framework.testing import Crash, CrashPoint, crash_at_every_effect
from lash_hookspecs import (
    ConfigurationError,
)
from lash_hookspecs.testing.plugins import imported_by
from lash_plugin_provider_scripted import Call

pytestmark = pytest.mark.usefixtures("own_state")


DEAR = """
[plugin.approval]
default = "allow"

[[plugin.approval.rules]]
name = "dear"
decide = "ask"
spent_above = 1

[models."test:model"]
prices = { as_of = "never" }
"""


async def test_a_session_whose_price_nobody_knows_may_be_dear(tmp_path: Path) -> None:
    """A model without a price was free: the rule never asked, whatever the session had cost."""
    async with World(tmp_path, DEAR).open([Call("act", {})]) as lash:
        turn = await (await lash.session("s")).run("go", turn_id="first")
        assert (turn.cost.picodollars, turn.cost.at_least) == (0, True)
        (asked,) = await waits(lash, "second")
        assert asked.said == "May `act` of plugin `application` be called? Rule `dear` asks."


async def test_rules_allow_deny_and_ask_and_every_decision_is_traced_and_explained(tmp_path: Path) -> None:
    world = World(tmp_path)
    calls = [call("look"), call("destroy", "c1"), call("act", "c2", what="a"), call("pay", "c3", euros=3)]
    async with world.open(calls) as lash:
        act, pay = await waits(lash)
        assert (act.tool_name, pay.tool_name) == ("act", "pay")
        assert act.said == "May `act` of plugin `application` be called? Rule `default` asks."
        assert [each.choice_id for each in act.question.choices] == ["allow", "same", "tool", "project", "deny"]
        assert [each.choice_id for each in pay.question.choices] == ["allow", "deny"]
        assert world.deeds == ["look"]
        await lash.answer(pay.key, "deny", note="too dear")
        await lash.answer(act.key, "allow")
        turn = await goes_on(lash)
        told = [(each.call_id, each.plugin_id, each.what) for each in (await lash.explain("t")).calls]
    assert codes(turn) == ["ok", "denied_by_rule", "ok", "denied_by_person"]
    assert "rule `never` of the approvals denies it (nothing comes back)" in turn.tool_calls[1].output.outcome.message
    assert world.deeds == ["look", "act a"]
    assert told == [
        ("c1", "approval", "denied: denied_by_rule"),
        ("c2", "approval", "asked: allow"),
        ("c3", "approval", "asked: deny"),
        ("c3", "approval", "denied: denied_by_person"),
    ]
    decided = [(each["tool"], each["decision"], each["rule"]) for name, each in world.traced if "decided" in name]
    assert decided == [
        ("look", "allow", "reading"),
        ("destroy", "deny", "never"),
        ("act", "ask", "default"),
        ("pay", "ask", "each time"),
    ]
    assert [(each["tool"], each["choice"]) for name, each in world.traced if "answered" in name] == [
        ("act", "allow"),
        ("pay", "deny"),
    ]


@pytest.mark.parametrize(
    ("choice", "same", "other", "elsewhere"),
    [
        ("allow", False, False, False),
        ("same", True, False, False),
        ("tool", True, True, False),
        ("project", True, False, True),
    ],
)
async def test_always_is_as_wide_as_it_says(
    choice: str, same: bool, other: bool, elsewhere: bool, tmp_path: Path
) -> None:
    """Asked again or not: the same call, one with other arguments, the same in another session after a restart."""
    world = World(tmp_path)
    store = f"sqlite:///{tmp_path}/lash.db"
    async with world.open([call("act", what="a")], store=store) as lash:
        (asked,) = await waits(lash)
        await lash.answer(asked.key, choice)
        await goes_on(lash)
    for turn_id, session, what, is_allowed in [
        ("u", "s", "a", same),
        ("v", "s", "b", other),
        ("w", "s2", "a", elsewhere),
        ("x", "s3", "b", False),
    ]:
        async with world.open([call("act", what=what)], store=store) as lash:
            if is_allowed:
                assert codes(await goes_on(lash, turn_id, session)) == ["ok"]
            else:
                (asked,) = await waits(lash, turn_id, session)
                await lash.answer(asked.key, "deny")
                assert codes(await goes_on(lash, turn_id, session)) == ["denied_by_person"]


async def test_a_project_file_that_cant_be_written_is_allowed_in_the_session_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "project").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    world = World(tmp_path / "project")
    async with world.open([call("act")], [call("act", "c1")]) as lash:
        (asked,) = await waits(lash)
        await lash.answer(asked.key, "project")
        assert codes(await goes_on(lash)) == ["ok", "ok"]


async def test_an_allowed_call_adds_no_record(tmp_path: Path) -> None:
    """What is allowed is in the trace; the turn's journal is as long as with a hook that says nothing."""
    counts = []
    for mode in ("careful", "standard"):
        world = World(tmp_path)

        async def lash_before_tool_call(ctx: Any, call: Any) -> None:
            return None

        async with world.open([call("look")], plugins=[plugin("silent", lash_before_tool_call)]) as lash:
            written: list[int] = []
            store: Any = lash.store
            append = store.append_journal

            async def counted(lease: Any, item: Any, rows: Any, *rest: Any, **more: Any) -> Any:
                written.append(len(rows))  # noqa: B023  # awaited within the round
                return await append(lease, item, rows, *rest, **more)  # noqa: B023

            store.append_journal = counted
            await (await lash.session("s", mode=mode)).run("go")
            counts.append(written)
    assert counts[0] == counts[1]


@on_asyncio
@pytest.mark.costly
async def test_a_crash_anywhere_loses_no_decision(tmp_path: Path) -> None:
    """Each call is asked about, and answered, once."""

    def open_host(url: str) -> Any:
        return World(tmp_path).open([call("act", what="a")], [call("act", "c1", what="a")], store=url)

    def few(point: CrashPoint) -> bool:
        return "sql" not in str(point) and "store" not in str(point)

    def check(crash: Crash) -> None:
        kinds = [[each.kind for each in call.interventions] for call in crash.turn.tool_calls]
        assert kinds == [["asked"], ["asked"]]

    report = await crash_at_every_effect(open_host, "go", points=few, checks=[check])
    assert len(report.crashes) > 10


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default = 'maybe'", "must be `allow`, `ask` or `deny`"),
        ("defualt = 'ask'", "did you mean `default`?"),
        ("timeout_s = 0", "use a number above 0"),
        ("[[plugin.approval.rules]]\ntool = 'x'", "decide"),
        ("[[plugin.approval.rules]]\ndecide = 'ask'\ntool = ' '", "is empty"),
        ("[[plugin.approval.rules]]\ndecide = 'ask'\neffect = 'small'", "`pure`, `idempotent` or `unsafe`"),
        ("[[plugin.approval.rules]]\ndecide = 'ask'\nspent_above = -1", "at least 0"),
        ("[[plugin.approval.rules]]\ndecide = 'ask'\nargs = { x = 1 }", "must be text"),
        ("groups = { deny = ['a:b'] }", "`groups.deny` must be a word, and none of allow, deny"),
        ("groups = { edits = ['write'] }", "`groups.edits` must name tools as `plugin:tool`"),
        ("groups = { edits = [] }", "`groups.edits` must name tools as `plugin:tool`"),
    ],
)
async def test_an_option_that_doesnt_fit_is_refused_by_name(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "lash.toml").write_text(f"{MODE}[plugin.approval]\n{text}\n")
    with pytest.raises(ConfigurationError, match="approval") as refused:
        async with agent([], settings=load_settings(tmp_path / "lash.toml", env={}), mode="careful"):
            pass
    assert says in str(refused.value)


def test_the_plugin_is_cheap_to_look_at() -> None:
    """What it needs is imported when a call is decided, not when plugins are looked for."""
    late = {"anyio", "json", "lash_plugin_approval.deciding", "lash_hookspecs.questions"}
    assert not late & imported_by("import lash_plugin_approval.plugin")
