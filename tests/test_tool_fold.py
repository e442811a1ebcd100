"""The fold of what hooks say around a tool call, held against a model that is written another way: by cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings, strategies as st

from lash_framework.tool_fold import Clash, Overruled, Ruling, Said, fold, shown
from lash_hookspecs import (
    AskPerson,
    DenyToolCall,
    EmitEvents,
    EmitTrace,
    EnqueueMessages,
    ReplaceToolArgs,
    ReplaceToolResult,
    ShortCircuitTool,
    SurfaceEvent,
    ToolCallCancelled,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolFailureClass,
    ToolSeam,
)

BEFORE, AFTER = ToolSeam.BEFORE, ToolSeam.AFTER
ASKED = {"n": 0}
MADE = ToolCallOutput(ToolCallSuccess(0))


def failed(n: int) -> ToolCallOutput:
    return ToolCallOutput(
        ToolCallFailure(failure_class=ToolFailureClass.EXECUTION, code="no", message=f"no {n}"),
    )


def stopped(n: int) -> ToolCallOutput:
    return ToolCallOutput(ToolCallCancelled(message=f"stopped {n}"))


# ---- statements of the reference ------------------------------------------------------------------------------------

DENY, OTHER_DENY = DenyToolCall("no"), DenyToolCall("never", "other")
QUESTIONS = [AskPerson("May it?"), AskPerson("Really?")]
ANSWER, FAILED, STOPPED = ShortCircuitTool(1), ShortCircuitTool(failed(1)), ShortCircuitTool(stopped(1))


def decided(*said: Said, seam: ToolSeam = BEFORE) -> tuple[str, Any] | None:
    ruling = fold(seam, ASKED if seam is BEFORE else MADE, said)
    return None if ruling.decided is None else (ruling.decided.plugin_id, ruling.decided.value)


@pytest.mark.parametrize("weaker", [ANSWER, FAILED, STOPPED])
@pytest.mark.statement(33, page="plugin-system")
def test_a_denial_beats_an_answer_in_either_order(weaker: ShortCircuitTool) -> None:
    """What the reference calls an abort beats everything, in either order."""
    assert decided(("a", weaker), ("b", DENY)) == ("b", DENY)
    assert decided(("a", DENY), ("b", weaker)) == ("a", DENY)


@pytest.mark.parametrize("bad", [FAILED, STOPPED])
@pytest.mark.statement(32, page="plugin-system")
def test_an_answer_that_failed_beats_one_that_succeeded(bad: ShortCircuitTool) -> None:
    """What the reference calls a denial beats success, in either order."""
    assert decided(("a", ANSWER), ("b", bad)) == ("b", bad)
    assert decided(("a", bad), ("b", ANSWER)) == ("a", bad)
    worse, better = ReplaceToolResult(bad.output), ReplaceToolResult(1)
    assert decided(("a", better), ("b", worse), seam=AFTER) == ("b", worse)
    assert decided(("a", worse), ("b", better), seam=AFTER) == ("a", worse)


@pytest.mark.statement(34, page="plugin-system")
def test_before_the_tool_a_tie_goes_to_the_lower_plugin_id() -> None:
    """Equal strength before the tool is resolved by plugin id, whatever the order."""
    assert decided(("b", DENY), ("a", OTHER_DENY)) == ("a", OTHER_DENY)
    assert decided(("b", ANSWER), ("a", ShortCircuitTool(2))) == ("a", ShortCircuitTool(2))


@pytest.mark.statement(35, page="plugin-system")
def test_after_the_tool_the_first_of_equals_counts() -> None:
    """Of equal replacements of a result the first one wins; and of denials."""
    assert decided(("b", ReplaceToolResult(1)), ("a", ReplaceToolResult(2)), seam=AFTER) == ("b", ReplaceToolResult(1))
    assert decided(("b", DENY), ("a", OTHER_DENY), seam=AFTER) == ("b", DENY)


@pytest.mark.statement(36, page="plugin-system")
def test_who_was_overruled_is_told_with_the_winner() -> None:
    """Both are named, who had the last word and who was overruled."""
    ruling = fold(BEFORE, ASKED, [("a", ANSWER), ("b", DENY)])
    assert ruling.overruled == (Overruled("b", "a", ANSWER),)


@pytest.mark.statement(37, page="plugin-system")
def test_a_plugin_overrules_itself_in_silence() -> None:
    """Two decisions of one plugin are no conflict."""
    assert fold(BEFORE, ASKED, [("a", ANSWER), ("a", DENY)]).overruled == ()


@pytest.mark.statement(38, page="plugin-system")
def test_replaced_arguments_are_what_later_hooks_see_and_earlier_ones_see_again() -> None:
    """They are shown to later hooks, and are what is to be reinspected."""
    said: list[Said] = [("a", EmitTrace("seen")), ("b", ReplaceToolArgs({"n": 1}))]
    assert shown(BEFORE, ASKED, said) == {"n": 1}
    assert fold(BEFORE, ASKED, said).to_reinspect == "b"


@pytest.mark.statement(39, page="plugin-system")
def test_a_second_replacement_in_the_reinspection_is_a_clash_of_both() -> None:
    """It names both plugins, for arguments and for results, also where it only takes the change back."""
    change: list[Said] = [("b", ReplaceToolArgs({"n": 1}))]
    assert fold(BEFORE, ASKED, change, [("a", ReplaceToolArgs({"n": 2}))]).clash == Clash("b", "a")
    assert fold(BEFORE, ASKED, change, [("a", ReplaceToolArgs(ASKED))]).clash == Clash("b", "a")
    assert fold(BEFORE, ASKED, change, [("a", ReplaceToolArgs({"n": 1}))]).clash is None
    changed: list[Said] = [("b", ReplaceToolResult(1))]
    assert fold(AFTER, MADE, changed, [("a", ReplaceToolResult(2))]).clash == Clash("b", "a")


@pytest.mark.statement(40, page="plugin-system")
def test_of_a_reinspection_only_a_denial_counts() -> None:
    """No answer that is given then decides, and no event is shown twice."""
    change: list[Said] = [("b", ReplaceToolArgs({"n": 1}))]
    event = EmitEvents((SurfaceEvent(name="seen"),))
    before = fold(BEFORE, ASKED, change)
    assert fold(BEFORE, ASKED, change, [("a", ANSWER), ("a", FAILED), ("a", event), ("a", EmitTrace("x"))]) == before
    assert fold(BEFORE, ASKED, change, [("a", DENY)]).decided == ("a", DENY)


@pytest.mark.statement(41, page="plugin-system")
def test_two_plugins_that_always_replace_the_arguments_fail_the_call() -> None:
    """Whichever comes first, none of the two changes goes through."""
    one, other = ("a", ReplaceToolArgs({"n": 1})), ("b", ReplaceToolArgs({"n": 2}))
    assert fold(BEFORE, ASKED, [one, other]).clash == Clash("a", "b")
    assert fold(BEFORE, ASKED, [other, one]).clash == Clash("b", "a")
    assert fold(BEFORE, ASKED, [one, other, ("c", DENY)]).clash is None


def test_who_asks_for_what_it_sees_changes_nothing() -> None:
    """So that plugins which bring arguments into shape don't fight."""
    assert fold(BEFORE, ASKED, [("a", ReplaceToolArgs(dict(ASKED)))]) == Ruling()
    assert fold(AFTER, MADE, [("a", ReplaceToolResult(0))]) == Ruling()
    same = [("a", ReplaceToolArgs({"n": 1})), ("b", ReplaceToolArgs({"n": 1}))]
    assert fold(BEFORE, ASKED, same).clash is None


