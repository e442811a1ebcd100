"""What plugins remember of a session: made lazily, rolled back, recorded, stored, restored, migrated, kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import evolve, field, frozen
from host_kit import host, plugin
from hypothesis import given, strategies as st

from lash_framework.composition import Composition
from lash_framework.state import PluginStates
from lash_hookspecs import (
    ComponentChanged,
    ComponentUnchanged,
    PluginError,
    SessionStateSpec,
    StoredComponent,
    attachment_id,
    decode,
)


@frozen
class Item:
    name: str


@frozen
class Plan:
    """A plugin's state."""

    items: tuple[Item, ...] = ()
    notes: Mapping[str, int] = field(factory=dict)
    done: bool = False


@frozen
class Count:
    """Another one's."""

    value: int = 0


def stateful(plugin_id: str, state: type, version: int = 1, migrate: Callable[..., Any] | None = None) -> Any:
    spec = SessionStateSpec(state=state, version=version, migrate=migrate)
    return plugin(plugin_id, session_state=lambda: spec)


def composed(*plugins: object, **options: Any) -> Composition:
    return host(*plugins, **options).composition("base")


def stored(
    components: Mapping[str, Any], before: Mapping[str, StoredComponent] | None = None
) -> dict[str, StoredComponent]:
    """What a store has after a commit with these entries."""
    return {
        key: StoredComponent(ref=attachment_id(entry.body), body=entry.body, version=entry.version)
        if isinstance(entry, ComponentChanged)
        else (before or {})[key]
        for key, entry in components.items()
    }


PLAN = Plan(items=(Item("one"), Item("two")), notes={"a": 1}, done=True)
BOTH = composed(stateful("plan", Plan), stateful("count", Count), plugin("none"))


# ---- scopes ---------------------------------------------------------------------------------------------------------


def test_every_plugin_has_a_scope_and_only_those_that_declared_one_a_state() -> None:
    states = PluginStates(BOTH)
    states.attach_hosts({"plan": "held", "absent": 1})
    assert {key: (each.state, each.state_type, each.host) for key, each in states.scopes.items()} == {
        "count": (Count(), Count, None),
        "none": (None, None, None),
        "plan": (Plan(), Plan, "held"),
    }


def test_a_scope_has_its_plugins_options_and_gets_its_host_later() -> None:
    states = PluginStates(composed(plugin("a"), options={"a": {"x": 1}}))
    assert states.scopes["a"].options == {"x": 1}
    states.attach_hosts({"a": "held"})
    assert states.scopes["a"].host == "held"


def test_nothing_is_made_before_it_is_asked_for() -> None:
    """An idle session that was only opened must cost next to nothing, and not fail over a state that nobody reads."""
    states = PluginStates(BOTH, {"plugin/plan": StoredComponent(ref="r", body=b"broken")})
    assert states.components({"plugin/plan": StoredComponent(ref="r", body=b"broken")}) == {
        "plugin/plan": ComponentUnchanged("r")
    }
    with pytest.raises(PluginError, match="plugin `plan`"):
        _ = states.scopes
    size = sum(map(sys.getsizeof, [PluginStates(BOTH, {}), *(getattr(states, name) for name in states.__slots__[:4])]))
    assert size < 1024


# ---- within a turn --------------------------------------------------------------------------------------------------


def test_rolling_back_puts_the_same_objects_back() -> None:
    states = PluginStates(BOTH)
    before = states.scopes["plan"].state
    mark = states.mark()
    states.scopes["plan"].state = PLAN
    states.scopes["count"].state = Count(1)
    inner = states.mark()
    states.scopes["count"].state = Count(2)
    states.rollback(inner)
    assert states.scopes["count"].state == Count(1)
    states.rollback(mark)
    assert states.scopes["plan"].state is before
    assert states.scopes["count"].state == Count()


def test_what_changed_since_a_mark_is_recorded_as_data_and_replayed() -> None:
    """Unchanged means `is`: an equal value in its place is a change, the same one is none."""
    live, replayed = PluginStates(BOTH), PluginStates(BOTH)
    mark = live.mark()
    assert live.recorded(mark) == {}
    live.scopes["plan"].state = PLAN
    recorded = live.recorded(mark)
    assert recorded == {
        "plan": {"version": 1, "state": {"items": [{"name": "one"}, {"name": "two"}], "notes": {"a": 1}, "done": True}}
    }
    replayed.replay({**recorded, "absent": {"version": 1, "state": 1}})
    assert replayed.scopes["plan"].state == PLAN
    assert replayed.components({}) == live.components({})


def test_a_record_of_an_older_version_is_migrated_on_replay() -> None:
    newer = composed(stateful("count", Count, 2, lambda version, data: Count(data * 10)))
    states = PluginStates(newer)
    states.replay({"count": {"version": 1, "state": 4}})
    assert states.scopes["count"].state == Count(40)
    with pytest.raises(PluginError, match=r"plugin `count`.*can't be read"):
        states.replay({"count": {"state": 4}})


# ---- commits --------------------------------------------------------------------------------------------------------


def test_a_first_state_that_was_never_changed_is_not_stored() -> None:
    states = PluginStates(BOTH)
    assert states.mark()
    assert states.components({}) == {}


@pytest.mark.statement(19, page="plugin-system")
def test_a_changed_state_is_stored_and_comes_back() -> None:
    """19: a plugin's state comes back as it was."""
    states = PluginStates(BOTH)
    states.scopes["plan"].state = PLAN
    components = states.components({})
    assert list(components) == ["plugin/plan"]
    entry = components["plugin/plan"]
    assert isinstance(entry, ComponentChanged)
    assert decode(dict, entry.body)["version"] == 1
    again = PluginStates(BOTH, stored(components))
    assert again.scopes["plan"].state == PLAN
    assert again.scopes["count"].state == Count()


