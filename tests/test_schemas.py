"""Arguments against their schemas: what is told of those that don't fit, and which schemas are refused unread."""

from __future__ import annotations

from typing import Any

import pytest
from agents import agent, inline_agent, plugin
from attrs import field, frozen

from lash_framework import schemas
from lash_framework.schemas import LONGEST_CHAIN, check_references, schema_fault
from lash_hookspecs import (
    MAX_NESTING,
    CompositionContext,
    ConfigurationError,
    ToolCallContext,
    ToolCallFailure,
    ToolCallSuccess,
    ToolManifest,
    tool,
)
from lash_plugin_provider_scripted.script import Call, Reply


@frozen
class Tree:
    label: str
    children: list[Tree] = field(factory=list)


# ---- what is told ---------------------------------------------------------------------------------------------------

STRING = {"type": "string"}
POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def deep_value(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"x": value}
    return value


def tagged(kind: str, of: str) -> dict[str, Any]:
    """The schema of a class that says by `kind` which one it is."""
    properties = {"kind": {"enum": [kind]}, of: {"type": "number"}}
    return {"type": "object", "properties": properties, "required": ["kind", of], "additionalProperties": False}


FAULTS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "type": ({"type": "integer"}, "x", 'expected integer, not "x" (at `a`)'),
    "types": ({"type": ["integer", "null"]}, "x", 'expected integer or null, not "x" (at `a`)'),
    "object": ({"type": "integer"}, {"x": 1, "y": 2}, "expected integer, not an object with x, y (at `a`)"),
    "empty": ({"type": "integer"}, {}, "expected integer, not an empty object (at `a`)"),
    "list": ({"type": "integer"}, [1, 2], "expected integer, not a list of 2 (at `a`)"),
    "long": ({"type": "integer"}, "x" * 10**6, f'expected integer, not "{"x" * 78}… (at `a`)'),
    "missing": ({"type": "object", "required": ["b"]}, {}, "`b` is missing (at `a`)"),
    "unknown": (
        {"properties": {"x": {}}, "additionalProperties": False},
        {"b": 1},
        "there is no property `b`; leave it out (at `a`)",
    ),
    "enum": ({"enum": ["x", 1]}, "y", 'expected one of "x", 1, not "y" (at `a`)'),
    "const": ({"const": 3}, 4, "expected 3, not 4 (at `a`)"),
    "optional": ({"anyOf": [STRING, {"type": "null"}]}, 3, "expected null or string, not 3 (at `a`)"),
    "optional class": (
        {"anyOf": [{"type": "object", "properties": {"x": STRING}}, {"type": "null"}]},
        {"x": 1},
        "expected string, not 1 (at `a/x`)",
    ),
    "lacking class": (
        {"anyOf": [{"type": "object", "required": ["x"]}, {"type": "null"}]},
        {},
        "`x` is missing (at `a`)",
    ),
    "optional class, another shape": (
        {"anyOf": [{**POINT, "additionalProperties": False}, {"type": "null"}]},
        {"z": 1},
        "`x` is missing (at `a`); there is no property `z`; leave it out (at `a`)",
    ),
    "the class of this tag": (
        {"anyOf": [tagged("circle", "r"), tagged("square", "side")]},
        {"kind": "square", "side": "long"},
        'expected number, not "long" (at `a/side`)',
    ),
    "the class of this tag, another shape": (
        {"anyOf": [tagged("circle", "r"), tagged("square", "side"), {"type": "null"}]},
        {"kind": "square", "r": 1},
        "`side` is missing (at `a`); there is no property `r`; leave it out (at `a`)",
    ),
    "the tag of no class": (
        {"anyOf": [tagged("circle", "r"), tagged("square", "side"), {"type": "null"}]},
        {"kind": "cube", "side": 1},
        'expected one of "circle", "square", not "cube" (at `a/kind`)',
    ),
    "the tag of no class, as constants": (
        {"oneOf": [{"properties": {"type": {"const": "a"}}}, {"properties": {"type": {"const": "b"}}}]},
        {"type": "c"},
        'expected one of "a", "b", not "c" (at `a/type`)',
    ),
    "no tag": (
        {"anyOf": [tagged("circle", "r"), tagged("square", "side"), {"type": "null"}]},
        {"r": 1},
        "an object with r fits none of what is allowed: `kind` is missing (at `a`)",
    ),
    "two classes": (
        {"anyOf": [POINT, {"type": "object", "required": ["name"]}, {"type": "null"}]},
        {"z": 1},
        "an object with z fits none of what is allowed: `x` is missing (at `a`), or `name` is missing (at `a`)",
    ),
    "a property that is no tag": (
        {"anyOf": [{"properties": {"c": {"enum": ["red"]}}}, {**POINT, "additionalProperties": False}]},
        {"c": "blue"},
        'expected one of "red", not "blue" (at `a/c`)',
    ),
    "one of": ({"oneOf": [{"type": "integer"}, STRING]}, None, "expected integer or string, not null (at `a`)"),
    "both": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 1, "1 fits none of what is allowed (at `a`)"),
    "minimum": ({"minimum": 1}, 0, "expected a number of at least 1, not 0 (at `a`)"),
    "maximum": ({"maximum": 1}, 2, "expected a number of at most 1, not 2 (at `a`)"),
    "above": ({"exclusiveMinimum": 1}, 1, "expected a number above 1, not 1 (at `a`)"),
    "below": ({"exclusiveMaximum": 1}, 1, "expected a number below 1, not 1 (at `a`)"),
    "multiple": ({"multipleOf": 5}, 3, "expected a multiple of 5, not 3 (at `a`)"),
    "pattern": ({"pattern": "^x"}, "y", 'expected text that matches `^x`, not "y" (at `a`)'),
    "short": ({"minLength": 2}, "y", "expected at least 2 characters, not 1 (at `a`)"),
    "long text": ({"maxLength": 0}, "y", "expected at most 0 characters, not 1 (at `a`)"),
    "few": ({"minItems": 1}, [], "expected at least 1 entries, not 0 (at `a`)"),
    "many": ({"maxItems": 1}, [1, 2], "expected at most 1 entries, not 2 (at `a`)"),
    "few properties": ({"minProperties": 1}, {}, "expected at least 1 properties, not 0 (at `a`)"),
    "many properties": ({"maxProperties": 0}, {"x": 1}, "expected at most 0 properties, not 1 (at `a`)"),
    "unique": ({"uniqueItems": True}, [1, 1], "expected entries that differ from one another (at `a`)"),
    "inside": ({"items": {"items": STRING}}, [["x"], ["y", 2]], "expected string, not 2 (at `a/1/1`)"),
    "other": ({"not": STRING}, "y", '{"type":"string"} is not allowed for "y" (at `a`)'),
}


