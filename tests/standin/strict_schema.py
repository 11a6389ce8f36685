"""The subset of JSON Schema that OpenAI takes with `strict: true`, in its own words.

Source: https://platform.openai.com/docs/guides/structured-outputs (supported schemas). Written
apart from `provider.protocol.schema` on purpose: a judge must not share code with the judged.
"""

from __future__ import annotations

from typing import Any

from tests.standin.errors import Refusal

_FORBIDDEN = (
    "allOf",
    "not",
    "oneOf",
    "dependentRequired",
    "dependentSchemas",
    "if",
    "then",
    "else",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "prefixItems",
    "minLength",
    "maxLength",
    "default",
)
_TYPES = ("string", "number", "boolean", "integer", "object", "array", "null")
_FORMATS = (
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
)
_MOST_PROPERTIES, _MOST_LEVELS, _MOST_ENUM, _MOST_TEXT = 5000, 10, 1000, 120_000


class _Violation(Exception):
    def __init__(self, context: tuple[str, ...], what: str) -> None:
        super().__init__(what)
        shown = ", ".join(repr(step) for step in context)
        self.text = f"In context=({shown}{',' if len(context) == 1 else ''}), {what}"


def check_strict(
    schema: Any, owner: str, *, strict: bool, param: str, code: str | None = None
) -> None:
    """Refuse a schema that OpenAI refuses; `owner` is `response_format 'x'` or `function 'x'`.

    Without `strict` only what is no schema at all is refused: a root that is not an object.
    """
    if schema is None:
        if strict:
            raise Refusal(
                f"Invalid schema for {owner}: schema must be provided.", param=param, code=code
            )
        return
    try:
        _root(schema)
        if strict:
            _Walk(schema).run()
    except _Violation as violation:
        raise Refusal(
            f"Invalid schema for {owner}: {violation.text}", param=param, code=code
        ) from violation


def _root(schema: Any) -> None:
    kind = schema.get("type", "None") if isinstance(schema, dict) else "None"
    if "$ref" in schema and "type" not in schema:
        return
    if kind != "object":
        raise _Violation(
            (), f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
        )


class _Walk:
    """One walk over a schema, counting what OpenAI limits."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.properties = 0
        self.enums = 0
        self.text = 0

    def run(self) -> None:
        if "anyOf" in self.schema:
            raise _Violation((), "'anyOf' is not permitted at the root.")
        self.visit(self.schema, (), 1)
        for limit, counted, what in (
            (_MOST_PROPERTIES, self.properties, "object properties"),
            (_MOST_ENUM, self.enums, "enum values"),
            (_MOST_TEXT, self.text, "characters of names and values"),
        ):
            if counted > limit:
                raise _Violation((), f"schema has {counted} {what}, the limit is {limit}.")

    def visit(self, node: Any, context: tuple[str, ...], level: int) -> None:
        if not isinstance(node, dict):
            raise _Violation(context, "schema must be an object, not a boolean or other value.")
        if level > _MOST_LEVELS + 1:
            raise _Violation(context, f"schema exceeds the limit of {_MOST_LEVELS} levels.")
        for keyword in _FORBIDDEN:
            if keyword in node:
                raise _Violation(context, f"'{keyword}' is not permitted.")
        for name, member in {**node.get("$defs", {}), **node.get("definitions", {})}.items():
            self.visit(member, (*context, "$defs", name), 1)
        if "$ref" in node:
            return self.reference(node, context)
        if "anyOf" in node:
            for index, member in enumerate(node["anyOf"]):
                self.visit(member, (*context, "anyOf", str(index)), level)
            return None
        self.values(node, context)
        self.kinds(node, context, level)
        return None

    def reference(self, node: dict[str, Any], context: tuple[str, ...]) -> None:
        target: Any = self.schema
        for step in node["$ref"].removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or step not in target:
                raise _Violation(context, f"reference to '{node['$ref']}' cannot be resolved.")
            target = target[step]
        if extra := set(node) - {"$ref", "description", "$defs", "definitions", "title"}:
            raise _Violation(context, f"$ref cannot have keywords {sorted(extra)}.")

    def values(self, node: dict[str, Any], context: tuple[str, ...]) -> None:
        enum = node.get("enum", [])
        self.enums += len(enum)
        self.text += sum(
            len(value) for value in [*enum, node.get("const")] if isinstance(value, str)
        )
        if "type" not in node and not enum and "const" not in node:
            raise _Violation(context, "schema must have a 'type' key.")
        if "format" in node and node["format"] not in _FORMATS:
            raise _Violation(context, f"'{node['format']}' is not a valid format.")

    def kinds(self, node: dict[str, Any], context: tuple[str, ...], level: int) -> None:
        named = node.get("type", [])
        kinds = named if isinstance(named, list) else [named]
        for kind in kinds:
            if kind not in _TYPES:
                raise _Violation(context, f"'{kind}' is not a valid type.")
        if "object" in kinds:
            self.object(node, context, level)
        if "array" in kinds:
            if "items" not in node:
                raise _Violation(context, "array schema missing items.")
            self.visit(node["items"], (*context, "items"), level + 1)

    def object(self, node: dict[str, Any], context: tuple[str, ...], level: int) -> None:
        if node.get("additionalProperties", True) is not False:
            raise _Violation(
                context, "'additionalProperties' is required to be supplied and to be false."
            )
        properties = node.get("properties", {})
        required = node.get("required")
        needed = (
            "'required' is required to be supplied and to be an array including every key in "
            "properties."
        )
        for name in properties:
            if name not in (required or ()):
                raise _Violation(context, f"{needed} Missing '{name}'.")
        for name in required or ():
            if name not in properties:
                raise _Violation(context, f"{needed} Extra required key '{name}' supplied.")
        self.properties += len(properties)
        self.text += sum(map(len, properties))
        for name, member in properties.items():
            self.visit(member, (*context, "properties", name), level + 1)
