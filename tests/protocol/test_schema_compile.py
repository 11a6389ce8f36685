"""The public face: a schema, a regex, a grammar become constraints; the rest is refused."""

from __future__ import annotations

import pytest

from provider.protocol.schema import SchemaRefused, compile


def test_equal_schemas_share_a_constraint() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert compile(schema) is compile(dict(schema))


def test_a_refusal_is_a_client_error_that_names_the_parameter() -> None:
    with pytest.raises(SchemaRefused) as caught:
        compile({"type": "array", "contains": 3})
    assert caught.value.status == 400
    assert caught.value.param == "response_format.json_schema.schema"
    assert caught.value.code == "invalid_json_schema"
