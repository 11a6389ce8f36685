"""Keywords of numbers and strings."""

from __future__ import annotations

from provider.protocol.schema import check
from provider.protocol.schema.document import Place
from provider.protocol.schema.limits import MAX_PATTERN, MAX_REQUIRED_LENGTH
from provider.protocol.schema.numbers import Numbers, exact
from provider.protocol.schema.refused import Malformed, SchemaRefused
from provider.protocol.schema.regular import algebra, formats
from provider.protocol.schema.regular.algebra import Re
from provider.protocol.schema.regular.ecma import PatternRefused, search

NUMBER = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
STRING = frozenset({"minLength", "maxLength", "pattern", "format"})


def numbers(place: Place) -> tuple[Numbers, ...]:
    found: Numbers | None = Numbers()
    for keyword, open_keyword in (
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
    ):
        bound = check.number(place, keyword)
        exclusive = place.schema.get(open_keyword)
        if bound is not None:
            found = _narrow(found, keyword, bound, open_=exclusive is True)
        if exclusive is not None and not isinstance(exclusive, bool):
            bound = check.number(place, open_keyword)
            found = _narrow(found, keyword, bound or 0, open_=True)
    step = check.number(place, "multipleOf")
    if step is not None:
        if step <= 0:
            raise Malformed("multipleOf", place.pointer, "it must be greater than 0.")
        found = found and found.intersect(Numbers(multiple=exact(step)))
    return () if found is None else (found,)


def _narrow(found: Numbers | None, keyword: str, bound: int | float, open_: bool) -> Numbers | None:
    if found is None:
        return None
    if keyword == "minimum":
        return found.intersect(Numbers(low=exact(bound), low_open=open_))
    return found.intersect(Numbers(high=exact(bound), high_open=open_))


def strings(place: Place) -> Re:
    low, high = check.count(place, "minLength") or 0, check.count(place, "maxLength")
    if low > MAX_REQUIRED_LENGTH:
        raise SchemaRefused(
            "minLength", place.pointer, f"no answer is that long (at most {MAX_REQUIRED_LENGTH})."
        )
    parts = []
    if high is not None and low > high:
        return algebra.EMPTY
    if low or high is not None:
        parts.append(algebra.repeat(algebra.ANY, low, high))
    if "pattern" in place.schema:
        parts.append(pattern(place, place.schema["pattern"], "pattern"))
    if "format" in place.schema:
        parts.append(_format(place))
    return algebra.both(*parts) if parts else algebra.ALL


def pattern(place: Place, text: object, keyword: str) -> Re:
    if not isinstance(text, str):
        raise Malformed(keyword, place.pointer, f"{check.shown(text)} is not a string.")
    if len(text) > MAX_PATTERN:
        raise SchemaRefused(
            keyword, place.pointer, f"the pattern is longer than {MAX_PATTERN} characters."
        )
    try:
        return search(text)
    except PatternRefused as why:
        raise SchemaRefused(
            keyword,
            place.pointer,
            f"the pattern {check.shown(text)} cannot be enforced: {why}.",
            mend="Rewrite it with classes, groups and repetition, anchored by '^' and '$'.",
        ) from why


def _format(place: Place) -> Re:
    name = place.schema["format"]
    if not isinstance(name, str):
        raise Malformed("format", place.pointer, f"{check.shown(name)} is not a string.")
    if name in formats.UNENFORCEABLE:
        raise SchemaRefused(
            "format",
            place.pointer,
            f"the format '{name}' cannot be enforced by a grammar.",
            mend="Remove it and say it in 'description'.",
        )
    return formats.language(name) or algebra.ALL
