"""Values to stored data and back: for every class, every union and every enum that the modules define."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import attrs
import pytest
from hookspecs_kit import (
    ATTRS_CLASSES,
    ENUMS,
    JSON,
    NEVER_STORED,
    PLAIN_UNIONS,
    STORED_CLASSES,
    TAGGED_UNIONS,
    an_example,
    tag_of,
    values,
)
from hypothesis import HealthCheck, given, settings, strategies as st

from lash_hookspecs import (
    AssistantProseDelta,
    CodecError,
    LlmCallError,
    LlmMessage,
    LlmRole,
    LlmTerminalReason,
    Message,
    MessageRole,
    PromptContribution,
    PromptSlot,
    ProviderFailureKind,
    SessionPolicy,
    TextBlock,
    ToolCallSuccess,
    TurnActivity,
    TurnEvent,
    UnknownTag,
    decode,
    encode,
    structure,
    text_message,
    unstructure,
)
from lash_hookspecs._structured import structured
from lash_hookspecs._unstructured import _OFTEN, _compiled, _object, _way_of, _ways, unstructured
from lash_hookspecs.codec import _converter

each_class = pytest.mark.parametrize("cls", STORED_CLASSES, ids=lambda cls: cls.__name__)
each_tagged_union = pytest.mark.parametrize("union", TAGGED_UNIONS.values(), ids=TAGGED_UNIONS)
each_enum = pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
few = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))


def require_plain(data: Any) -> None:
    """Dicts with text keys, lists, and scalars: their exact types, no subclasses."""
    if type(data) is dict:
        for key, inner in data.items():
            assert type(key) is str
            require_plain(inner)
    elif type(data) is list:
        for inner in data:
            require_plain(inner)
    else:
        assert type(data) in (str, int, float, bool, type(None))


# ---- every class ----------------------------------------------------------------------------------------------------


def test_every_class_is_stored_or_says_why_not() -> None:
    """A class that is new is in the properties below; what can't be stored is listed with its reason."""
    assert NEVER_STORED.keys() <= set(ATTRS_CLASSES)
    assert all(len(reason.split()) > 3 for reason in NEVER_STORED.values())
    assert len(STORED_CLASSES) > 120


@pytest.mark.costly
@each_class
def test_a_value_comes_back_as_it_was(cls: type) -> None:
    """`decode(encode(x)) == x` and `structure(unstructure(x)) == x`; storing it again gives the same bytes."""

    @few
    @given(values(cls))
    def comes_back(value: Any) -> None:
        stored = encode(value)
        again = decode(cls, stored)
        assert again == value
        assert encode(again) == stored
        data = unstructure(value)
        require_plain(data)
        assert structure(data, cls) == value
        # A newer lash may have added a field.
        assert structure({**data, "added_later": {"type": "?"}}, cls) == value

    comes_back()


@each_class
def test_the_plainest_value_stores_only_what_it_must(cls: type) -> None:
    """Absent optionals and empty collections are left out, so what is stored says something."""
    data = unstructure(an_example(cls))
    needed = {each.name for each in attrs.fields(cls) if each.default is attrs.NOTHING}
    for key, value in data.items():
        assert key in needed or value not in (None, [], {}), key


@given(values(tuple[Message, ...]))
@settings(few, max_examples=30)
@pytest.mark.statement(59)
def test_a_sequence_of_messages_is_a_plain_list(messages: tuple[Message, ...]) -> None:
    """On disk messages are a list, whatever holds them in memory."""
    assert encode(messages) == b"[" + b",".join(map(encode, messages)) + b"]"
    assert decode(tuple[Message, ...], encode(messages)) == messages


@given(JSON)
def test_plain_data_stays_as_it_is(data: Any) -> None:
    assert decode(Any, encode(data)) == data  # type: ignore[type-var]  # `Any` stands for plain data
    assert encode(decode(Any, encode(data))) == encode(data)  # type: ignore[type-var]  # 1 and 1.0 and True differ


@given(JSON)
@pytest.mark.statement(65)
def test_a_tools_value_needs_no_reserved_key(data: Any) -> None:
    """Attachments stand beside a tool's value, so a value that looks like one of ours is told apart by its place."""
    for value in (data, {"type": "attachment", "value": data}, {"status": "failure", "code": "x", "attachments": [1]}):
        assert decode(ToolCallSuccess, encode(ToolCallSuccess(value))) == ToolCallSuccess(value)


def test_derived_data_is_never_stored() -> None:
    """`memo` is no part of a message: not of its equality, not of its stored form."""
    message, asked = text_message("m", MessageRole.USER, "hi"), LlmMessage(LlmRole.USER, (TextBlock(text="hi"),))
    for value in (message, asked):
        before = encode(value)
        value.memo["somebody"] = object()
        assert encode(value) == before
        again = decode(type(value), before)
        assert again == value
        assert again.memo == {}
        assert structure({**unstructure(value), "memo": {"somebody": 1}}, type(value)).memo == {}