def test_what_did_not_change_keeps_its_bytes() -> None:
    """By reference; and a new value that encodes to the same bytes is no change either."""
    states = PluginStates(BOTH)
    states.scopes["plan"].state = PLAN
    first = stored(states.components({}))
    unchanged = {"plugin/plan": ComponentUnchanged(first["plugin/plan"].ref)}
    assert states.components(first) == unchanged
    opened = PluginStates(BOTH, first)
    assert opened.scopes["plan"].state == PLAN
    assert opened.components(first) == unchanged
    opened.scopes["plan"].state = evolve(PLAN)
    assert opened.components(first) == unchanged
    opened.scopes["plan"].state = Plan()
    assert isinstance(opened.components(first)["plugin/plan"], ComponentChanged)


def test_a_commit_that_failed_does_not_make_its_state_count_as_stored() -> None:
    states = PluginStates(BOTH)
    states.scopes["count"].state = Count(1)
    first = stored(states.components({}))
    states.scopes["count"].state = Count(2)
    lost = states.components(first)["plugin/count"]
    assert states.components(first)["plugin/count"] == lost
    assert isinstance(lost, ComponentChanged)


def test_a_migrated_state_is_stored_with_the_next_commit() -> None:
    old = PluginStates(BOTH)
    old.scopes["count"].state = Count(4)
    before = stored(old.components({}))
    newer = composed(stateful("count", Count, 3, lambda version, data: Count(data["value"] + version)))
    states = PluginStates(newer, before)
    assert states.scopes["count"].state == Count(5)
    entry = states.components(before)["plugin/count"]
    assert isinstance(entry, ComponentChanged)
    assert decode(dict, entry.body) == {"version": 3, "state": {"value": 5}}


def test_what_an_absent_plugin_stored_is_kept_and_is_there_when_it_comes_back() -> None:
    """Also what isn't a plugin's at all: the kernel's own components pass through."""
    states = PluginStates(BOTH)
    states.scopes["plan"].state = PLAN
    before = {**stored(states.components({})), "kernel": StoredComponent(ref="sha256:x", body=b"x")}
    without = PluginStates(composed(stateful("count", Count)), before)
    without.scopes["count"].state = Count(1)
    entries = without.components(before)
    assert entries["plugin/plan"] == ComponentUnchanged(before["plugin/plan"].ref)
    assert entries["kernel"] == ComponentUnchanged("sha256:x")
    after = stored(entries, before)
    assert PluginStates(BOTH, after).scopes["plan"].state == PLAN


# ---- what can't be read ---------------------------------------------------------------------------------------------


def body(text: str) -> dict[str, StoredComponent]:
    return {"plugin/count": StoredComponent(ref="r", body=text.encode())}


@pytest.mark.parametrize(
    ("spec", "text", "tells"),
    [
        ((1, None), "broken", "its stored state can't be read: not JSON"),
        ((1, None), '{"version":1}', "can't be read"),
        ((1, None), '{"version":1,"state":{"value":"text"}}', "expected int"),
        ((1, None), '{"version":2,"state":{}}', "version 2 of `Count`, and the plugin that is installed knows only 1"),
        ((2, None), '{"version":1,"state":{}}', "no `migrate`"),
        (
            (2, lambda version, data: 1 / 0),
            '{"version":1,"state":{}}',
            "`migrate` failed on version 1: ZeroDivisionError",
        ),
        ((2, lambda version, data: data), '{"version":1,"state":{}}', "`migrate` returned a `dict`, not a `Count`"),
    ],
)
def test_a_state_that_can_not_be_read_is_an_error_that_names_the_plugin(spec: Any, text: str, tells: str) -> None:
    """Absent and unreadable are different: an unreadable state never turns into a fresh one."""
    states = PluginStates(composed(stateful("count", Count, *spec)), body(text))
    with pytest.raises(PluginError, match="plugin `count`, hook `lash_session_state`") as caught:
        _ = states.scopes
    assert tells in str(caught.value)


def test_a_state_that_can_not_be_stored_is_an_error_that_names_the_plugin() -> None:
    states = PluginStates(BOTH)
    states.scopes["plan"].state = Plan(notes={"x": float("nan")})  # type: ignore[dict-item]  # plugins make mistakes
    with pytest.raises(PluginError, match=r"plugin `plan`.*finite"):
        states.components({})


# ---- property -------------------------------------------------------------------------------------------------------

PLANS = st.builds(
    Plan,
    items=st.lists(st.builds(Item, st.text(st.characters(exclude_categories=["Cs"])))).map(tuple),
    notes=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**53), 2**53)),
    done=st.booleans(),
)


@given(st.lists(st.tuples(PLANS, st.booleans())))
def test_a_session_that_is_reopened_after_every_turn_remembers_the_last_committed_state(
    turns: list[tuple[Plan, bool]],
) -> None:
    """Whether a turn commits or rolls back, and whether the session stays open in between, makes no difference."""
    kept = PluginStates(BOTH)
    kept_components: dict[str, StoredComponent] = {}
    components: dict[str, StoredComponent] = {}
    expected = Plan()
    for plan, commits in turns:
        opened = PluginStates(BOTH, components)
        for states in (kept, opened):
            mark = states.mark()
            states.scopes["plan"].state = plan
            if not commits:
                states.rollback(mark)
        kept_components = stored(kept.components(kept_components), kept_components)
        components = stored(opened.components(components), components)
        expected = plan if commits else expected
        assert opened.scopes["plan"].state == kept.scopes["plan"].state == expected
        assert components == kept_components
