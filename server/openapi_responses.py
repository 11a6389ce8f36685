"""The Responses API in the OpenAPI document: shapes as far as every side has them.

What the local side honours of a request is in docs/compatibility.md; the hosted side's is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from server import paths

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_ITEMS: Schema = {"type": "array", "items": {"type": "object"}}

SCHEMAS: dict[str, Schema] = {
    "ResponseRequest": {
        "type": "object",
        "required": ["model", "input"],
        "properties": {
            "model": {"type": "string", "minLength": 1},
            "input": {"anyOf": [{"type": "string", "minLength": 1}, {**_ITEMS, "minItems": 1}]},
            "instructions": {"type": ["string", "null"]},
            "max_output_tokens": {"type": ["integer", "null"], "minimum": 16},
            "previous_response_id": {"type": ["string", "null"]},
            "store": {"type": ["boolean", "null"]},
            "stream": {"type": ["boolean", "null"]},
            "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
            "text": {"type": ["object", "null"]},
            "tools": {"anyOf": [_ITEMS, {"type": "null"}]},
            "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        },
    },
    "Response": {
        "type": "object",
        "required": ["id", "object", "created_at", "status", "model", "output"],
        "properties": {
            "id": _TEXT,
            "object": {"const": "response"},
            "created_at": {"type": "number"},
            "status": _TEXT,
            "model": _TEXT,
            "output": _ITEMS,
        },
    },
    "ResponseItemList": {
        "type": "object",
        "required": ["object", "data", "has_more"],
        "properties": {
            "object": {"const": "list"},
            "data": _ITEMS,
            "has_more": {"type": "boolean"},
        },
    },
    "ResponseDeleted": {
        "type": "object",
        "required": ["id", "deleted"],
        "properties": {"id": _TEXT, "deleted": {"const": True}},
    },
    "InputTokens": {
        "type": "object",
        "required": ["object", "input_tokens"],
        "properties": {
            "object": {"const": "response.input_tokens"},
            "input_tokens": {"type": "integer", "minimum": 0},
        },
    },
}


def operations(operation: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Paths and their operations; `operation` makes one of its name, its answer's schema and its
    body's."""
    create = operation("createResponse", "Response", "ResponseRequest")
    create["responses"]["200"]["content"]["text/event-stream"] = {"schema": _TEXT}
    one = f"{paths.RESPONSES}/{{id}}"
    return {
        paths.RESPONSES: {"post": create},
        f"{paths.RESPONSES}/input_tokens": {
            "post": operation("countInputTokens", "InputTokens", "ResponseRequest")
        },
        one: {
            "get": _of_one(operation("retrieveResponse", "Response")),
            "delete": _of_one(operation("deleteResponse", "ResponseDeleted")),
        },
        f"{one}/cancel": {"post": _of_one(operation("cancelResponse", "Response"))},
        f"{one}/input_items": {"get": _of_one(operation("listInputItems", "ResponseItemList"))},
    }


def _of_one(operation: dict[str, Any]) -> dict[str, Any]:
    operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]
    return operation