def test_a_policy_with_instructions_can_be_stored() -> None:
    """Slots are keys of a mapping: they used to be left as enum members, which no JSON object has as keys."""
    policy = SessionPolicy(model="x:y").with_instructions("Be kind.")
    assert unstructure(policy)["prompt"]["slots"].keys() == {"project_instructions"}
    assert decode(SessionPolicy, encode(policy)) == policy


def test_sets_are_stored_in_order() -> None:
    contribution = PromptContribution(content="x", tools=frozenset("cab"))
    assert unstructure(contribution)["tools"] == ["a", "b", "c"]
    assert "tools" not in unstructure(PromptContribution(content="x", slot=PromptSlot.INTRO))


# ---- unions ---------------------------------------------------------------------------------------------------------


def test_the_unions_are_found() -> None:
    named = {"RuntimeEffectCommand", "Effect", "TurnEvent", "CausalRef", "PruneState", "LlmBlock", "Stopped.detail"}
    assert named <= TAGGED_UNIONS.keys()
    assert sorted([each.__name__ for each in get_args(union)] for union in PLAIN_UNIONS.values()) == [
        ["ExecResponse", "str"],
        ["LlmResponse", "LlmCallError"],
        ["PendingToolCall", "InvalidToolCall"],
    ]


@each_tagged_union
def test_the_members_of_a_union_are_told_apart_by_their_tags(union: Any) -> None:
    members = get_args(union)
    assert len({tag_of(cls) for cls in members}) == len(members)
    for cls in members:
        field, _ = tag_of(cls)
        assert field not in {each.name for each in attrs.fields(cls)}
        again = decode(union, encode(an_example(cls)))
        assert type(again) is cls
        assert again == an_example(cls)


@each_tagged_union
@pytest.mark.parametrize("tag", ["from_the_future", "", "builtins.eval", 7, None, [], {}, True], ids=repr)
def test_an_unknown_tag_is_refused_by_name(union: Any, tag: object) -> None:
    field = tag_of(get_args(union)[0])[0]
    with pytest.raises(UnknownTag) as caught:
        structure({field: tag}, union)
    assert caught.value.tag == tag
    assert repr(tag) in str(caught.value)
    assert all(cls.tag in str(caught.value) for cls in get_args(union))


@each_tagged_union
def test_a_missing_tag_is_refused(union: Any) -> None:
    with pytest.raises(UnknownTag):
        structure({}, union)


@pytest.mark.parametrize("cls", [cls for cls in STORED_CLASSES if hasattr(cls, "tag")], ids=lambda cls: cls.__name__)
def test_a_tagged_class_refuses_the_tag_of_another(cls: type) -> None:
    """A field whose union has one member today may have more tomorrow: an effect's subject, a tool's launch."""
    data = unstructure(an_example(cls))
    field, _ = tag_of(cls)
    with pytest.raises(UnknownTag, match="from_the_future") as caught:
        structure({**data, field: "from_the_future"}, cls)
    assert caught.value.path == cls.__name__


@pytest.mark.parametrize("union", PLAIN_UNIONS.values(), ids=PLAIN_UNIONS)
def test_unions_without_tags_are_told_apart_by_their_shape(union: Any) -> None:
    @few
    @given(st.sampled_from(get_args(union)).flatmap(values))
    def comes_back(value: Any) -> None:
        again = structure(unstructure(value), union)
        assert type(again) is type(value)
        assert again == value

    comes_back()


@each_enum
def test_an_unknown_name_is_unknown_or_refused_by_name(enum: Any) -> None:
    """Enums that have `UNKNOWN` are a newer peer's to extend; for all others an unknown name is an error."""
    if "UNKNOWN" in enum.__members__:
        assert structure("from_the_future", enum) is enum.UNKNOWN
    else:
        with pytest.raises(UnknownTag, match="from_the_future"):
            structure("from_the_future", enum)
    for member in enum:
        assert structure(unstructure(member), enum) is member
    with pytest.raises(CodecError, match="expected text"):
        structure(7, enum)


@pytest.mark.statement(63)
def test_an_unknown_kind_of_failure_is_unknown() -> None:
    """Codes on the wire are the names; those of a newer provider don't break reading."""
    data = {"message": "m", "kind": "gremlins", "terminal_reason": "gremlins"}
    error = LlmCallError(message="m", terminal_reason=LlmTerminalReason.UNKNOWN)
    assert structure(data, LlmCallError) == error
    assert [kind.value for kind in ProviderFailureKind] == [kind.name.lower() for kind in ProviderFailureKind]


