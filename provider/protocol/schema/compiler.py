"""Sources of constraints: a JSON Schema, any JSON object, a regular expression, a Lark grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from provider.protocol.schema.constraint import COMPACT, Constraint, canonical, digest
from provider.protocol.schema.refused import SchemaRefused


def compile(schema: Mapping[str, Any] | bool, *, strict: bool = False) -> Constraint:
    """The constraint under which only valid instances of `schema` can be written."""
    return _compile(canonical(schema))


def any_object() -> Constraint:
    """Any JSON object (OpenAI's `json_object` mode)."""
    return compile({"type": "object"})


def regex(pattern: str) -> Constraint:
    """Text that matches `pattern` as a whole (Rust `regex` syntax, no lookaround)."""
    from llguidance import LLMatcher

    return _checked(LLMatcher.grammar_from_regex(pattern), digest("regex", pattern))


def lark(text: str, schemas: Mapping[str, Mapping[str, Any] | bool] | None = None) -> Constraint:
    """A Lark grammar (llguidance's dialect); `schemas` become rules of the given names."""
    rules = "".join(
        f"\n{name}: %json {json.dumps(_guided(schema), ensure_ascii=False)}"
        for name, schema in (schemas or {}).items()
    )
    return _checked(text + rules, digest("lark", text + rules))


@lru_cache(maxsize=256)
def _compile(text: str) -> Constraint:
    from llguidance import LLMatcher

    grammar = LLMatcher.grammar_from_json_schema(_guided(json.loads(text)))
    return _checked(grammar, digest("json", text))


def _guided(schema: Any) -> dict[str, Any]:
    body = schema if isinstance(schema, Mapping) else ({} if schema else {"not": {}})
    return {**body, "x-guidance": COMPACT}


def _checked(grammar: str, key: str) -> Constraint:
    from llguidance import LLMatcher

    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        raise SchemaRefused("", "", messages[0])
    return Constraint(grammar, key)
