"""What is compared: ours, and llguidance's own JSON Schema compiler."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from llguidance import LLMatcher

from provider.protocol.schema import Constraint, SchemaRefused, compile
from provider.protocol.schema.constraint import COMPACT


class Refused(Exception):
    """The engine does not take the schema; the argument says why, in a word or two."""


def ours(schema: Any) -> Constraint:
    try:
        return compile(schema)
    except SchemaRefused as refused:
        raise Refused(refused.keyword or refused.reason) from refused


def llguidance_alone(schema: Any) -> str:
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    text = json.dumps({**schema, "x-guidance": COMPACT})
    grammar = LLMatcher.grammar_from_json_schema(text)
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        raise Refused(messages[0].splitlines()[0][:60])
    return grammar


ENGINES: dict[str, Callable[[Any], str | Constraint]] = {
    "ours": ours,
    "llguidance": llguidance_alone,
}