@pytest.mark.parametrize(("schema", "given", "text"), FAULTS.values(), ids=FAULTS)
def test_a_fault_says_what_was_expected_what_came_and_where(schema: dict[str, Any], given: Any, text: str) -> None:
    check = schema_fault({"type": "object", "properties": {"a": schema}})
    assert check({"a": given}) == text


def test_a_fault_of_the_whole_has_no_place() -> None:
    assert schema_fault({"type": "object"})([]) == "expected object, not a list of 0"


def test_several_faults_are_told_at_once_and_no_flood_of_them() -> None:
    check = schema_fault(
        {"type": "object", "properties": {"a": {"type": "array", "items": STRING}, "b": STRING}, "required": ["c"]}
    )
    assert sorted((check({"a": [], "b": 1}) or "").split("; ")) == ["`c` is missing", "expected string, not 1 (at `b`)"]
    many = check({"a": list(range(8)), "c": 0}) or ""
    assert many.count("expected string") == 5
    assert many.endswith("; and 3 others")
    flood = check({"a": list(range(100_000)), "c": 0}) or ""
    assert flood.endswith("; and 95 or more others")


# ---- which schemas --------------------------------------------------------------------------------------------------

OUTSIDE: dict[str, dict[str, Any]] = {
    "web": {"$ref": "https://example.invalid/schema.json"},
    "file": {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
    "relative": {"properties": {"a": {"items": {"$ref": "other.json#/x"}}}},
    "dynamic": {"anyOf": [{"$dynamicRef": "https://example.invalid/#x"}]},
    "within a definition": {"$defs": {"a": {"$ref": "urn:x"}}},
    "where no schema should be": {"$ref": "#/extra/0", "extra": [{"$ref": "https://example.invalid/"}]},
}


@pytest.mark.statement(72, page="plugin-system")
@pytest.mark.parametrize("schema", OUTSIDE.values(), ids=OUTSIDE)
def test_a_reference_that_leads_outside_is_refused_before_anything_compiles_it(
    schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """72: an external `$ref` is refused before compilation."""
    import jsonschema_rs

    monkeypatch.setattr(jsonschema_rs, "validator_for", None)  # would raise a TypeError
    with pytest.raises(ConfigurationError, match="outside of the schema: copy what it names to"):
        schema_fault(schema)


def test_what_only_looks_like_a_reference_is_none() -> None:
    data = {"$ref": "https://example.invalid/"}
    schema = {
        "properties": {"$ref": STRING, "enum": {"enum": [data]}, "const": {"const": data, "default": data}},
        "examples": [data],
    }
    assert schema_fault(schema)({"$ref": "x", "enum": data, "const": data}) is None


def chain(length: int) -> dict[str, Any]:
    links: dict[str, Any] = {str(at): {"$ref": f"#/$defs/{at + 1}"} for at in range(length)}
    return {"$ref": "#/$defs/0", "$defs": {**links, str(length): STRING}}


@pytest.mark.statement(72, page="plugin-system")
def test_a_chain_of_references_has_an_end() -> None:
    """72: local chains are bounded."""
    assert schema_fault(chain(LONGEST_CHAIN - 3))("x") is None
    with pytest.raises(ConfigurationError, match=f"more than {LONGEST_CHAIN} schemas; refer to the last one"):
        check_references(chain(LONGEST_CHAIN))
    with pytest.raises(ConfigurationError, match=f"more than {LONGEST_CHAIN} schemas"):
        check_references(chain(100_000))


NOWHERE: dict[str, tuple[dict[str, Any], str]] = {
    "itself": ({"$ref": "#"}, "leads to itself"),
    "two": ({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#"}]}}}, "leads to itself"),
    "nothing": ({"properties": {"a": {"$ref": "#/$defs/a"}}}, "`#/\\$defs/a` leads nowhere"),
}


@pytest.mark.parametrize(("schema", "words"), NOWHERE.values(), ids=NOWHERE)
def test_a_reference_that_never_arrives_is_refused(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        check_references(schema)


def test_recursion_into_the_data_is_fine_as_deep_as_data_goes() -> None:
    @tool
    def plant(tree: Tree) -> None: ...

    check = schema_fault(plant.manifest.input_schema)
    deep: dict[str, Any] = {"label": "x"}
    for _ in range(MAX_NESTING):
        deep = {"label": "x", "children": [deep]}
    assert check({"tree": deep}) is None
    assert check({"tree": {"label": "a", "children": [{"label": 1}]}}) == (
        "expected string, not 1 (at `tree/children/0/label`)"
    )


def test_a_wide_schema_is_walked_once() -> None:
    """Each definition leads to the next twice: as a tree it has 2^60 places."""
    links = {str(at): {"allOf": [{"$ref": f"#/$defs/{at + 1}"}] * 2} for at in range(25)}
    check_references({"$ref": "#/$defs/0", "$defs": {**links, "25": STRING}})


def doubling(levels: int, last: dict[str, Any]) -> dict[str, Any]:
    """Each definition leads to the next twice; the last one is given."""
    links = {str(at): {"allOf": [{"$ref": f"#/$defs/{at + 1}"}] * 2} for at in range(levels)}
    return {"$ref": "#/$defs/0", "$defs": {**links, str(levels): last}}


ANCHORED = {
    "$ref": "#a0",
    "$defs": {
        **{str(at): {"$anchor": f"a{at}", "allOf": [{"$ref": f"#a{at + 1}"}] * 2} for at in range(25)},
        "25": {"$anchor": "a25", "type": "string"},
    },
}
FOR_EVER: dict[str, tuple[dict[str, Any], Any]] = {
    "at once": (doubling(25, STRING), "x"),
    "by anchors": (ANCHORED, "x"),
    "down into the data": (doubling(4, {"properties": {"x": {"$ref": "#"}}}), deep_value(20)),
    "down into lists": (doubling(4, {"items": {"$ref": "#"}}), [[[[[[[[[["x"]]]]]]]]]]),
    "by what is left": (
        {"allOf": [{"properties": {"x": {"$ref": "#"}}}], "unevaluatedProperties": False},
        deep_value(40),
    ),
    "by patterns": ({"patternProperties": {"x": {"$ref": "#"}, "^x": {"$ref": "#"}}}, deep_value(40)),
}


@pytest.mark.parametrize(("schema", "value"), FOR_EVER.values(), ids=FOR_EVER)
def test_a_schema_that_would_be_checked_for_ever_is_not(schema: dict[str, Any], value: Any) -> None:
    """A server's schema of a few lines held the process for as long as it wanted, and nothing could end that."""
    assert "takes more than 1,000,000 looks" in (schema_fault(schema)(value) or "")


def test_what_is_checked_in_time_is() -> None:
    """Alternatives, wide tables, and recursion that goes down one way for each member."""
    tree = {"properties": {name: {"$ref": "#"} for name in "abcdefgh"}, "additionalProperties": {"$ref": "#"}}
    check = schema_fault(tree)
    assert check(deep_value(150)) is None
    json_value = {"anyOf": [STRING, {"type": "array", "items": {"$ref": "#"}}, {"properties": {"x": {"$ref": "#"}}}]}
    assert schema_fault(json_value)(deep_value(15)) is None
    assert schema_fault(doubling(12, STRING))("x") is None
    assert schema_fault(doubling(12, STRING))(1) is not None


def test_references_within_a_schema_that_has_a_name_of_its_own_are_refused() -> None:
    """They lead elsewhere than they seem to."""
    schema = {"$defs": {"a": {"$id": "http://x/", "$ref": "#/$defs/b", "$defs": {"b": STRING}}, "b": {}}}
    with pytest.raises(ConfigurationError, match="leave the `\\$id` out"):
        check_references(schema)
    check_references({"properties": {"x": {"$id": "http://x/", "type": "string"}}})


def test_an_anchor_that_isnt_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="`#a` leads nowhere"):
        check_references({"$ref": "#a"})
    assert schema_fault({"properties": {"x": {"$ref": "#a"}}, "$defs": {"b": {**STRING, "$anchor": "a"}}})({"x": 1})


# ---- in a turn ------------------------------------------------------------------------------------------------------


class Raw:
    """A tool with a schema of its own."""

    def __init__(self, schema: dict[str, Any], name: str = "raw") -> None:
        self.manifest = ToolManifest(name=name, input_schema=schema)
        self.calls: list[Any] = []

    async def call(self, ctx: ToolCallContext, args: Any) -> str:
        self.calls.append(args)
        return "ok"


def offering(*tools: Raw) -> object:
    def lash_tools(ctx: CompositionContext) -> list[Raw]:
        return list(tools)

    return plugin("p", lash_tools)


async def outcomes(raw: Raw, *args: Any) -> list[Any]:
    script = [Reply(tool_calls=[Call(raw.manifest.name, each) for each in args]), "Done."]
    async with agent(script, plugins=[offering(raw)]) as lash:
        turn = await (await lash.session()).run("q")
    return [each.output.outcome for each in turn.tool_calls]


@pytest.mark.statement(43, page="plugin-system")
async def test_arguments_that_do_not_fit_never_reach_the_tool() -> None:
    """43: what doesn't fit is answered before the tool is called."""
    raw = Raw({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    bad, worse, good = await outcomes(raw, {"a": "x"}, {}, {"a": 1})
    assert bad.message == 'the arguments of `raw` don\'t fit its schema: expected integer, not "x" (at `a`)'
    assert worse.message == "the arguments of `raw` don't fit its schema: `a` is missing"
    assert good == ToolCallSuccess("ok")
    assert raw.calls == [{"a": 1}]


@pytest.mark.statement(73, page="plugin-system")
async def test_unknown_properties_pass_unless_the_schema_forbids_them() -> None:
    """73: what a schema doesn't name is let through, unless it says that there is nothing else."""
    loose = Raw({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert await outcomes(loose, {"a": 1, "b": 2}) == [ToolCallSuccess("ok")]
    assert loose.calls == [{"a": 1, "b": 2}]
    strict = Raw({**loose.manifest.input_schema, "additionalProperties": False})
    (refused,) = await outcomes(strict, {"a": 1, "b": 2})
    assert (refused.code, strict.calls) == ("invalid_arguments", [])


async def test_a_schema_that_leads_outside_fails_its_calls_and_names_the_plugin() -> None:
    raw = Raw({"type": "object", "properties": {"a": {"$ref": "https://example.invalid/"}}})
    (refused,) = await outcomes(raw, {"a": 1})
    assert isinstance(refused, ToolCallFailure)
    assert (refused.code, raw.calls) == ("broken_schema", [])
    assert "tool `raw` (plugin `p`) is broken: `$ref` leads to `https://example.invalid/`" in refused.message


@pytest.mark.statement(44, page="plugin-system")
async def test_only_the_schema_of_a_tool_that_is_called_is_compiled_and_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """44: a schema is compiled when its tool is called, and no other with it."""
    compiled: list[Any] = []
    monkeypatch.setattr(schemas, "check_references", compiled.append)
    one, other = Raw({"type": "object", "title": "one"}, "one"), Raw({"type": "object", "title": "other"}, "other")
    script = [Reply(tool_calls=[Call("one"), Call("one")]), "Done.", Reply(tool_calls=[Call("one")]), "Done."]
    async with inline_agent(script, plugins=[offering(one, other)]) as lash:
        session = await lash.session()
        await session.run("q")
        await session.run("q")
    assert [each["title"] for each in compiled] == ["one"]
    assert len(one.calls) == 3
