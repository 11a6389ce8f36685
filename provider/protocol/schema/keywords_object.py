"""Keywords of objects."""

from __future__ import annotations

from provider.protocol.schema import check
from provider.protocol.schema.document import Place
from provider.protocol.schema.formula import FALSE, TRUE, Formula, every, is_, node
from provider.protocol.schema.keywords_scalar import pattern
from provider.protocol.schema.limits import MAX_REQUIRED_ITEMS
from provider.protocol.schema.objects import Objects, partition
from provider.protocol.schema.refused import Malformed, SchemaRefused
from provider.protocol.schema.regular import algebra
from provider.protocol.schema.regular.effort import TooComplex
from provider.protocol.schema.shape import only_objects
from provider.protocol.schema.values import Values

OBJECT = frozenset(
    {"properties", "patternProperties", "additionalProperties", "required"}
    | {"minProperties", "maxProperties", "propertyNames"}
)


def object_parts(values: Values, place: Place) -> tuple[tuple[Objects, ...], list[Formula]]:
    """The objects of the keywords, and what `propertyNames` adds."""
    low = check.count(place, "minProperties") or 0
    if low > MAX_REQUIRED_ITEMS:
        raise SchemaRefused(
            "minProperties",
            place.pointer,
            f"no answer has that many (at most {MAX_REQUIRED_ITEMS}).",
        )
    high = check.count(place, "maxProperties")
    additional = _schema(values, place, "additionalProperties")
    try:
        rest = partition(_patterns(values, place), additional)
    except TooComplex:
        raise SchemaRefused(
            "patternProperties", place.pointer, "its patterns overlap in too many ways."
        ) from None
    named = []
    for name in check.mapping(place, "properties"):
        value = node(values.document.child(place, "properties", name))
        extra = next((v for names, v in rest if algebra.matches(names, name)), TRUE)
        inherits = extra if rest[0][0] != algebra.ALL and _patterned(place, name) else TRUE
        named.append((name, every(value, inherits)))
    found = Objects(tuple(named), rest, check.names(place, "required"), low, high).normal()
    more = [_names(values, place)] if "propertyNames" in place.schema else []
    return (() if found is None else (found,)), more


def _patterned(place: Place, name: str) -> bool:
    """Whether a pattern applies to the name, so that `additionalProperties` does not."""
    return any(
        algebra.matches(pattern(place, p, "patternProperties"), name)
        for p in check.mapping(place, "patternProperties")
    )


def _patterns(values: Values, place: Place) -> list[tuple[algebra.Re, Formula]]:
    return [
        (
            pattern(place, text, "patternProperties"),
            node(values.document.child(place, "patternProperties", text)),
        )
        for text in check.mapping(place, "patternProperties")
    ]


def _schema(values: Values, place: Place, keyword: str) -> Formula:
    if keyword not in place.schema:
        return TRUE
    value = place.schema[keyword]
    if isinstance(value, bool):
        return TRUE if value else FALSE
    if not isinstance(value, dict):
        raise Malformed(keyword, place.pointer, f"{check.shown(value)} is not a schema.")
    return node(values.document.child(place, keyword))


def _names(values: Values, place: Place) -> Formula:
    """`propertyNames`: names outside of the language of its strings are forbidden."""
    allowed = values.shape(node(values.document.child(place, "propertyNames"))).strings
    if allowed == algebra.ALL:
        return TRUE
    rest = ((allowed, TRUE), (algebra.negate(allowed), FALSE))
    return is_(only_objects(Objects(rest=rest)))
