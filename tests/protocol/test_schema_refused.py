"""What cannot be enforced is refused at once, naming keyword, place and the way out."""

from __future__ import annotations

import time
from typing import Any

import pytest

from provider.protocol.schema import SchemaRefused, compile, lark


def refusal(schema: Any) -> SchemaRefused:
    with pytest.raises(SchemaRefused) as caught:
        compile(schema)
    return caught.value


_INNER = {"type": "object", "properties": {"x": {}}}


def inside(schema: Any) -> dict[str, Any]:
    """`schema` at /properties/x."""
    return {**_INNER, "properties": {"x": schema}}


@pytest.mark.parametrize(
    ("keyword", "schema"),
    [
        ("uniqueItems", {"anyOf": [{"uniqueItems": True}, {"items": {"type": "string"}}]}),
        ("pattern", {"type": "string", "pattern": r"(a)\1"}),
        ("pattern", {"type": "string", "pattern": "("}),
        ("pattern", {"type": "string", "pattern": "(?<=a)b"}),
        ("pattern", {"type": "string", "pattern": "a" * 5000}),
        ("format", {"type": "string", "format": "idn-email"}),
        ("$ref", {"$ref": "https://example.com/other.json"}),
        ("$ref", {"$ref": "#/$defs/missing"}),
        ("multipleOf", {"type": "integer", "multipleOf": 123457}),
        ("minProperties", {"type": "object", "minProperties": 3}),
        ("minLength", {"type": "string", "minLength": 10**9}),
        ("minItems", {"type": "array", "minItems": 10**9}),
        ("maxLength", {"type": "string", "maxLength": "3"}),
        ("required", {"type": "object", "required": True}),
        ("type", {"type": "strin"}),
        ("enum", {"enum": 3}),
        ("anyOf", {"anyOf": []}),
        ("oneOf", {"oneOf": {"type": "string"}}),
    ],
)
def test_refused_with_its_keyword_and_place(keyword: str, schema: Any) -> None:
    refused = refusal(inside(schema))
    assert (refused.keyword, refused.path) == (keyword, "/properties/x")
    assert f"'{keyword}' at '#/properties/x'" in refused.message


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "object", "additionalProperties": False, "required": ["a"]},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "string", "pattern": "^a$", "minLength": 2},
        {"type": "array", "minItems": 2, "maxItems": 1},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"enum": [1, 2], "not": {"type": "integer"}},
    ],
)  # fmt: skip
def test_a_schema_without_instances_is_refused(schema: Any) -> None:
    assert "no value is valid" in refusal(schema).message


def test_what_is_unsatisfiable_but_optional_is_left_out() -> None:
    compile({"type": "object", "properties": {"a": False, "b": {"type": "null"}}})


def test_a_reference_to_itself_is_refused() -> None:
    assert refusal({"$ref": "#"}).keyword == "$ref"
    assert refusal({"anyOf": [{"$ref": "#"}, {"type": "null"}]}).keyword == "$ref"


def _nested(times: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(times):
        schema = {"anyOf": [schema, {"type": "null"}]}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        _nested(800),
        {"enum": [f"value{i}" * 5 for i in range(60_000)]},
        {"type": "object", "properties": {f"p{i}": {} for i in range(5000)}},
        {"allOf": [{"anyOf": [{"required": [f"p{i}{j}"]} for j in range(9)]} for i in range(12)]},
        {"allOf": [{"pattern": f"(.*{c}){{20}}"} for c in "abc"], "type": "string"},
        {"type": "object", "patternProperties": {f"p{i}": {"maxLength": i} for i in range(40)}},
        {"type": "object", "dependentRequired": {f"a{i}": [f"b{i}"] for i in range(40)}},
    ],
    ids=["deep", "large", "wide", "product", "patterns", "overlap", "dependent"],
)
def test_hostile_schemas_are_refused_in_bounded_time(schema: Any) -> None:
    start = time.process_time()
    refusal(schema)
    assert time.process_time() - start < 20  # about one second; a hang is what must not be


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "maxLength": 10**9},
        {"type": "array", "items": {"type": "null"}, "maxItems": 2**31},
        {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(600)}},
        {"allOf": [{"if": {"properties": {"k": {"const": i}}}, "then": {"required": [f"r{i}"]}}
                   for i in range(40)]},
    ],
    ids=["redos", "long", "many", "counts", "600 optional", "chain"],
)  # fmt: skip
def test_large_but_harmless_schemas_are_taken(schema: Any) -> None:
    compile(schema)


def test_another_parameter_can_be_named() -> None:
    refused = refusal(inside({"type": "strin"})).at("tools[0].function.parameters")
    assert refused.param == "tools[0].function.parameters"
    assert refused.path == "/properties/x"


def test_a_rule_name_must_be_one() -> None:
    with pytest.raises(ValueError, match="cannot name a grammar rule"):
        lark("start: Call", {"Call": True})
