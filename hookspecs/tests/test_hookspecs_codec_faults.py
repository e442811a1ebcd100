"""What can't be stored, what isn't read, and that reading does nothing but read."""

from __future__ import annotations

import subprocess
import sys
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen, validators

from lash_hookspecs import (
    MAX_NESTING,
    AttachmentRef,
    CodecError,
    GenerationOptions,
    LlmAttachment,
    LlmCallError,
    LlmRequest,
    Message,
    PendingToolCall,
    PromptContribution,
    PromptLayer,
    RuntimeEffectCommand,
    RuntimeEffectEnvelope,
    SleepCommand,
    ToolCallSuccess,
    TurnInput,
    Waiting,
    decode,
    encode,
    structure,
    unstructure,
)

# ---- what can't be stored -------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


NO_JSON = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus-infinity": float("-inf"),
    "nan-in-a-tuple": (1, (float("nan"),)),
    "lone-surrogate": "\ud800",
    "lone-surrogate-as-key": {"\udfff": 1},
    "bytes": b"raw",
    "empty-bytes": b"",
    "bytearray": bytearray(b"x"),
    "set": {1},
    "number-as-key": {1: 2},
    "none-as-key": {None: 2},
    "date": datetime(2026, 1, 1, tzinfo=UTC),
    "uuid": uuid.UUID(int=1),
    "decimal": Decimal(1),
    "object": object(),
    "class": int,
    "function": nested,
    "integer-above-64-bits": 2**64,
    "too-deep": nested(2_000),
    "circle": circle(),
}


