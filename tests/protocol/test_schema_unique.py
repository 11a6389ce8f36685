"""Arrays of distinct items: no token repeats one, or leads where only repeats are left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from llguidance import LLTokenizer, TokenizerWrapper

from bench.schema.accepts import Judge
from provider.protocol.schema import compile, lark
from provider.protocol.schema.probe import byte_tokenizer
from tests.protocol.schema_walk import walk

if TYPE_CHECKING:
    from provider.protocol.schema.constraint import Matcher

_BYTES = byte_tokenizer()
_PAIRS = {
    "type": "object",
    "properties": {"k": {"enum": ["a", "b"]}, "v": {"type": "boolean"}},
    "required": ["k"],
    "additionalProperties": False,
}
_STRINGS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}


class _Words:
    """A vocabulary of bytes and of pieces of JSON text that cross the borders of items."""

    eos_token_id = 256
    bos_token_id = None
    pieces = ('","', '"]', '","a', '["a","a"]', ",1", "1,1", "1]", "[1,1]", '"a"', "true", ',"a",')
    tokens = (
        *(bytes([b]) for b in range(256)),
        b"<|end|>",
        *(p.encode() for p in pieces),
    )
    special_token_ids = (256,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


_WORDS = LLTokenizer(TokenizerWrapper(_Words()))


def _allowed(matcher: Matcher, piece: str) -> bool:
    """Whether the token of these bytes may come next; the mask and `validate_tokens` agree."""
    token = _Words.tokens.index(piece.encode())
    by_mask = bool(matcher.compute_bitmask()[token >> 3] >> (token & 7) & 1)
    assert bool(matcher.validate_tokens([token])) == by_mask
    return by_mask


def _after(schema: Any, text: str) -> Matcher:
    matcher = compile(schema).matcher(_WORDS)
    assert matcher.consume_tokens(list(text.encode()))
    return matcher


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        (_STRINGS, [[], ["a"], ["a", "b"], ["", "가"]], [["a", "a"], ["a", "b", "a"]]),
        ({"uniqueItems": True}, [[1, "1", [1], True], {"a": [1, 1]}, "x"], [[1, 1], [{}, {}]]),
        (
            {"type": "array", "items": {"type": "number"}, "uniqueItems": True},
            [[1, 2.5, -0.25]],
            [[1, 1], [2.5, 2.5]],
        ),
        ({"uniqueItems": True, "type": "array"}, [[1, True, 0, False]], [[True, True], [0, 0]]),
        (
            {"type": "array", "items": {"type": "object"}, "uniqueItems": True},
            [[{"a": 1}, {"a": 2}, {}]],
            [[{"a": 1, "b": 2}, {"b": 2, "a": 1}], [{}, {}]],
        ),
        (
            {"type": "array", "items": _STRINGS, "uniqueItems": True},
            [[["a"], ["a", "b"], []]],
            [[["a", "a"]], [["a"], ["a"]]],
        ),
        (
            {"prefixItems": [{"type": "string"}, {"type": "string"}], "uniqueItems": True},
            [["a", "b", 3]],
            [["a", "a"], ["a", "b", "a"]],
        ),
        (
            {**_STRINGS, "contains": {"const": "x"}, "minItems": 1},
            [["x"], ["a", "x"]],
            [["x", "x"], ["a"]],
        ),
        (
            {"anyOf": [_STRINGS, {"type": "array", "items": {"type": "integer"}}]},
            [["a", "b"], [1, 1]],
            [["a", "a"], ["a", 1]],
        ),
        (
            {"type": "object", "patternProperties": {"^x": _STRINGS}},
            [{"x1": ["a", "b"], "y": ["a", "a"]}],
            [{"x1": ["a", "a"]}],
        ),
        (
            {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"},
                                                  "uniqueItems": True}}},
            [[[], [[]]], []],
            [[[], []], [[[], []]]],
        ),
    ],
)  # fmt: skip
def test_distinct_items_and_no_others(schema: Any, valid: list[Any], invalid: list[Any]) -> None:
    judge = Judge(compile(schema), _BYTES)
    assert [v for v in valid if not judge.accepts(v)] == []
    assert [v for v in invalid if judge.accepts(v)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"pattern": "^[ab]?$", "type": "string"}, "uniqueItems": True},
        {"type": "array", "items": _PAIRS, "uniqueItems": True, "minItems": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99},
         "uniqueItems": True, "minItems": 20},
        {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1,
                                    "multipleOf": 0.25}, "uniqueItems": True},
        {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 1},
         "uniqueItems": True},
    ],
)  # fmt: skip
def test_no_walk_repeats_an_item_or_is_stuck(schema: Any) -> None:
    validator = Draft202012Validator(schema)
    for seed in range(40):
        text = walk(compile(schema).matcher(_BYTES), _BYTES, seed, limit=1000)
        assert text is None or validator.is_valid(json.loads(text)), text


def test_a_token_over_several_items_is_looked_into() -> None:
    assert not _allowed(_after(_STRINGS, ""), '["a","a"]')
    assert _allowed(_after(_STRINGS, '["b'), '","a')
    inside = _after(_STRINGS, '["a","')
    assert not _allowed(_after(_STRINGS, '["a","b"'), ',"a",')
    assert _allowed(_after(_STRINGS, '["c","b"'), ',"a",')
    assert _allowed(inside, '"]')  # the empty string
    assert not _allowed(_after(_STRINGS, '["a","a'), '"]')
    assert not _allowed(_after({"uniqueItems": True}, ""), "[1,1]")


def test_what_leaves_only_repeats_is_not_begun() -> None:
    schema = {"type": "array", "items": {"enum": ["ab", "ac"] + ["x" * n for n in range(1, 99)]},
              "uniqueItems": True}  # fmt: skip
    matcher = _after(schema, '["ab","ac","')
    assert not _allowed(matcher, "a")
    assert _allowed(matcher, "x")


def test_state_goes_back_and_is_copied() -> None:
    matcher = _after(_STRINGS, '["a","a')
    copy = matcher.deep_copy()
    assert not matcher.consume_tokens([ord('"')])
    assert matcher.is_error()
    assert "repeats an item" in matcher.get_error()
    assert copy.consume_tokens(list(b'b"'))
    assert copy.rollback(2)
    assert copy.try_consume_tokens(list(b'"]')) == 0
    assert not copy.is_error()
    assert copy.reset()
    assert copy.consume_tokens(list(b'["a"]'))
    assert copy.is_accepting()


def test_a_long_way_back_is_read_again() -> None:
    text = json.dumps([str(n) for n in range(200)], separators=(",", ":"))
    matcher = _after(_STRINGS, text[:-1])
    assert matcher.rollback(len(text) - 4)
    assert matcher.validate_tokens(list(b'"0"]')) < 4
    assert matcher.consume_tokens(list(text[3:].encode()))
    assert matcher.is_accepting()
    assert matcher.rollback(1)
    assert matcher.validate_tokens(list(b',"7"')) < 4


def test_values_in_a_text_are_found_by_what_stands_before() -> None:
    grammar = 'start: ("<call>" args "</call>")+'
    constraint = lark(grammar, {"args": _STRINGS}, {"args": "<call>"})
    for text, right in (
        ('<call>["a","b"]</call><call>["a"]</call>', True),
        ('<call>["a"]</call><call>["b","b"]</call>', False),
    ):
        matcher = constraint.matcher(_BYTES)
        assert matcher.consume_tokens(list(text.encode())) == right
