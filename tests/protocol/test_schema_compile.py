"""The public face: a schema, a regex, a grammar become constraints; the rest is refused."""

from __future__ import annotations

import json

import pytest

from provider.protocol.schema import SchemaRefused, compile
from provider.protocol.schema.compiled import identity


def test_equal_schemas_share_a_constraint() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert compile(schema) is compile(dict(schema))


def test_a_refusal_is_a_client_error_that_names_the_parameter() -> None:
    with pytest.raises(SchemaRefused) as caught:
        compile({"type": "array", "contains": 3})
    assert caught.value.status == 400
    assert caught.value.param == "response_format.json_schema.schema"
    assert caught.value.code == "invalid_json_schema"


def test_a_schema_is_known_again_by_values_types_and_order() -> None:
    first = {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": True}}}
    again = json.loads(json.dumps(first))
    assert compile(again) is compile(first)
    for other in (
        {"type": "object", "properties": {"b": {"const": True}, "a": {"const": 1}}},
        {"type": "object", "properties": {"a": {"const": True}, "b": {"const": True}}},
        {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": "True"}}},
    ):
        assert compile(other) is not compile(first)
        assert identity(other) != identity(first)
    shared: list[str] = ["x" * 3]
    assert identity([shared, shared]) == identity([["xxx"], ["xxx"]])
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert identity(deep) is None
    assert identity({"a": object()}) is None
