"""The canonical encoding under every hash. The vectors are for ever: another value here is another id everywhere."""

from __future__ import annotations

import hashlib
from datetime import date
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hookspecs_kit import JSON
from hypothesis import given, strategies as st

from lash_hookspecs import (
    CodecError,
    PromptSlot,
    RuntimeEffectKind,
    RuntimeScope,
    canonical_bytes,
    child_key,
    content_hash,
    effect_key,
    stable_hash,
)


class Color(Enum):
    RED = 1


VECTORS: dict[str, tuple[Any, str]] = {
    "null": (None, "null"),
    "truth": ([True, False], "[true,false]"),
    "integer": (1, "1"),
    "float": (1.0, "1.0"),
    "minus-zero": ([0, 0.0, -0.0], "[0,0.0,-0.0]"),
    "shortest-float": ([0.1, 1e300, 1e-7, 1e16, 5e-324], "[0.1,1e+300,1e-7,1e+16,5e-324]"),
    "big-integer": ([2**64 - 1, -(2**63)], "[18446744073709551615,-9223372036854775808]"),
    "text": ('"\\/\n\t\x00\x7f', '"\\"\\\\/\\n\\t\\u0000\x7f"'),
    "unicode-as-it-is": ("é😀\u2028", '"é😀\u2028"'),
    "not-normalised": (["\u00e9", "e\u0301"], '["\u00e9","e\u0301"]'),
    "empty": ([[], {}, ""], '[[],{},""]'),
    "tuple": ((1, (2,)), "[1,[2]]"),
    "sorted-keys": ({"b": 1, "a": {"é": 1, "z": 2, "A": 3}, "": 0}, '{"":0,"a":{"A":3,"z":2,"é":1},"b":1}'),
}


@pytest.mark.parametrize(("value", "text"), VECTORS.values(), ids=VECTORS)
def test_the_canonical_form_is_this_one(value: Any, text: str) -> None:
    assert canonical_bytes(value) == text.encode()
    wrapped = f'["lash.test",1,{text}]'
    assert stable_hash("lash.test", value) == hashlib.sha256(wrapped.encode()).hexdigest()


@pytest.mark.parametrize(
    ("hashed", "digest"),
    [
        (stable_hash("lash.test", None), "531563f5e42f6fdb219a865e941252fc830bb392bd0e572ff4bbe3c179f567b7"),
        (
            stable_hash("lash.test", {"b": [1, 1.0], "a": "é"}),
            "9ad722d05a764eac3332e2b432d2eeec980e9a4beddb7166a96958adcc7ddd9a",
        ),
        (content_hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            effect_key(
                RuntimeScope(session_id="s", turn_id="t", turn_index=2, protocol_iteration=0),
                RuntimeEffectKind.LLM_CALL,
                "1",
            ),
            "f6fa976805a417e39be3a515d9d367766e01aa8a032a28ad13c796bda9696bcc",
        ),
        (
            effect_key(RuntimeScope(session_id="s"), RuntimeEffectKind.SLEEP, "1"),
            "a484e3d92b55d4b6f5aba882e373ccee982911c2e77fcc2735c683f112ad37db",
        ),
        (child_key("parent", "plugin", "key"), "9efb803d50667c5ed4c0a1bae23a405f50ccb3991bd379763f565d6f5e097fdc"),
        (child_key("parent", "plugin", 0), "92f4d991d89cca7d490655e6afb2d1051009316c2c09d68143dfc2662cc3eede"),
    ],
    ids=["null", "nested", "content", "effect", "session-effect", "child", "ordinal"],
)
def test_hashes_are_the_same_for_ever(hashed: str, digest: str) -> None:
    assert hashed == digest


@given(st.dictionaries(st.text(), JSON), st.randoms())
def test_the_order_of_keys_means_nothing(data: dict[str, Any], random: Any) -> None:
    keys = list(data)
    random.shuffle(keys)
    assert canonical_bytes({key: data[key] for key in keys}) == canonical_bytes(data)


@given(st.lists(JSON, min_size=2, max_size=2))
def test_equal_bytes_are_equal_data(pair: list[Any]) -> None:
    one, other = pair
    if canonical_bytes(one) == canonical_bytes(other):
        assert one == other


def test_what_differs_in_meaning_differs_in_its_hash() -> None:
    """A number is no text, a fraction no integer, absent no null; and a domain parts what is otherwise equal."""
    values = [None, 0, 0.0, -0.0, 1, 1.0, True, False, "", "0", "1", "null", [], [[]], [None], {}, {"": None}, {"a": 1}]
    values += [{"a": None}, {"a": [1]}, ["a", 1], [1, 2], [12], ["1", 2], ["1,2"]]
    domains = ["lash.node", "lash.frame", "lash", "", 'lash.node",1,["', "lash.node,1"]
    hashes = {stable_hash(domain, value) for domain in domains for value in values}
    assert len(hashes) == len(domains) * len(values)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [float("inf")],
        {"a": (float("-inf"),)},
        "\ud800",
        {"\udfff": 1},
        {1: 1},
        {True: 1},
        {None: 1},
        {1.5: 1},
        {"a": [{2: 1}]},
        {"a": 1, 2: 2},
        {PromptSlot.INTRO: 1},
        b"",
        {1},
        object(),
        RuntimeScope(session_id="s"),
        2**64,
        UUID(int=1),
        date(2026, 1, 1),
        Color.RED,
    ],
    ids=range(20),
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    """Keys that are numbers: `{1: x}` and `{"1": x}` would share a hash. And what orjson writes as something else."""
    with pytest.raises(CodecError, match="no canonical form"):
        canonical_bytes(value)


def test_circles_and_depth_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(CodecError, match="no canonical form"):
            stable_hash("lash.test", value)


def test_the_deepest_that_has_a_canonical_form() -> None:
    """254 lists and objects in one another, whatever they are: that is what orjson writes."""
    for wrap in (lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}):
        value: Any = 0.5
        for _ in range(254):
            value = wrap(value)
        assert canonical_bytes(value).count(b"0.5") == 1
        with pytest.raises(CodecError, match="no canonical form: it is nested more than 254 levels deep"):
            canonical_bytes(wrap(value))