@pytest.mark.statement(35)
def test_a_call_error_without_a_kind_is_unknown() -> None:
    """A failed model call that was stored without its kind is read as one of unknown kind."""
    assert decode(LlmCallError, '{"message":"m"}').kind is ProviderFailureKind.UNKNOWN


# ---- activities -----------------------------------------------------------------------------------------------------


def test_an_activitys_event_stands_beside_its_ids() -> None:
    activity = TurnActivity("t:3", "t:1", AssistantProseDelta("Hel"))
    data = {"id": "t:3", "correlation_id": "t:1", "type": "assistant_prose_delta", "text": "Hel"}
    assert unstructure(activity) == data
    assert structure(data, TurnActivity) == activity
    assert unstructure([activity]) == [data]


@pytest.mark.parametrize("cls", get_args(TurnEvent), ids=lambda cls: cls.__name__)
def test_no_event_has_a_field_of_an_activity(cls: type) -> None:
    assert not {each.name for each in attrs.fields(cls)} & {"id", "correlation_id", "type", "event"}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"id": "a", "correlation_id": "b"}, "unknown `type` None"),
        ({"id": "a", "correlation_id": "b", "type": "?"}, r"unknown `type` '\?'"),
        ({"id": "a", "type": "model_attempt_reset"}, "'correlation_id' is missing"),
        ({"id": "a", "correlation_id": "b", "type": "error"}, "'message' is missing"),
        ([], "expected an object"),
    ],
)
def test_a_broken_activity_is_refused(data: Any, fault: str) -> None:
    with pytest.raises(CodecError, match=fault):
        structure(data, TurnActivity)


# ---- two ways to read -----------------------------------------------------------------------------------------------


def other_than(data: Any, draw: Any) -> Any:
    """The data with something else in one place of it, or without it."""
    if not draw(st.booleans()) and isinstance(data, (dict, list)) and data:
        place = draw(st.sampled_from(list(data) if isinstance(data, dict) else range(len(data))))
        changed = data.copy()
        if draw(st.integers(0, 5)):
            changed[place] = other_than(data[place], draw)
        else:
            del changed[place]
        return changed
    return draw(st.sampled_from([None, True, 0, 1.5, "", "text", "unknown", [], ["a"], {}, {"type": "text"}]))


@pytest.mark.costly
@each_class
def test_what_is_read_by_the_table_is_what_cattrs_reads(cls: type) -> None:
    """The table may refuse what cattrs takes, which is asked then; it takes nothing that cattrs refuses."""

    @few
    @given(st.data())
    def alike(drawn: Any) -> None:
        data = unstructure(drawn.draw(values(cls)))
        assert repr(structured(data, cls)) == repr(_converter().structure(data, cls))
        changed = drawn.draw(st.composite(lambda draw: other_than(data, draw))())
        try:
            value = structured(changed, cls)
        except Exception:
            return
        assert repr(value) == repr(_converter().structure(changed, cls))

    alike()


def test_a_type_that_no_table_knows_is_left_to_cattrs() -> None:
    @dataclass
    class Foreign:
        kept: tuple[int, ...]

    assert structure([{"kept": [1, 2]}], list[Foreign]) == [Foreign((1, 2))]
    assert structure({"a": 1.5}, dict[str, int | float]) == {"a": 1.5}


# ---- two ways to write ----------------------------------------------------------------------------------------------


@pytest.mark.costly
@each_class
def test_a_value_is_written_as_cattrs_writes_it(cls: type) -> None:
    """Which way a class is written depends on how often it was: that must never show, in values, order or types."""
    by_table, by_code = (make(cls) if cls is not TurnActivity else unstructured for make in (_object, _compiled))

    @few
    @given(values(cls))
    def alike(value: Any) -> None:
        expected = _converter().unstructure(value)
        for data in (by_table(value), by_code(value), unstructured(value)):
            require_plain(data)
            assert repr(data) == repr(expected)

    alike()


def test_a_class_that_is_written_often_gets_a_function_of_its_own() -> None:
    @attrs.frozen
    class Often:
        name: str

    Often.__module__ = "lash_hookspecs.often"  # a plugin's is left to cattrs at once
    by_table = _ways.setdefault(Often, _way_of(Often))
    written = [unstructured(Often(str(number))) for number in range(_OFTEN + 2)]
    assert written == [{"name": str(number)} for number in range(_OFTEN + 2)]
    assert _ways[Often] is not by_table


def test_what_is_no_value_is_left_to_cattrs() -> None:
    @dataclass
    class Foreign:
        kept: tuple[int, ...]

    thing = object()
    assert unstructure(Foreign((1, 2))) == {"kept": [1, 2]}
    assert unstructure(thing) is thing
