"""No third way: what is compiled allows exactly the valid instances, by an independent judge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bench.schema.accepts import Judge, OutOfSteps
from provider.protocol.schema import Constraint, SchemaRefused, compile
from provider.protocol.schema.probe import byte_tokenizer
from tests.protocol.schema_strategies import SCHEMAS, VALUES
from tests.protocol.schema_walk import walk

_TOKENIZER = byte_tokenizer()
_SETTINGS = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def _compiled(schema: dict[str, Any]) -> Constraint | None:
    try:
        return compile(schema)
    except SchemaRefused:
        return None


@_SETTINGS
@given(SCHEMAS, st.lists(VALUES, min_size=1, max_size=12))
def test_accepted_is_valid_and_valid_is_accepted(schema: dict[str, Any], values: list[Any]) -> None:
    constraint = _compiled(schema)
    validator = Draft202012Validator(schema)
    if constraint is None:
        return
    judge = Judge(constraint, _TOKENIZER)
    for value in values:
        try:
            assert judge.accepts(value) == validator.is_valid(value), value
        except OutOfSteps:
            assume(False)


@_SETTINGS
@given(SCHEMAS, st.integers(0, 2**16))
@example({"not": {"type": "object", "properties": {"a": {"const": 1}}}}, 1)
def test_whatever_the_mask_allows_is_valid(schema: dict[str, Any], seed: int) -> None:
    constraint = _compiled(schema)
    assume(constraint is not None)
    assert constraint is not None
    text = walk(constraint.matcher(_TOKENIZER), _TOKENIZER, seed)
    assume(text is not None)
    assert text is not None
    assert Draft202012Validator(schema).is_valid(json.loads(text)), text


@_SETTINGS
@given(SCHEMAS, st.lists(VALUES, min_size=1, max_size=12))
def test_a_schema_refused_as_empty_has_no_instance(
    schema: dict[str, Any], values: list[Any]
) -> None:
    try:
        compile(schema)
    except SchemaRefused as refused:
        if "no value is valid" in refused.reason:
            validator = Draft202012Validator(schema)
            assert not any(validator.is_valid(value) for value in values)


@pytest.mark.parametrize("seed", range(5))
def test_any_object_walks_are_objects(seed: int) -> None:
    matcher = compile({"type": "object"}).matcher(_TOKENIZER)
    text = walk(matcher, _TOKENIZER, seed)
    assert text is None or isinstance(json.loads(text), dict)
