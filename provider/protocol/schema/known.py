"""The keywords of JSON Schema, drafts 4 to 2020-12, and where subschemas are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SCHEMA_VALUED = frozenset(
    {"additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items"}
    | {"not", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)
LIST_VALUED = frozenset({"allOf", "anyOf", "oneOf", "items", "prefixItems"})
MAP_VALUED = frozenset(
    {"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)
ANNOTATIONS = frozenset(
    {"$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary"}
    | {"$comment", "title", "description", "default", "deprecated", "readOnly", "writeOnly"}
    | {"examples", "example", "discriminator"}
)
KEYWORDS = SCHEMA_VALUED | LIST_VALUED | MAP_VALUED | frozenset(
    {"$ref", "$dynamicRef", "$recursiveRef", "type", "enum", "const", "multipleOf", "minimum"}
    | {"maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"}
    | {"format", "minItems", "maxItems", "uniqueItems", "minContains", "maxContains", "required"}
    | {"minProperties", "maxProperties", "dependentRequired"}
    | {"contentEncoding", "contentMediaType"}
)  # fmt: skip


def subschemas(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object schema with its JSON pointer, the outermost first."""
    stack: list[tuple[str, Any]] = [(path, schema)]
    while stack:
        at, inner = stack.pop()
        if not isinstance(inner, dict):
            continue
        yield at, inner
        found: list[tuple[str, Any]] = []
        for keyword, value in inner.items():
            here = f"{at}/{keyword}"
            if keyword in SCHEMA_VALUED and isinstance(value, dict):
                found.append((here, value))
            elif keyword in LIST_VALUED and isinstance(value, list):
                found += [(f"{here}/{n}", v) for n, v in enumerate(value)]
            elif keyword in MAP_VALUED and isinstance(value, dict):
                found += [(f"{here}/{_escape(n)}", v) for n, v in value.items()]
        stack += reversed(found)


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")
