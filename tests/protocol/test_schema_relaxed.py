"""What cannot be enforced of a tool's schema is left to the model where OpenAI leaves it, too."""

from __future__ import annotations

import time
from typing import Any

import pytest

from provider.protocol.chat import ChatRequest, parse
from provider.protocol.constraints import constraint, enforceable
from provider.protocol.schema import Malformed, SchemaRefused, compile, relaxed

LOOK_BEHIND = {"type": "string", "pattern": "(?<=a)b"}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def request(schema: Any, **function: Any) -> ChatRequest:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema, **function}}
    message = {"role": "user", "content": "hi"}
    return parse({"model": "m", "messages": [message], "tools": [tool]})


@pytest.mark.parametrize(
    ("schema", "kept", "left_out"),
    [
        (of(a=LOOK_BEHIND), of(a={"type": "string"}), ["/properties/a/pattern"]),
        (
            of(a=LOOK_BEHIND, b=LOOK_BEHIND, c={"type": "integer"}),
            of(a={"type": "string"}, b={"type": "string"}, c={"type": "integer"}),
            ["/properties/a/pattern", "/properties/b/pattern"],
        ),
        (
            of(a={"$ref": "https://example.com/s"}),
            of(a={}),
            ["/properties/a/$ref"],
        ),
        (
            {**of(a={"$ref": "#/$defs/a~1b"}), "$defs": {"a/b": LOOK_BEHIND}},
            {**of(a={"$ref": "#/$defs/a~1b"}), "$defs": {"a/b": {"type": "string"}}},
            ["/$defs/a~1b/pattern"],
        ),
        (
            of(a={"oneOf": [LOOK_BEHIND, {"const": "b"}]}),
            of(a={"anyOf": [{"type": "string"}, {"const": "b"}]}),
            ["/properties/a/oneOf", "/properties/a/oneOf/0/pattern"],
        ),
        (
            of(a={"anyOf": [{"const": "c"}], "oneOf": [LOOK_BEHIND]}),
            of(a={"anyOf": [{"const": "c"}], "allOf": [{"anyOf": [{"type": "string"}]}]}),
            ["/properties/a/oneOf", "/properties/a/oneOf/0/pattern"],
        ),
        (
            of(a={"type": "string", "not": LOOK_BEHIND}),
            of(a={"type": "string"}),
            ["/properties/a/not"],
        ),
        (
            of(**{"not": LOOK_BEHIND, "oneOf": {"type": "integer"}}),
            of(**{"not": {"type": "string"}, "oneOf": {"type": "integer"}}),
            ["/properties/not/pattern"],
        ),
        (
            of(a={"type": "array", "enum": ["x", "y"]}, b={"type": "integer"}),
            of(a={"type": "array"}, b={"type": "integer"}),
            ["/properties/a"],
        ),
        (
            of(a={"anyOf": [{"items": {"type": "string"}}, {"uniqueItems": True}]}),
            of(a={"anyOf": [{"items": {"type": "string"}}, {}]}),
            ["/properties/a/anyOf/1/uniqueItems"],
        ),
        ({"type": "object", "minProperties": 2}, {"type": "object"}, ["/minProperties"]),
        ({"type": "object", "not": {}}, {"type": "object"}, [""]),
        ({"type": "object", "title": "x" * 1_000_001}, {"type": "object"}, [""]),
    ],
)
def test_all_else_stays_in_force(schema: Any, kept: Any, left_out: list[str]) -> None:
    before = repr(schema)
    assert relaxed(schema) == (kept, tuple(left_out))
    assert repr(schema) == before
    compile(kept)


def test_what_can_be_enforced_is_the_schema_itself() -> None:
    schema = of(a={"type": "string", "pattern": "^b$"})
    assert relaxed(schema) == (schema, ())


@pytest.mark.parametrize(
    "schema",
    [
        of(a={"type": "dict"}),
        of(a={"type": "string", "enum": "b"}),
        of(a={"$ref": "#/$defs/gone"}),
        {"type": "object", "required": True},
        {**of(a=LOOK_BEHIND, b={"minLength": "1"})},
    ],
)
def test_what_is_no_schema_is_refused_as_openai_does(schema: Any) -> None:
    with pytest.raises(Malformed):
        relaxed(schema)


def test_hostile_schemas_end_in_any_object() -> None:
    nested: Any = LOOK_BEHIND
    for _ in range(2000):
        nested = {"items": nested}
    overlapping = {"oneOf": [of(**{f"p{n}": {"type": "string"}}) for n in range(90)]}
    many = of(**{f"p{n}": {"type": "string", "pattern": f"(?<=a){n}"} for n in range(90)})
    start = time.process_time()
    for schema in (of(a=nested), of(a=overlapping), many):
        compile(relaxed(schema)[0])
    assert relaxed(many) == ({"type": "object"}, ("",))
    assert time.process_time() - start < 30  # a bound on harm, not a measurement


def test_only_a_strict_tool_is_refused() -> None:
    asked = enforceable(request(of(a=LOOK_BEHIND)))
    assert asked.ignored == ("tools[0].function.parameters#/properties/a/pattern",)
    assert constraint(asked) is not None
    assert asked.tools.declared[0].parameters["properties"]["a"] == LOOK_BEHIND
    strict = enforceable(request(of(a=LOOK_BEHIND), strict=True))
    assert strict.ignored == ()
    with pytest.raises(SchemaRefused) as caught:
        constraint(strict)
    assert caught.value.param == "tools[0].function.parameters"


def test_a_tool_that_has_no_schema_is_named() -> None:
    with pytest.raises(Malformed) as caught:
        enforceable(request(of(a={"type": "dict"})))
    assert caught.value.param == "tools[0].function.parameters"
