"""`unevaluatedProperties` and `unevaluatedItems`.

What a schema evaluates depends on which of its alternatives hold. So the alternatives that matter
are spelt out: for each way in which they can hold or not, the rest of the object or array must be
valid under the keyword's schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from provider.protocol.schema import check
from provider.protocol.schema.arrays import Arrays
from provider.protocol.schema.document import Place
from provider.protocol.schema.formula import FALSE, TRUE, Formula, every, is_, negate, node, some
from provider.protocol.schema.keywords_scalar import pattern
from provider.protocol.schema.objects import Objects, partition
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.regular import algebra
from provider.protocol.schema.regular.algebra import Re
from provider.protocol.schema.shape import only_arrays, only_objects
from provider.protocol.schema.values import Values

_CONDITIONS = 6


@dataclass(frozen=True, slots=True)
class _Seen:
    """When `condition` holds, these are evaluated: members of `names`, the first `items` items
    (None: all of them), items in `kind`."""

    condition: Formula = TRUE
    names: Re = algebra.EMPTY
    items: int | None = 0
    kind: Formula = FALSE


def unevaluated(values: Values, place: Place) -> Formula:
    """What the two keywords of this subschema demand."""
    seen = list(_seen(values, place, set(), outermost=True))
    parts = []
    if "unevaluatedProperties" in place.schema:
        rest = _rest(values, place, "unevaluatedProperties")
        relevant = [s for s in seen if s.names != algebra.EMPTY]
        parts.append(_cases(place, "unevaluatedProperties", relevant, rest))
    if "unevaluatedItems" in place.schema:
        rest = _rest(values, place, "unevaluatedItems")
        relevant = [s for s in seen if s.items != 0 or s.kind != FALSE]
        parts.append(_cases(place, "unevaluatedItems", relevant, rest))
    return every(*parts)


def _rest(values: Values, place: Place, keyword: str) -> Formula:
    value = place.schema[keyword]
    if isinstance(value, bool):
        return TRUE if value else FALSE
    return node(values.document.child(place, keyword))


def _cases(place: Place, keyword: str, seen: list[_Seen], rest: Formula) -> Formula:
    """For every way in which the conditions can hold: what is left is in `rest`."""
    if rest == TRUE:
        return TRUE
    conditions = list(dict.fromkeys(s.condition for s in seen if s.condition != TRUE))
    if len(conditions) > _CONDITIONS:
        raise SchemaRefused(
            keyword,
            place.pointer,
            f"it depends on more than {_CONDITIONS} alternatives.",
            mend="Use 'additionalProperties' in each alternative.",
        )
    cases = []
    for held in product((True, False), repeat=len(conditions)):
        true = {TRUE, *(c for c, h in zip(conditions, held, strict=True) if h)}
        assumed = [c if h else negate(c) for c, h in zip(conditions, held, strict=True)]
        now = [s for s in seen if s.condition in true]
        demand = _properties(now, rest) if keyword == "unevaluatedProperties" else _items(now, rest)
        cases.append(every(*assumed, demand))
    return some(*cases)


def _properties(seen: list[_Seen], rest: Formula) -> Formula:
    names = algebra.alt(*(s.names for s in seen))
    if names == algebra.ALL:
        return TRUE
    return is_(only_objects(Objects(rest=partition([(names, TRUE)], rest))))


def _items(seen: list[_Seen], rest: Formula) -> Formula:
    if any(s.items is None for s in seen):
        return TRUE
    first = max((s.items or 0 for s in seen), default=0)
    found = Arrays((TRUE,) * first, some(rest, *(s.kind for s in seen))).normal()
    return FALSE if found is None else is_(only_arrays(found))


def _seen(values: Values, place: Place, met: set[int], outermost: bool) -> Iterator[_Seen]:
    schema = place.schema
    if not isinstance(schema, dict) or id(schema) in met:
        return
    met = met | {id(schema)}
    yield _own(values, place, outermost)
    if "$ref" in schema:
        target = values.document.resolve(place, schema["$ref"])
        yield from _seen(values, values.document.place(target), met, False)
    if "$dynamicRef" in schema or "$recursiveRef" in schema:
        keyword = "$dynamicRef" if "$dynamicRef" in schema else "$recursiveRef"
        target = values.document.dynamic(place, schema[keyword], keyword)
        yield from _seen(values, values.document.place(target), met, False)
    for keyword in ("allOf", "anyOf", "oneOf"):
        for at in range(len(schema.get(keyword, ()))):
            child = values.document.child(place, keyword, at)
            condition = TRUE if keyword == "allOf" else node(child)
            yield from _under(values, child, condition, met)
    if "if" in schema:
        holds = values.document.child(place, "if")
        yield from _under(values, holds, node(holds), met)
        for keyword, condition in (("then", node(holds)), ("else", negate(node(holds)))):
            if keyword in schema:
                child = values.document.child(place, keyword)
                yield from _under(values, child, condition, met)
    for name in schema.get("dependentSchemas", ()):
        child = values.document.child(place, "dependentSchemas", name)
        present = is_(only_objects(Objects(required=(name,))))
        yield from _under(values, child, present, met)


def _under(values: Values, address: int, condition: Formula, met: set[int]) -> Iterator[_Seen]:
    for seen in _seen(values, values.document.place(address), met, False):
        yield replace(seen, condition=every(condition, seen.condition))


def _own(values: Values, place: Place, outermost: bool) -> _Seen:
    """What the subschema's own keywords evaluate."""
    schema = place.schema
    names = [algebra.literals(check.mapping(place, "properties"))]
    names += [
        pattern(place, p, "patternProperties") for p in check.mapping(place, "patternProperties")
    ]
    if "additionalProperties" in schema or (not outermost and "unevaluatedProperties" in schema):
        names = [algebra.ALL]
    items: int | None = 0
    for keyword in ("prefixItems", "items"):
        if isinstance(schema.get(keyword), list):
            items = len(schema[keyword])
    listed = isinstance(schema.get("items"), list)
    more = "additionalItems" if listed else "items"
    if more in schema or (not outermost and "unevaluatedItems" in schema):
        items = None
    kind = FALSE
    if "contains" in schema and place.draft >= 2020:
        kind = node(values.document.child(place, "contains"))
    return _Seen(TRUE, algebra.alt(*names), items, kind)
