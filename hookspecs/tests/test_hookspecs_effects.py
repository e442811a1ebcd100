"""Envelopes at the effect boundary: what is refused, how keys are made, and that storing changes neither."""

from __future__ import annotations

import json
from typing import Any, get_args

import attrs
import pytest
from hookspecs_kit import STORED_CLASSES, an_example, envelope_of, is_union, values
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from lash_hookspecs import (
    CausedByEffect,
    CheckpointOutcome,
    CodecError,
    CustomWait,
    EffectControllerError,
    EffectSubject,
    ExecCodeOutcome,
    InProcess,
    InTurn,
    LlmCallOutcome,
    ProcessAwait,
    ProcessCancel,
    ProcessOperation,
    ProcessOutcome,
    ProcessRefused,
    ProcessResult,
    ProcessSignal,
    ProcessTransfer,
    RuntimeEffectCommand,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    RuntimeInvocation,
    RuntimeReplay,
    RuntimeScope,
    RuntimeSubject,
    SignalWait,
    SleepCommand,
    SleepOutcome,
    ToolCompletionWait,
    TurnCancelWait,
    TurnTerminalWait,
    UnknownTag,
    WaitKey,
    canonical_bytes,
    child_key,
    decode,
    effect_key,
    encode,
    expect,
    expect_process,
    process_effect_id,
    stable_hash,
    structure,
    unstructure,
    wait_id,
)

SCOPE = RuntimeScope(session_id="s", turn_id="t", turn_index=0, protocol_iteration=0)
KEY = RuntimeReplay("key")
COMMANDS = get_args(RuntimeEffectCommand)
OUTCOMES = get_args(RuntimeEffectOutcome)
RESULTS = get_args(ProcessResult)


def invocation(effect_id: str = "1", kind: str = "sleep", replay: RuntimeReplay | None = KEY) -> RuntimeInvocation:
    return RuntimeInvocation(
        scope=SCOPE, subject=EffectSubject(effect_id=effect_id, kind=RuntimeEffectKind(kind)), replay=replay
    )


# ---- envelopes ------------------------------------------------------------------------------------------------------

REFUSED = {
    "blank-id": (invocation(""), "runtime_effect_invocation_subject"),
    "spaces-as-id": (invocation(" \t\n"), "runtime_effect_invocation_subject"),
    "another-kind": (invocation(kind="llm_call"), "runtime_effect_invocation_kind"),
    "no-key": (invocation(replay=None), "runtime_effect_replay_required"),
    "empty-key": (invocation(replay=RuntimeReplay("")), "runtime_effect_replay_required"),
    # Who asks is checked before what is asked, and that before how it is found again.
    "blank-id-and-another-kind": (invocation("", "direct", None), "runtime_effect_invocation_subject"),
    "another-kind-and-no-key": (invocation(kind="direct", replay=None), "runtime_effect_invocation_kind"),
}


@pytest.mark.statement(2, 3, 4, page="effects")
@pytest.mark.parametrize(("asked", "code"), REFUSED.values(), ids=REFUSED)
def test_an_envelope_that_breaks_a_rule_is_refused_with_its_code(asked: RuntimeInvocation, code: str) -> None:
    """2: a blank effect id is refused; 3: so is a subject of another kind than the command's; 4: and an empty key."""
    with pytest.raises(EffectControllerError, match=f"^{code}: ") as caught:
        RuntimeEffectEnvelope(asked, SleepCommand(1))
    assert caught.value.code == code


@pytest.mark.statement(3, page="effects")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("kind", RuntimeEffectKind)
def test_only_the_commands_own_kind_is_taken(command: Any, kind: RuntimeEffectKind) -> None:
    """Every kind with every command."""
    asked = invocation(kind=kind)
    if kind is command.kind:
        assert RuntimeEffectEnvelope(asked, an_example(command)).key == "key"
    else:
        with pytest.raises(EffectControllerError, match=f"`{kind}`.*`{command.kind}`"):
            RuntimeEffectEnvelope(asked, an_example(command))


@pytest.mark.statement(1, page="effects")
@pytest.mark.parametrize("subject", ["process", "process_event", "trigger_occurrence", "session_node"])
def test_a_stored_envelope_of_another_subject_is_refused(subject: str) -> None:
    """There is no class for another subject, so it can only come from outside; effects are all that crosses."""
    data = unstructure(envelope_of(SleepCommand(1)))
    data["invocation"]["subject"]["type"] = subject
    with pytest.raises(UnknownTag, match=subject):
        structure(data, RuntimeEffectEnvelope)
    assert RuntimeSubject is EffectSubject


@pytest.mark.statement(2, 3, 4, page="effects")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"subject": {"type": "effect", "effect_id": " ", "kind": "sleep"}}, "runtime_effect_invocation_subject"),
        ({"subject": {"type": "effect", "effect_id": "1", "kind": "direct"}}, "runtime_effect_invocation_kind"),
        ({"replay": None}, "runtime_effect_replay_required"),
    ],
)
def test_a_stored_envelope_is_held_to_the_same_rules(change: dict[str, Any], code: str) -> None:
    """Whatever is read is checked as what is made."""
    data = unstructure(envelope_of(SleepCommand(1)))
    data["invocation"] |= change
    with pytest.raises(CodecError, match=code):
        structure(data, RuntimeEffectEnvelope)