# ---- any plugins ----------------------------------------------------------------------------------------------------

Table = dict[int, list[Any]]
"""What a plugin says, by the number that it sees."""

NUMBERS = range(3)
NOTHING = [EmitEvents((SurfaceEvent(name="seen"),)), EmitTrace("seen"), EnqueueMessages.note("seen")]


OUTPUTS = [*NUMBERS, *map(failed, NUMBERS), *map(stopped, NUMBERS)]
MENU: dict[ToolSeam, list[Any]] = {
    BEFORE: [
        *(ReplaceToolArgs({"n": n}) for n in NUMBERS),
        *map(ShortCircuitTool, OUTPUTS),
        DENY,
        OTHER_DENY,
        *QUESTIONS,
        *NOTHING,
    ],
    AFTER: [*map(ReplaceToolResult, OUTPUTS), DENY, OTHER_DENY, *NOTHING],
}


def tables(seam: ToolSeam) -> st.SearchStrategy[Table]:
    said = st.lists(st.sampled_from(MENU[seam]), max_size=2)
    return st.tuples(*[said for _ in NUMBERS]).map(lambda each: dict(enumerate(each)))


def plugins(seam: ToolSeam) -> st.SearchStrategy[list[tuple[str, Table]]]:
    return st.lists(st.tuples(st.sampled_from("abcdef"), tables(seam)), max_size=4, unique_by=lambda each: each[0])


