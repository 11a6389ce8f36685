"""The subset of JSON Schema that OpenAI takes with `strict: true`, in its own words.

Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas (2026). The
wording of refusals is that of the API's answers, because clients and people match on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from provider.protocol.schema.findings import Finding

MAX_PROPERTIES = 5_000
MAX_LEVELS = 10
MAX_ENUM_VALUES = 1_000
MAX_TEXT = 120_000
LARGE_ENUM = 250
MAX_LARGE_ENUM_TEXT = 15_000
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
_TYPES = frozenset({"string", "number", "boolean", "integer", "object", "array", "null"})

_FORBIDDEN: Mapping[str, str] = {
    "allOf": "Merge the parts into one schema.",
    "oneOf": "Use 'anyOf'.",
    "not": "Say it in 'description' and check it in the app.",
    "if": "Use 'anyOf' with one object per case.",
    "then": "Use 'anyOf' with one object per case.",
    "else": "Use 'anyOf' with one object per case.",
    "dependentRequired": "Use 'anyOf' with one object per case.",
    "dependentSchemas": "Use 'anyOf' with one object per case.",
    "dependencies": "Use 'anyOf' with one object per case.",
    "patternProperties": "Use an array of objects with a name and a value.",
    "propertyNames": "Use an array of objects with a name and a value.",
    "unevaluatedProperties": "Use 'additionalProperties': false in each object.",
    "unevaluatedItems": "Use 'items'.",
    "minProperties": "Name the properties in 'properties'.",
    "maxProperties": "Name the properties in 'properties'.",
    "prefixItems": "Use an object with one property per place.",
    "additionalItems": "Use 'items'.",
    "contains": "Say it in 'description' and check it in the app.",
    "minContains": "Say it in 'description' and check it in the app.",
    "maxContains": "Say it in 'description' and check it in the app.",
    "uniqueItems": "Say it in 'description' and check it in the app.",
    "minLength": "Use 'pattern', such as '^.{1,}$'.",
    "maxLength": "Use 'pattern', such as '^.{0,100}$'.",
    "default": "Make it required and nullable, and fill it in the app.",
    "$dynamicRef": "Use '$ref'.",
    "$recursiveRef": "Use '$ref'.",
}
_BESIDE_REF = frozenset({"$ref", "title", "description", "$defs", "definitions", "$comment"})


def name_findings(name: Any) -> list[Finding]:
    """What OpenAI says about `response_format.json_schema.name`."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return []
    message = (
        "Invalid 'response_format.json_schema.name': string does not match pattern. Expected a "
        "string that matches the pattern '^[a-zA-Z0-9_-]+$', of at most 64 characters."
    )
    return [Finding("name", "", "openai", message, "Use letters, digits, '_' and '-'.")]


def openai_strict_findings(schema: Any) -> list[Finding]:
    """Why OpenAI refuses this schema with `strict: true`; empty when it takes it.

    Messages are those of the API without their head, which is
    `Invalid schema for response_format 'NAME': `.
    """
    walk = _Walk(schema)
    return [*walk.root(), *walk.visit(schema, (), 1), *walk.totals()]