@pytest.mark.statement(6, page="effects")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(values(RuntimeEffectEnvelope))
def test_an_envelope_keeps_its_key_and_its_hash_when_it_is_stored(envelope: RuntimeEffectEnvelope) -> None:
    """Stored and read, it equals what it was, with the same key and the same hash."""
    again = decode(RuntimeEffectEnvelope, encode(envelope))
    assert again == envelope
    assert again.key == envelope.key
    assert stable_hash("lash.test", unstructure(again)) == stable_hash("lash.test", unstructure(envelope))
    # Two codecs, one form: the bytes on disk are those that are hashed, down to the last digit of a number.
    assert json.loads(encode(envelope)) == json.loads(canonical_bytes(unstructure(envelope)))


def held(tp: Any, seen: set[Any]) -> set[Any]:
    """Every type that a value of `tp` may hold, at any depth."""
    if tp in seen:
        return seen
    seen.add(tp)
    for each in get_args(tp):
        held(each, seen)
    if isinstance(tp, type) and attrs.has(tp):
        for attribute in attrs.fields(attrs.resolve_types(tp)):
            if attribute.init:
                held(attribute.type, seen)
    return seen


@pytest.mark.statement(7, page="effects")
def test_an_envelope_holds_no_function_and_no_bytes() -> None:
    """Bytes have a place beside an attachment's reference, for who sends them; with any, nothing is stored."""
    types = held(RuntimeEffectEnvelope, set())
    classes = {each for each in types if isinstance(each, type) and attrs.has(each)}
    assert classes <= set(STORED_CLASSES)
    plain = {each for each in types if isinstance(each, type) and not attrs.has(each) and each.__module__ == "builtins"}
    assert plain <= {str, int, float, bool, type(None), bytes, tuple}
    holders = {cls.__name__ for cls in classes if bytes in {each.type for each in attrs.fields(cls)}}
    assert holders == {"LlmAttachment"}
    assert any(is_union(each) for each in types)


def test_what_an_effect_causes_names_it() -> None:
    assert invocation("7").causal_ref() == CausedByEffect(session_id="s", effect_id="7", turn_id="t")
    outside = attrs.evolve(invocation(), scope=RuntimeScope(session_id="s"))
    assert outside.causal_ref() == CausedByEffect(session_id="s", effect_id="1", turn_id=None)


# ---- outcomes -------------------------------------------------------------------------------------------------------


