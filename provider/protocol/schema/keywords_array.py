"""Keywords of arrays."""

from __future__ import annotations

from provider.protocol.schema import check
from provider.protocol.schema.arrays import Arrays, Count
from provider.protocol.schema.document import Place
from provider.protocol.schema.formula import TRUE, Formula, node
from provider.protocol.schema.limits import MAX_REQUIRED_ITEMS
from provider.protocol.schema.refused import Malformed, SchemaRefused
from provider.protocol.schema.values import Values

ARRAY = frozenset(
    {"items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"}
    | {"contains", "minContains", "maxContains"}
)


def arrays(values: Values, place: Place) -> tuple[Arrays, ...]:
    low = check.count(place, "minItems") or 0
    if low > MAX_REQUIRED_ITEMS:
        raise SchemaRefused(
            "minItems", place.pointer, f"no answer has that many (at most {MAX_REQUIRED_ITEMS})."
        )
    prefix, rest = _items(values, place)
    unique = place.schema.get("uniqueItems", False)
    if not isinstance(unique, bool):
        raise Malformed("uniqueItems", place.pointer, "it must be true or false.")
    high = check.count(place, "maxItems")
    found = Arrays(prefix, rest, low, high, _contains(values, place), unique).normal()
    return () if found is None else (found,)


def _items(values: Values, place: Place) -> tuple[tuple[Formula, ...], Formula]:
    schema = place.schema
    listed = "prefixItems" if "prefixItems" in schema else "items"
    if isinstance(schema.get(listed), list):
        prefix = tuple(
            node(values.document.child(place, listed, at)) for at in range(len(schema[listed]))
        )
        more = "items" if listed == "prefixItems" else "additionalItems"
    else:
        prefix, more = (), "items"
    if more not in schema:
        return prefix, TRUE
    if not isinstance(schema[more], (dict, bool)):
        raise Malformed(more, place.pointer, "it must be a schema.")
    return prefix, node(values.document.child(place, more))


def _contains(values: Values, place: Place) -> tuple[Count, ...]:
    if "contains" not in place.schema:
        return ()
    low, high = 1, None
    if place.draft >= 2019:
        least = check.count(place, "minContains")
        low = 1 if least is None else least
        high = check.count(place, "maxContains")
    if low == 0 and high is None:
        return ()
    return (Count(node(values.document.child(place, "contains")), low, high),)
