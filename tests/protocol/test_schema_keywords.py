"""Every keyword, by literal instances: what must be accepted and what must not."""

from __future__ import annotations

from typing import Any

import pytest

from bench.schema.accepts import Judge
from provider.protocol.schema import compile
from provider.protocol.schema.probe import byte_tokenizer

_OPEN_AND_ONE = {"properties": {"a": {"const": 1}}, "required": ["a"]}

CASES: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("true", True, [None, 1, "x", [1], {"a": 1}], []),
    ("types", {"type": ["string", "null"]}, ["한글", None, ""], [1, [], True]),
    ("integer", {"type": "integer"}, [0, -3, 10**30, 5.0], [1.5, "1"]),
    ("bounds", {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2}, [-1.5, 1.999], [2, -2]),
    ("draft 4 bounds", {"type": "integer", "minimum": 3, "exclusiveMinimum": True}, [4], [3]),
    ("multiples", {"type": "integer", "multipleOf": 7}, [0, 7, -14, 700], [1, 8]),
    ("hundredths", {"type": "number", "multipleOf": 0.01}, [0.01, 19.99, 5], [0.001]),
    ("length", {"type": "string", "minLength": 2, "maxLength": 3}, ["가나", "😀😀😀"], ["가"]),
    ("pattern", {"type": "string", "pattern": "b+"}, ["abc", "b"], ["ac", ""]),
    ("anchors", {"type": "string", "pattern": r"^\d{3}-\d{2}$"}, ["123-45"], ["x123-45", "123-4"]),
    ("look-ahead", {"type": "string", "pattern": "^(?!ab)[a-c]+$"}, ["ba", "ac"], ["abc", "d"]),
    ("property", {"type": "string", "pattern": r"^\p{L}+$"}, ["한글Ab"], ["a1"]),
    ("date", {"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "2024-13-01"]),
    ("first year", {"type": "string", "format": "date-time"}, ["0001-01-01T00:00:00Z"],
     ["0000-01-01T00:00:00Z", "0000-02-29T00:00:00Z"]),
    ("nullable", {"type": "string", "nullable": True}, ["a"], [None]),
    ("nullable enum", {"enum": ["a"], "nullable": True}, ["a"], [None]),
    ("constants that differ in a title", {"properties": {"a": {"const": {"title": "x"}},
     "b": {"const": {"title": "y"}}, "c": {"enum": [{"description": "z"}]}}},
     [{"a": {"title": "x"}}, {"b": {"title": "y"}}, {"c": {"description": "z"}}],
     [{"b": {"title": "x"}}, {"c": {"description": ""}}]),
    ("properties named like annotations", {"properties": {"title": {"type": "string"},
     "default": {"properties": {"title": {"type": "null"}}}, "examples": {"type": "integer"}}},
     [{"title": "x"}, {"default": {"title": None}}], [{"title": 1}, {"default": {"title": "x"}}]),
    ("draft 3 dependencies", {"properties": {"a": {"dependencies": {"title": "b"}},
     "c": {"dependencies": {"title": "d"}}}},
     [{"c": {"title": 1, "d": 1}}], [{"c": {"title": 1}}, {"c": {"title": 1, "b": 1}}]),
    ("other format", {"type": "string", "format": "color"}, ["red", ""], [1]),
    ("enum", {"enum": ["a", 1, None, [1, {"b": 2}]]}, ["a", 1, [1, {"b": 2}]], ["b", [1], True]),
    ("const", {"const": {"a": [True]}}, [{"a": [True]}], [{"a": [1]}, {}]),
    ("enum and type", {"type": "integer", "enum": [1, "a", 2.5]}, [1], ["a", 2.5]),
    ("required", {"type": "object", "required": ["b", "a"]}, [{"a": 1, "b": 2}], [{"a": 1}]),
    (
        "closed",
        {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        [{}, {"a": 1}],
        [{"b": 1}],
    ),
    (
        "overlapping patterns",
        {
            "type": "object",
            "patternProperties": {"^a": {"type": "integer"}, "b$": {"minimum": 5}},
            "additionalProperties": {"type": "string"},
        },
        [{"ab": 7, "a": 1, "b": 5, "c": "x"}],
        [{"ab": 3}, {"ab": "x"}, {"c": 1}],
    ),
    ("names", {"propertyNames": {"pattern": "^[a-z]+$"}}, [{"ab": 1}, 5], [{"A": 1}]),
    ("one member", {"type": "object", "minProperties": 1}, [{"a": 1}], [{}]),
    (
        "two of three",
        {
            "type": "object",
            "properties": {"a": {}, "b": {}, "c": {}},
            "additionalProperties": False,
            "minProperties": 2,
            "maxProperties": 2,
        },
        [{"a": 1, "c": 2}, {"b": 1, "c": 1}],
        [{"a": 1}, {"a": 1, "b": 1, "c": 1}],
    ),
    ("items", {"items": {"type": "integer"}, "maxItems": 2}, [[], [1, 2]], [[1, 2, 3], ["a"]]),
    ("tuple", {"prefixItems": [{"const": 1}], "items": False}, [[1], []], [[2], [1, 1]]),
    ("older tuple", {"items": [{"const": 1}], "additionalItems": False}, [[1]], [[1, 1]]),
    ("contains", {"type": "array", "contains": {"const": 5}}, [[1, 5]], [[1], []]),
    ("at most two", {"contains": {"const": 5}, "maxContains": 2}, [[5, 5]], [[5, 5, 5]]),
    (
        "unique",
        {"type": "array", "items": {"enum": ["a", "b", None]}, "uniqueItems": True},
        [["a", None], []],
        [["a", "a"]],
    ),
    ("not a type", {"not": {"type": "string"}}, [1, None, {}], ["x"]),
    ("not a value", {"type": "string", "not": {"enum": ["a", "ab"]}}, ["abc", "b"], ["a", "ab"]),
    ("not an object", {"not": _OPEN_AND_ONE}, [{"a": 2}, {}], [{"a": 1}]),
    (
        "condition",
        {
            "type": "object",
            "if": {"properties": {"k": {"const": "x"}}, "required": ["k"]},
            "then": {"required": ["v"]},
            "else": {"properties": {"v": False}},
        },
        [{"k": "x", "v": 1}, {"k": "y"}, {}],
        [{"k": "x"}, {"k": "y", "v": 1}],
    ),
    (
        "dependencies",
        {"type": "object", "dependentRequired": {"a": ["b"]}},
        [{"a": 1, "b": 1}, {"b": 1}],
        [{"a": 1}],
    ),
    (
        "a name in one alternative, any name in another",
        {"dependentSchemas": {"b": {"properties": {"a": {"type": "integer"}}}}},
        [{"a": "x"}, {"a": 1, "b": 2}, {"a": "x", "c": 2}],
        [{"a": "x", "b": 2}],
    ),
    (
        "closed alternatives of which none may hold",
        {
            "type": "object",
            "not": {
                "anyOf": [
                    {"properties": {"a": {}}, "additionalProperties": False},
                    {"properties": {"b": {}}, "additionalProperties": False},
                    {"properties": {"c": {}}, "additionalProperties": {"type": "integer"}},
                ]
            },
        },
        [{"a": "x", "b": 1}, {"d": "x"}, {"d": 1, "e": "x"}, {"a": 1, "b": "x"}],
        [{}, {"a": 1}, {"b": 1}, {"c": "x", "d": 1}, {"d": 1}],
    ),
    ("all of", {"allOf": [{"type": "number"}, {"minimum": 2}, {"maximum": 3}]}, [2.5], [1, "x"]),
    ("one of", {"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, 2.5, "x"], [3, 1.5]),
    (
        "one of, keyed",
        {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        [{"a": 1}],
        [{"a": 1, "b": 1}, {}],
    ),
    (
        "unevaluated",
        {
            "anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}],
            "unevaluatedProperties": False,
        },
        [{"a": 1}, {"a": 1, "b": 1}, {"b": 1}],
        [{"c": 1}],
    ),
    (
        "tree",
        {
            "$ref": "#/$defs/n",
            "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 2}},
        },
        [[], [[], [[]]]],
        [[1], [[], [], []]],
    ),
    (
        "anchor",
        {"$ref": "#x", "$defs": {"a": {"$anchor": "x", "type": "null"}}},
        [None],
        [1],
    ),
    ("open", {"properties": {"a": {"type": "integer"}}}, [{"a": 1, "b": "x"}], [{"a": "x"}]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_exactly_the_valid_instances_are_written(
    schema: Any, valid: list[Any], invalid: list[Any]
) -> None:
    judge = Judge(compile(schema), byte_tokenizer())
    assert [v for v in valid if not judge.accepts(v)] == []
    assert [v for v in invalid if judge.accepts(v)] == []


def test_texts_are_compact_in_the_schemas_order() -> None:
    schema = {"type": "object", "properties": {"b": {}, "a": {}}, "required": ["a", "b"]}
    judge = Judge(compile(schema), byte_tokenizer())
    assert judge.accepts_text('{"b":1,"a":[1,{}]}')
    assert not judge.accepts_text('{"a":1,"b":1}')
    assert not judge.accepts_text('{"b": 1,"a":1}')


def test_a_name_has_one_text_only() -> None:
    judge = Judge(compile({"properties": {"a": {"type": "integer"}}}), byte_tokenizer())
    assert not judge.accepts_text('{"\\u0061":"x"}')


def test_open_bounds_hold_for_readers_that_round_to_doubles() -> None:
    judge = Judge(compile({"exclusiveMaximum": 0.1, "type": "number"}), byte_tokenizer())
    assert judge.accepts_text("0.09999999999999999")
    assert not judge.accepts_text("0.09999999999999999999999")


@pytest.mark.parametrize("text", ["1e299", "-2.5E-05", "0e000", "1e+20"])
def test_exponents_that_every_reader_can_hold(text: str) -> None:
    assert Judge(compile({"type": "number"}), byte_tokenizer()).accepts_text(text)


@pytest.mark.parametrize("text", ["84E677", "1e300", "1e-999", "1e0299"])
def test_no_number_reads_as_infinity_or_nothing(text: str) -> None:
    assert not Judge(compile({"type": "number"}), byte_tokenizer()).accepts_text(text)


def test_a_value_beyond_doubles_is_written_without_an_exponent() -> None:
    assert Judge(compile({"type": "number"}), byte_tokenizer()).accepts_text("1" + "0" * 400)