@pytest.mark.statement(8, page="effects")
@pytest.mark.parametrize("wanted", OUTCOMES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("given", OUTCOMES, ids=lambda cls: cls.__name__)
def test_an_outcome_is_taken_only_as_what_it_is(given: Any, wanted: Any) -> None:
    """An outcome is nothing else than what it is: every one, with every kind that could be wanted."""
    outcome = an_example(given)
    if given is wanted:
        assert expect(outcome, wanted) is outcome
    else:
        with pytest.raises(EffectControllerError) as caught:
            expect(outcome, wanted)
        assert caught.value.code == "runtime_effect_wrong_outcome"
        assert f"`{wanted.kind}`" in str(caught.value)
        assert f"`{given.kind}`" in str(caught.value)


@pytest.mark.statement(8, page="effects")
@pytest.mark.parametrize("outcome", [None, "done", {}, SleepOutcome], ids=repr)
def test_what_is_no_outcome_at_all_is_refused_the_same_way(outcome: Any) -> None:
    """Controllers are foreign code, so what they return may be anything."""
    with pytest.raises(EffectControllerError, match="expected outcome `llm_call`"):
        expect(outcome, LlmCallOutcome)


@pytest.mark.statement(8, page="effects")
@pytest.mark.parametrize("wanted", RESULTS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("given", RESULTS, ids=lambda cls: cls.__name__)
def test_a_process_answers_what_it_was_asked_or_refuses(given: Any, wanted: Any) -> None:
    """The result of one operation isn't taken for another's."""
    outcome = ProcessOutcome(an_example(given))
    if given in (wanted, ProcessRefused):
        assert expect_process(outcome, wanted) is outcome.result
    else:
        with pytest.raises(EffectControllerError, match=f"wrong_outcome.*`{wanted.tag}`.*`{given.tag}`"):
            expect_process(outcome, wanted)
    with pytest.raises(EffectControllerError, match=r"expected outcome `process`, .*`sleep`"):
        expect_process(SleepOutcome(), wanted)


def test_every_operation_has_a_result_of_its_name_and_any_may_be_refused() -> None:
    assert [*(cls.tag for cls in get_args(ProcessOperation)), "refused"] == [cls.tag for cls in RESULTS]


def test_every_kind_has_one_command() -> None:
    assert sorted(cls.kind for cls in COMMANDS) == sorted(RuntimeEffectKind)


def test_every_command_has_an_outcome_of_its_kind() -> None:
    assert [cls.kind for cls in COMMANDS] == [cls.kind for cls in OUTCOMES]
    assert [cls.tag for cls in COMMANDS] == [cls.kind.value for cls in COMMANDS]
    assert [cls.tag for cls in OUTCOMES] == [cls.kind.value for cls in OUTCOMES]
    assert {CheckpointOutcome, ExecCodeOutcome} <= set(OUTCOMES)


# ---- keys -----------------------------------------------------------------------------------------------------------

# Ids are made of what a careless joining of them would trip over.
IDS = st.text(alphabet=':/|,."[]\\ \n\x000a', max_size=4)
NUMBERS = st.none() | st.integers(0, 3)
WHERE = st.tuples(IDS, st.none() | IDS, NUMBERS, NUMBERS, st.sampled_from(RuntimeEffectKind), IDS)


def key_of(where: tuple[Any, ...]) -> str:
    session_id, turn_id, turn_index, iteration, kind, effect_id = where
    scope = RuntimeScope(session_id=session_id, turn_id=turn_id, turn_index=turn_index, protocol_iteration=iteration)
    return effect_key(scope, kind, effect_id)


@pytest.mark.statement(28, page="effects")
@given(WHERE, WHERE)
def test_no_two_effects_share_a_key(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """Amended: a key is a hash that leads back to nothing, so no key is read; what differs in any part has another
    one."""
    assert (key_of(one) == key_of(other)) is (one == other)


COLLIDING = [
    (("a:b", "c"), ("a", "b:c")),
    (("a", None), ("a", "")),
    (("a", None), ("a", "null")),
    (('a","b', "c"), ("a", 'b","c')),
    (("a\nb", "c"), ("a", "b\nc")),
    (("", "ab"), ("a", "b")),
]


@pytest.mark.statement(28, page="effects")
@pytest.mark.parametrize(("one", "other"), COLLIDING, ids=range(len(COLLIDING)))
def test_no_separator_in_an_id_makes_two_keys_one(one: Any, other: Any) -> None:
    """Ids may hold whatever a careless joining of them would trip over."""
    keys = {
        effect_key(RuntimeScope(session_id=session, turn_id=turn), RuntimeEffectKind.SLEEP, "1")
        for session, turn in (one, other)
    }
    assert len(keys) == 2


@given(st.lists(st.tuples(IDS, IDS, IDS | st.integers(0, 3)), min_size=2, max_size=2, unique=True))
def test_no_two_children_share_a_key(children: list[tuple[str, str, str | int]]) -> None:
    """An ordinal is no key: `1` and `"1"` differ."""
    assert len({child_key(*child) for child in children}) == 2


@given(WHERE, IDS, IDS)
def test_a_childs_key_is_never_an_effects(where: tuple[Any, ...], plugin: str, key: str) -> None:
    assert child_key(key_of(where), plugin, key) != key_of(where)
    assume(plugin)
    assert child_key(key_of(where), plugin, 0) != child_key(key_of(where), "", 0)


SIGNALS = st.builds(ProcessSignal, process_id=IDS, signal_name=IDS, signal_id=IDS)
TRANSFERS = st.builds(
    ProcessTransfer, from_session=IDS, to_session=IDS, process_ids=st.lists(IDS, max_size=2).map(tuple)
)
OPERATIONS = SIGNALS | TRANSFERS | st.builds(ProcessAwait, IDS) | st.builds(ProcessCancel, IDS)


@given(OPERATIONS, OPERATIONS)
def test_no_two_operations_of_processes_share_an_effect_id(one: Any, other: Any) -> None:
    assert (process_effect_id(one) == process_effect_id(other)) is (one == other)


def test_what_an_operation_says_besides_is_no_part_of_its_id() -> None:
    """Another reason, another payload: it is the same cancel and the same signal, and a mismatch for the journal."""
    assert process_effect_id(ProcessCancel("p", "late")) == process_effect_id(ProcessCancel("p")) == '["cancel","p"]'
    signal = ProcessSignal(process_id="p", signal_name="go", signal_id="1")
    assert process_effect_id(attrs.evolve(signal, payload=1)) == process_effect_id(signal) == '["signal","p","go","1"]'


SCOPES = st.builds(InTurn, IDS, IDS) | st.builds(InProcess, IDS)
WAITS = st.one_of(
    st.builds(ToolCompletionWait, IDS), st.builds(CustomWait, IDS), st.builds(SignalWait, IDS, st.integers(1, 3))
)
WAIT_KEYS = st.builds(WaitKey, SCOPES, WAITS | st.sampled_from([TurnCancelWait(), TurnTerminalWait()]))


@pytest.mark.statement(29, page="effects")
@given(WAIT_KEYS, WAIT_KEYS)
def test_no_two_waits_share_an_id(one: WaitKey, other: WaitKey) -> None:
    """The same wait of the same scope has the same id, and no other one has it."""
    assert (wait_id(one) == wait_id(other)) is (one == other)


def test_a_key_says_nothing_about_its_ids() -> None:
    """It is a hash, of one length: ids of any length and any content fit into any store."""
    key = effect_key(RuntimeScope(session_id="secret" * 1_000), RuntimeEffectKind.DIRECT, "x")
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")