def number_in(value: Any) -> int:
    number: int = value["n"] if isinstance(value, dict) else value.outcome.value
    return number


@frozen
class Played:
    """A round of all plugins, and one of those that must look again."""

    said: list[Said]
    again: list[Said]
    ruling: Ruling


def play(seam: ToolSeam, current: Any, present: Sequence[tuple[str, Table]]) -> Played:
    """As the runtime asks them."""
    said: list[Said] = []
    for plugin_id, table in present:
        value = number_in(shown(seam, current, said))
        said += [(plugin_id, each) for each in table[value]]
    ruling = fold(seam, current, said)
    again: list[Said] = []
    if ruling.to_reinspect is not None and ruling.changed is not None:
        for plugin_id, table in present:
            if plugin_id == ruling.to_reinspect:
                break
            again += [(plugin_id, each) for each in table[number_in(ruling.changed.value)]]
        ruling = fold(seam, current, said, again)
    return Played(said, again, ruling)


def verdict(ruling: Ruling) -> tuple[Any, ...]:
    """What becomes of the call."""
    if ruling.decided is not None and isinstance(ruling.decided.value, DenyToolCall):
        return ("denied", *ruling.decided)
    if ruling.clash is not None:
        return ("clash", ruling.clash.first, ruling.clash.second)
    if ruling.decided is not None:
        return ("answered", ruling.decided.plugin_id, ruling.decided.value.output)
    return ("goes on", None if ruling.changed is None else ruling.changed.value)


def model_before(present: Sequence[tuple[str, Table]]) -> tuple[Any, ...]:
    """The law for arguments, case by case."""
    number, changer, clash = 0, None, None
    denials, answers = [], []
    for at, (plugin_id, table) in enumerate(present):
        for each in table[number if changer is not None else 0]:
            if isinstance(each, DenyToolCall):
                denials.append((plugin_id, each))
            elif isinstance(each, ShortCircuitTool):
                answers.append((plugin_id, each.output))
            elif isinstance(each, ReplaceToolArgs) and each.args["n"] != number:
                if changer is None:
                    changer, number = at, each.args["n"]
                elif clash is None:
                    clash = (present[changer][0], plugin_id)
    if not denials and changer is not None:
        for plugin_id, table in present[:changer]:
            for each in table[number]:
                if isinstance(each, DenyToolCall):
                    denials.append((plugin_id, each))
                if isinstance(each, ReplaceToolArgs) and each.args["n"] != number and clash is None:
                    clash = (present[changer][0], plugin_id)
    if denials:
        who = min(plugin_id for plugin_id, _ in denials)
        return ("denied", who, next(each for plugin_id, each in denials if plugin_id == who))
    if clash is not None:
        return ("clash", *clash)
    bad = [each for each in answers if not each[1].is_success]
    if bad or answers:
        chosen = bad or answers
        who = min(plugin_id for plugin_id, _ in chosen)
        return ("answered", who, next(output for plugin_id, output in chosen if plugin_id == who))
    return ("goes on", None if changer is None else {"n": number})


def model_after(present: Sequence[tuple[str, Table]]) -> tuple[Any, ...]:
    """The law for results, case by case."""
    number, changer = 0, None
    denials, bad = [], []
    for at, (plugin_id, table) in enumerate(present):
        for each in table[number]:
            if isinstance(each, DenyToolCall):
                denials.append((plugin_id, each))
            elif isinstance(each, ReplaceToolResult) and not each.output.is_success:
                bad.append((plugin_id, each.output))
            elif isinstance(each, ReplaceToolResult) and changer is None and each.output != MADE:
                changer, number = at, each.output.outcome.value
    if denials:
        return ("denied", *denials[0])
    if bad:
        return ("answered", *bad[0])
    if changer is None:
        return ("goes on", None)
    clash = None
    for plugin_id, table in present[:changer]:
        for each in table[number]:
            if isinstance(each, DenyToolCall):
                return ("denied", plugin_id, each)
            if isinstance(each, ReplaceToolResult) and each.output.is_success and number_in(each.output) != number:
                clash = clash or ("clash", present[changer][0], plugin_id)
    return clash or ("answered", present[changer][0], ToolCallOutput(ToolCallSuccess(number)))