class _Walk:
    """One walk over a schema, counting what OpenAI limits."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.properties = 0
        self.enum_values = 0
        self.text = 0

    def root(self) -> Iterator[Finding]:
        schema = self.schema if isinstance(self.schema, dict) else {}
        kind = schema.get("type", "None")
        if "anyOf" in schema:
            yield _finding(
                "anyOf",
                (),
                "'anyOf' is not permitted at the root.",
                "Put it into a property of a root object.",
            )
        elif kind != "object" and "$ref" not in schema:
            yield Finding(
                "type",
                "",
                "openai",
                f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'.",
                "Put it into a property of a root object.",
            )

    def totals(self) -> Iterator[Finding]:
        for keyword, counted, most, what in (
            ("properties", self.properties, MAX_PROPERTIES, "object properties"),
            ("enum", self.enum_values, MAX_ENUM_VALUES, "enum values"),
            ("properties", self.text, MAX_TEXT, "characters of names, enum and const values"),
        ):
            if counted > most:
                yield Finding(
                    keyword,
                    "",
                    "openai",
                    f"Expected at most {most} {what} in total within a single schema when using "
                    f"structured outputs, but received {counted}.",
                    "Split the schema, or use strings where values are many.",
                )

    def visit(self, schema: Any, at: tuple[str, ...], level: int) -> Iterator[Finding]:
        if not isinstance(schema, dict):
            yield _finding("", at, "schema must be an object.", "Spell the schema out.")
            return
        for keyword in schema:
            if mend := _FORBIDDEN.get(keyword):
                yield _finding(keyword, at, f"'{keyword}' is not permitted.", mend)
        for keyword in ("$defs", "definitions"):
            for name, inner in _mapping(schema.get(keyword)).items():
                self.text += len(name)
                yield from self.visit(inner, (*at, keyword, name), 1)
        if "$ref" in schema:
            yield from self._reference(schema, at)
            return
        for index, inner in enumerate(_list(schema.get("anyOf"))):
            yield from self.visit(inner, (*at, "anyOf", str(index)), level)
        yield from self._values(schema, at)
        kinds = schema.get("type", [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "object" in kinds:
            yield from self._object(schema, at, level)
        if "array" in kinds:
            yield from self._array(schema, at, level)

    def _reference(self, schema: dict[str, Any], at: tuple[str, ...]) -> Iterator[Finding]:
        if beside := schema.keys() - _BESIDE_REF:
            named = "{" + ", ".join(repr(k) for k in sorted(beside)) + "}"
            message = f"$ref cannot have keywords {named}."
            yield _finding("$ref", at, message, "Move them into the definition.")
        reference = schema["$ref"]
        if not isinstance(reference, str) or not reference.startswith("#"):
            message = f"reference to '{reference}' cannot be resolved."
            yield _finding("$ref", at, message, "Copy the definition into '$defs'.")

    def _values(self, schema: dict[str, Any], at: tuple[str, ...]) -> Iterator[Finding]:
        enum = _list(schema.get("enum"))
        texts = [v for v in (*enum, schema.get("const")) if isinstance(v, str)]
        self.enum_values += len(enum)
        self.text += sum(map(len, texts))
        if len(enum) > LARGE_ENUM and sum(map(len, texts)) > MAX_LARGE_ENUM_TEXT:
            message = (
                f"enum of more than {LARGE_ENUM} values cannot have more than "
                f"{MAX_LARGE_ENUM_TEXT} characters in total."
            )
            yield _finding("enum", at, message, "Use shorter values.")
        if not schema.keys() & {"type", "enum", "const", "anyOf"}:
            yield _finding("type", at, "schema must have a 'type' key.", "State the type.")
        kinds = schema.get("type", [])
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            if kind not in _TYPES:
                yield _finding("type", at, f"'{kind}' is not a valid type.", "Use a JSON type.")
        if "format" in schema and schema["format"] not in FORMATS:
            message = f"'{schema['format']}' is not a valid format."
            yield _finding("format", at, message, "Remove it and say it in 'description'.")

    def _object(self, schema: dict[str, Any], at: tuple[str, ...], level: int) -> Iterator[Finding]:
        if level > MAX_LEVELS:
            message = f"schema exceeds the maximum nesting depth of {MAX_LEVELS}."
            yield _finding("properties", at, message, "Flatten the schema.")
        if schema.get("additionalProperties") is not False:
            yield _finding(
                "additionalProperties",
                at,
                "'additionalProperties' is required to be supplied and to be false.",
                'Add "additionalProperties": false.',
            )
        properties = _mapping(schema.get("properties"))
        yield from _required(schema, properties, at)
        self.properties += len(properties)
        self.text += sum(map(len, properties))
        for name, inner in properties.items():
            yield from self.visit(inner, (*at, "properties", name), level + 1)

    def _array(self, schema: dict[str, Any], at: tuple[str, ...], level: int) -> Iterator[Finding]:
        if "items" not in schema:
            yield _finding("items", at, "array schema missing items.", "Add 'items'.")
        else:
            yield from self.visit(schema["items"], (*at, "items"), level)


def _required(
    schema: dict[str, Any], properties: Mapping[str, Any], at: tuple[str, ...]
) -> Iterator[Finding]:
    needed = (
        "'required' is required to be supplied and to be an array including every key in "
        "properties."
    )
    listed = _list(schema.get("required"))
    for name in properties:
        if name not in listed:
            yield _finding(
                "required",
                at,
                f"{needed} Missing '{name}'.",
                f"Add '{name}' to 'required', and \"null\" to its type where it may be left out.",
            )
    for name in listed:
        if name not in properties:
            message = f"{needed} Extra required key '{name}' supplied."
            yield _finding("required", at, message, f"Describe '{name}' in 'properties'.")


def _finding(keyword: str, at: tuple[str, ...], message: str, mend: str) -> Finding:
    pointer = "".join("/" + s.replace("~", "~0").replace("/", "~1") for s in at)
    return Finding(keyword, pointer, "openai", f"In context={at!r}, {message}", mend)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
