"""What each keyword of a subschema means, as a formula.

Unknown keywords are annotations, as the specification has it (OpenAPI's `nullable` too: with it,
OpenAI never writes null either); so are `format` names that it does not define, and
`contentEncoding` and its kin. `dependencies`, `definitions`, array-valued `items`
and Boolean `exclusiveMinimum` keep their older meaning in every draft: who writes them means it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from provider.protocol.schema import check
from provider.protocol.schema.document import Place
from provider.protocol.schema.formula import FALSE, TRUE, Formula, every, is_, negate, node, some
from provider.protocol.schema.keywords_array import ARRAY, arrays
from provider.protocol.schema.keywords_object import OBJECT, object_parts
from provider.protocol.schema.keywords_scalar import NUMBER, STRING, numbers, strings
from provider.protocol.schema.objects import Objects
from provider.protocol.schema.refused import Malformed
from provider.protocol.schema.regular import algebra
from provider.protocol.schema.shape import ANYTHING, TYPES, Shape, constants, only_objects
from provider.protocol.schema.unevaluated import unevaluated
from provider.protocol.schema.values import Values

_VALUES = frozenset({"type", "enum", "const"})
_ASSERTIONS = _VALUES | NUMBER | STRING | ARRAY | OBJECT


def read(values: Values, address: int) -> Formula:
    """The formula of the subschema at an address. Raises `SchemaRefused`."""
    place = values.document.place(address)
    schema = place.schema
    if isinstance(schema, bool):
        return TRUE if schema else FALSE
    if not isinstance(schema, dict):
        raise Malformed("", place.pointer, "a schema must be an object or a boolean.")
    if "$ref" in schema and place.draft <= 7:
        return node(values.document.resolve(place, schema["$ref"]))
    parts: list[Formula] = []
    asserted = False
    for keyword in schema:
        if keyword in _ASSERTIONS:
            if not asserted:
                asserted = True
                parts += _assertions(values, place)
        elif keyword in _APPLICATORS:
            parts.append(_APPLICATORS[keyword](values, place))
    if "unevaluatedProperties" in schema or "unevaluatedItems" in schema:
        parts.append(unevaluated(values, place))
    return every(*parts)


def _assertions(values: Values, place: Place) -> list[Formula]:
    """The keywords that look at the value itself, type by type, and what they cannot say alone."""
    schema = place.schema
    keywords = schema.keys()
    allowed = _types(place)
    parts: list[Formula] = []
    said: dict[str, Any] = {}
    if keywords & NUMBER:
        said["numbers"] = numbers(place)
    if keywords & STRING:
        said["strings"] = strings(place)
    if keywords & ARRAY:
        said["arrays"] = arrays(values, place)
    if keywords & OBJECT:
        said["objects"], more = object_parts(values, place)
        parts += more
    shape = _within(allowed, said)
    for keyword in ("enum", "const"):
        if keyword in schema:
            shape = shape.intersect(_constants(place, keyword))
    return [is_(shape), *parts]


def _within(allowed: Shape, said: dict[str, Any]) -> Shape:
    """The values of the types, as far as the keywords of each type let them."""
    if not said:
        return allowed
    kept = {
        kind: value
        for kind, value in said.items()
        if (old := getattr(allowed, kind)) != algebra.EMPTY and old != ()
    }
    whole = allowed.numbers if "numbers" in kept else ANYTHING.numbers
    if whole != ANYTHING.numbers:
        kept["numbers"] = Shape(numbers=whole).intersect(Shape(numbers=kept["numbers"])).numbers
    return replace(allowed, **kept)


def _types(place: Place) -> Shape:
    names = place.schema.get("type")
    if names is None:
        return ANYTHING
    listed = names if isinstance(names, list) else [names]
    for name in listed:
        if not isinstance(name, str) or name not in TYPES:
            raise Malformed(
                "type",
                place.pointer,
                f"{check.shown(name)} is not one of {', '.join(TYPES)}.",
            )
    return _of_types(tuple(listed))


@lru_cache(maxsize=256)
def _of_types(names: tuple[str, ...]) -> Shape:
    found = Shape()
    for name in names:
        found = found.union(TYPES[name])
    return found


def _constants(place: Place, keyword: str) -> Shape:
    value = place.schema[keyword]
    if keyword == "const":
        return constants([value])
    if not isinstance(value, list):
        raise Malformed("enum", place.pointer, "it must be an array.")
    return constants(value)


def _list_of_schemas(values: Values, place: Place, keyword: str) -> list[Formula]:
    listed = place.schema[keyword]
    if not isinstance(listed, list) or not listed:
        raise Malformed(keyword, place.pointer, "it must be a non-empty array of schemas.")
    return [node(values.document.child(place, keyword, at)) for at in range(len(listed))]


def _all_of(values: Values, place: Place) -> Formula:
    return every(*_list_of_schemas(values, place, "allOf"))


def _any_of(values: Values, place: Place) -> Formula:
    return some(*_list_of_schemas(values, place, "anyOf"))


def _one_of(values: Values, place: Place) -> Formula:
    return values.exactly_one(_list_of_schemas(values, place, "oneOf"))


def _not(values: Values, place: Place) -> Formula:
    return negate(node(values.document.child(place, "not")))


def _if(values: Values, place: Place) -> Formula:
    schema = place.schema
    condition = node(values.document.child(place, "if"))
    then, otherwise = (
        node(values.document.child(place, keyword)) if keyword in schema else TRUE
        for keyword in ("then", "else")
    )
    if then == TRUE and otherwise == TRUE:
        return TRUE
    return some(every(condition, then), every(negate(condition), otherwise))


def _ref(values: Values, place: Place) -> Formula:
    return node(values.document.resolve(place, place.schema["$ref"]))


def _dynamic(keyword: str) -> Callable[[Values, Place], Formula]:
    def apply(values: Values, place: Place) -> Formula:
        return node(values.document.dynamic(place, place.schema[keyword], keyword))

    return apply


def _dependent(keyword: str) -> Callable[[Values, Place], Formula]:
    """`dependentRequired`, `dependentSchemas`, `dependencies`: absent, or the rest holds."""

    def apply(values: Values, place: Place) -> Formula:
        table = check.mapping(place, keyword)
        parts = []
        for name, consequence in table.items():
            absent = is_(only_objects(Objects(named=((name, FALSE),))))
            if isinstance(consequence, list):
                if not all(isinstance(n, str) for n in consequence):
                    raise Malformed(keyword, place.pointer, f"'{name}' must list property names.")
                needed = tuple(dict.fromkeys(consequence))
                then = is_(only_objects(Objects(required=needed)))
            elif isinstance(consequence, str):  # draft 3
                then = is_(only_objects(Objects(required=(consequence,))))
            else:
                then = node(values.document.child(place, keyword, name))
            present = is_(only_objects(Objects(required=(name,))))
            parts.append(some(absent, every(present, then)))
        return every(*parts)

    return apply


_APPLICATORS: dict[str, Callable[[Values, Place], Any]] = {
    "$ref": _ref,
    "$dynamicRef": _dynamic("$dynamicRef"),
    "$recursiveRef": _dynamic("$recursiveRef"),
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "dependentRequired": _dependent("dependentRequired"),
    "dependentSchemas": _dependent("dependentSchemas"),
    "dependencies": _dependent("dependencies"),
}