@given(plugins(BEFORE))
@settings(max_examples=100, deadline=None)
@pytest.mark.costly
def test_any_plugins_before_a_tool_come_to_what_the_model_says(present: list[tuple[str, Table]]) -> None:
    assert verdict(play(BEFORE, ASKED, present).ruling) == model_before(present)


@given(plugins(BEFORE))
@settings(max_examples=100, deadline=None)
@pytest.mark.costly
def test_whoever_has_a_question_asks_it_unless_the_call_is_denied_anyway(present: list[tuple[str, Table]]) -> None:
    """In any order of plugins; who looks again at changed arguments asks about these."""
    played = play(BEFORE, ASKED, present)
    last = {who: each for who, each in (*played.said, *played.again) if isinstance(each, AskPerson)}
    asked = {each.plugin_id: each.value for each in played.ruling.asked}
    assert asked == ({} if verdict(played.ruling)[0] in ("denied", "clash") else last)


def test_who_has_a_question_only_about_what_was_changed_asks_it() -> None:
    """A guard in front that asks about what a later plugin made of the arguments, and one that asks in other words."""
    changed, question, other = ReplaceToolArgs({"n": 1}), *QUESTIONS
    assert fold(BEFORE, ASKED, [("b", changed)], [("a", question)]).asked == (("a", question),)
    assert fold(BEFORE, ASKED, [("a", question), ("b", changed)], [("a", other)]).asked == (("a", other),)
    assert fold(BEFORE, ASKED, [("b", changed)], [("a", question), ("c", DENY)]).asked == ()


@given(plugins(AFTER))
@settings(max_examples=100, deadline=None)
@pytest.mark.costly
def test_any_plugins_after_a_tool_come_to_what_the_model_says(present: list[tuple[str, Table]]) -> None:
    assert verdict(play(AFTER, MADE, present).ruling) == model_after(present)


@given(st.data(), st.sampled_from([BEFORE, AFTER]))
@settings(max_examples=100, deadline=None)
@pytest.mark.costly
def test_one_plugin_more_never_lets_through_what_was_denied(data: st.DataObject, seam: ToolSeam) -> None:
    """The law is monotone in what is said: whoever speaks besides, wherever, a denial stays one."""
    current = ASKED if seam is BEFORE else MADE
    said = play(seam, current, data.draw(plugins(seam))).said
    more = [("z", each) for each in data.draw(tables(seam))[0]]
    at = data.draw(st.integers(0, len(said)))
    if verdict(fold(seam, current, said))[0] == "denied":
        assert verdict(fold(seam, current, [*said[:at], *more, *said[at:]]))[0] == "denied"


@given(st.data(), st.sampled_from([BEFORE, AFTER]))
@settings(max_examples=100, deadline=None)
@pytest.mark.costly
def test_conflicts_are_told_between_plugins_each_with_the_one_who_decided(data: st.DataObject, seam: ToolSeam) -> None:
    """Every decision of another plugin is told, none of the winner's own, and none where nobody decided."""
    played = play(seam, ASKED if seam is BEFORE else MADE, data.draw(plugins(seam)))
    ruling = played.ruling
    if ruling.decided is None:
        assert ruling.overruled == ()
        return
    winner = ruling.decided.plugin_id
    denied = {plugin_id for plugin_id, each in (*played.said, *played.again) if isinstance(each, DenyToolCall)}
    losers = {each.loser for each in ruling.overruled}
    assert {each.winner for each in ruling.overruled} <= {winner}
    assert winner not in losers
    assert denied - {winner} <= losers


@given(st.data())
@settings(max_examples=100, deadline=None)
@pytest.mark.costly
def test_the_order_of_plugins_does_not_decide_whether_a_call_that_one_of_them_denies_is_made(
    data: st.DataObject,
) -> None:
    """A plugin that denies whatever it sees denies it in every order."""
    present = data.draw(plugins(BEFORE))
    always: tuple[str, Table] = ("g", {n: [DENY] for n in NUMBERS})
    at = data.draw(st.integers(0, len(present)))
    assert verdict(play(BEFORE, ASKED, [*present[:at], always, *present[at:]]).ruling)[0] == "denied"