@pytest.mark.parametrize("value", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("wrap", [lambda value: value, ToolCallSuccess, lambda value: {"a": [value]}], ids=range(3))
def test_what_json_cant_say_is_refused(wrap: Any, value: object) -> None:
    """Else it would come back as another value: NaN as null, a date as text."""
    with pytest.raises(CodecError):
        encode(wrap(value))


def test_a_part_is_refused_where_the_whole_would_be_too_deep() -> None:
    assert encode(nested(MAX_NESTING), levels=MAX_NESTING) == encode(nested(MAX_NESTING))
    with pytest.raises(CodecError, match="can't be stored: it is nested more than 200 levels deep"):
        encode(nested(MAX_NESTING + 1), levels=MAX_NESTING)


def test_a_value_is_refused_for_bytes_that_belong_in_a_blob() -> None:
    reference = AttachmentRef("sha256:0", "image/png", 3)
    request = LlmRequest(model="m", messages=(), attachments=(LlmAttachment(reference=reference, data=b"png"),))
    for value in (request, TurnInput.text("look").with_image("i", b"png")):
        with pytest.raises(CodecError, match="blob"):
            encode(value)
    assert unstructure(LlmAttachment(reference=reference)) == {"reference": unstructure(reference)}


# ---- what isn't read ------------------------------------------------------------------------------------------------

_PART = {"id": "m.p0", "kind": "text", "content": "hi"}
_WAITING = {"effect": {"type": "checkpoint", "id": 1, "kind": "after_work"}}
_CALL = {"call_id": "c", "tool_name": "t"}

WRONG: dict[str, tuple[Any, Any, str, str]] = {
    # name: type, data, where, what is said
    "no-object": (Message, [], "Message", "expected an object for Message, got list"),
    "text-for-an-object": (Message, "m", "Message", "got str"),
    "null-for-an-object": (Message, None, "Message", "got NoneType"),
    "missing": (Message, {"id": "m"}, "Message.role", "field 'role' is missing"),
    "missing-below": (Message, {"id": "m", "role": "user", "parts": [_PART, {"id": "x"}]}, "Message.parts[1].kind", ""),
    "number-for-text": (Message, {"id": 7, "role": "user"}, "Message.id", "expected text, got int"),
    "null-for-text": (Message, {"id": None, "role": "user"}, "Message.id", "expected text, got NoneType"),
    "text-for-a-list": (Message, {"id": "m", "role": "user", "parts": "abc"}, "Message.parts", "expected a list"),
    "object-for-a-list": (Message, {"id": "m", "role": "user", "parts": {}}, "Message.parts", "expected a list"),
    "number-for-a-list": (GenerationOptions, {"stop_sequences": 5}, "GenerationOptions.stop_sequences", "got int"),
    "letters-for-texts": (GenerationOptions, {"stop_sequences": "ab"}, "GenerationOptions.stop_sequences", "got str"),
    "entry": (GenerationOptions, {"stop_sequences": ["a", 1]}, "GenerationOptions.stop_sequences[1]", "expected text"),
    "text-for-a-set": (PromptContribution, {"content": "", "tools": "ab"}, "PromptContribution.tools", "got str"),
    "list-for-a-mapping": (PendingToolCall, {**_CALL, "args": [["a", 1]]}, "PendingToolCall.args", "an object"),
    "text-for-a-mapping": (PendingToolCall, {**_CALL, "args": "{}"}, "PendingToolCall.args", "got str"),
    "key": (PromptLayer, {"slots": {"attic": {}}}, "PromptLayer.slots['attic']", "unknown `value` 'attic'"),
    "value-of-a-key": (PromptLayer, {"slots": {"intro": []}}, "PromptLayer.slots['intro']", "expected an object"),
    "truth-for-a-number": (GenerationOptions, {"seed": True}, "GenerationOptions.seed", "expected int, got bool"),
    "fraction-for-a-number": (GenerationOptions, {"seed": 1.5}, "GenerationOptions.seed", "expected int, got float"),
    "text-for-a-number": (GenerationOptions, {"temperature": "1"}, "GenerationOptions.temperature", "expected float"),
    "number-for-truth": (LlmCallError, {"message": "", "retryable": 1}, "LlmCallError.retryable", "true or false"),
    "bytes": (LlmAttachment, {"reference": {"id": "", "media_type": "", "size": 1}, "data": "AA"}, ".data", "blob"),
    "tag-below": (Waiting, {"effect": {"type": "emit"}}, "Waiting.effect", "unknown `type` 'emit'"),
    "row-too-short": (Waiting, {**_WAITING, "rejected": [[1]]}, "Waiting.rejected[0]", "expected 2 entries, got 1"),
    "place-in-a-row": (Waiting, {**_WAITING, "rejected": [["1", {}]]}, "Waiting.rejected[0][0]", "expected int"),
    "no-shape-of-a-union": (str | int, [], "", "no member of str | int has this shape"),
    "nothing-of-a-list": (tuple[str, ...], None, "tuple", "expected a list, got NoneType"),
}


@pytest.mark.parametrize(("tp", "data", "path", "text"), WRONG.values(), ids=WRONG)
def test_a_wrong_shape_is_refused_with_its_place(tp: Any, data: Any, path: str, text: str) -> None:
    with pytest.raises(CodecError) as caught:
        structure(data, tp)
    assert caught.value.path.endswith(path)
    assert text in str(caught.value)
    assert path in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


class Counted(str):
    """A text that knows how often one was read."""

    read = 0

    def __new__(cls, text: str) -> Counted:
        cls.read += 1
        return super().__new__(cls, text)


@frozen
class Nested:
    label: Counted
    level: int = 0
    below: tuple[Nested, ...] = ()


def test_a_damaged_value_is_read_twice_however_deep_the_damage_is() -> None:
    """Once as if it were sound, and once for the place of its fault; each list anew at every level was 2 ** depth."""
    depth = 12
    data: dict[str, Any] = {"label": "x", "level": "damaged"}
    for _ in range(depth):
        data = {"label": "x", "below": [{"label": "sound"}, data, {"label": "after it"}]}
    Counted.read = 0
    with pytest.raises(CodecError) as caught:
        structure(data, Nested)
    assert caught.value.path == "Nested" + ".below[1]" * depth + ".level"
    assert Counted.read <= 2 * (2 * depth + 1)


BROKEN = ["", "{", "nope", "[1,]", '{"a":NaN}', '"\\ud800"', b"\xff", b'{"id":"m","role":"user"} x', "[" * 2_000]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_json_is_refused(data: str | bytes) -> None:
    with pytest.raises(CodecError, match="not JSON"):
        decode(Message, data)


def test_an_envelope_that_breaks_its_rules_is_not_read() -> None:
    """The rules of a class are checked while reading as well."""
    invocation = {"scope": {"session_id": "s"}, "subject": {"type": "effect", "effect_id": "1", "kind": "sleep"}}
    data = {"invocation": invocation, "command": unstructure(SleepCommand(5))}
    with pytest.raises(CodecError, match="runtime_effect_replay_required") as caught:
        structure(data, RuntimeEffectEnvelope)
    assert caught.value.path == "RuntimeEffectEnvelope"


# ---- classes of plugins ---------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@frozen
class Tagged:
    tag: str
    count: int = field(default=1, validator=validators.ge(1))


@frozen
class State:
    seen: frozenset[str] = frozenset()
    open: set[str] = field(factory=set)
    pairs: tuple[tuple[str, int], ...] = ()
    colour: Colour | None = None
    mixed: Colour | int | tuple[int, ...] = 0
    tagged: dict[str, Tagged] = field(factory=dict)
    bare: list = field(factory=list)  # type: ignore[type-arg]  # what somebody who doesn't type would write


@pytest.mark.parametrize(
    "state",
    [
        State(),
        State(frozenset("ba"), {"y", "x"}, (("a", 1),), Colour.RED, Colour.RED, {"k": Tagged("t")}, [1, {"a": None}]),
        State(mixed=7),
        State(mixed=(1, 2)),
    ],
    ids=range(4),
)
def test_a_plugins_class_may_use_what_python_offers(state: State) -> None:
    """Session states are classes of others; a field that is named `tag` is a field."""
    assert decode(State, encode(state)) == state


def test_a_classs_own_checks_are_a_codec_error() -> None:
    with pytest.raises(CodecError, match=r"'count' must be >= 1.*State\.tagged\['k'\]"):
        structure({"tagged": {"k": {"tag": "t", "count": 0}}}, State)


@frozen
class Unreadable:
    when: datetime


def test_what_could_not_be_read_again_is_not_written() -> None:
    """A date was once written as text, which no later opening of the session could read."""
    with pytest.raises(CodecError, match="datetime"):
        encode(Unreadable(datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(CodecError):
        structure({"when": "2026-01-01"}, Unreadable)


# ---- law 7: data at rest is data ------------------------------------------------------------------------------------

HOSTILE: list[tuple[Any, Any]] = [
    (RuntimeEffectCommand, {"type": "os.system", "args": ["true"]}),
    (RuntimeEffectCommand, {"type": "builtins.eval", "code": "1"}),
    (RuntimeEffectCommand, {"type": "lash_hookspecs.effects.SleepCommand", "duration_ms": 1}),
    (RuntimeEffectCommand, {"__class__": "SleepCommand", "duration_ms": 1}),
    (Message, {"py/object": "os.system", "id": "m", "role": "user"}),
    (Message, {"py/reduce": [{"py/function": "os.system"}, ["true"]], "id": "m", "role": "user"}),
    (Message, {"id": "m", "role": "__import__('os').getpid()"}),
    (Message, {"id": "m", "role": "user", "__init__": "x", "memo": {"py/object": "x"}, "_type": "subprocess.Popen"}),
    (ToolCallSuccess, {"status": "success", "value": {"$type": "os.system", "!!python/object/apply:os.system": ["x"]}}),
    (ToolCallSuccess, {"status": "success", "value": {"__reduce__": ["os.system", ["true"]]}}),
    (ToolCallSuccess, {"status": "success", "value": "gASVHgAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu"}),
]

_WATCHED = """
import sys
from typing import Any
from lash_hookspecs import *
sys.path.insert(0, {tests!r})
from test_hookspecs_codec_faults import HOSTILE
import orjson

stored = [(tp, orjson.dumps(data)) for tp, data in HOSTILE]

def read():
    read = []
    for tp, data in stored:
        try:
            read.append(decode(tp, data))
        except CodecError as error:
            read.append(type(error).__name__)
    return read

first = read()  # the converter compiles its own functions at the first use of a class
seen = []
sys.addaudithook(lambda event, args: watching and seen.append((event, args)))
watching = True
again = read()
watching = False
assert repr(first) == repr(again)
print([event for event in seen if not event[0].startswith(("object.__getattr__", "sys._getframe", "gc."))])
watching = True
import colorsys  # so that an empty list above means something
watching = False
print("colorsys" in [args[0] for event, args in seen if event == "import"])
"""


def test_law_7_nothing_that_is_stored_is_imported_or_called() -> None:
    """The interpreter tells of every import, compilation, opened file and started process: there are none."""
    script = "watching = False\n" + _WATCHED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\nTrue\n", "")


@pytest.mark.parametrize(("tp", "data"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_data_is_refused_or_stays_data(tp: Any, data: Any) -> None:
    try:
        value = structure(data, tp)
    except CodecError:
        return
    assert type(value) is tp
    assert getattr(value, "memo", {}) == {}
    assert getattr(value, "value", data.get("value")) == data.get("value")
