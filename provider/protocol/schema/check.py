"""Checks of a keyword's own value; each failure names keyword, place and what was expected."""

from __future__ import annotations

import json
from typing import Any

from provider.protocol.schema.document import Place
from provider.protocol.schema.refused import Malformed


def shown(value: Any) -> str:
    """A value as it stands in a message, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def mapping(place: Place, keyword: str) -> dict[str, Any]:
    value = place.schema.get(keyword, {})
    if not isinstance(value, dict):
        raise Malformed(keyword, place.pointer, f"it must be an object, not {shown(value)}.")
    return value


def count(place: Place, keyword: str) -> int | None:
    """A non-negative whole number (`3.0` counts as one), None when absent."""
    value = place.schema.get(keyword)
    if value is None and keyword not in place.schema:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value is None or value < 0:
        raise Malformed(
            keyword, place.pointer, f"it must be a non-negative integer, not {shown(value)}."
        )
    return int(value)


def number(place: Place, keyword: str) -> int | float | None:
    value = place.schema.get(keyword)
    if value is None and keyword not in place.schema:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Malformed(keyword, place.pointer, f"it must be a number, not {shown(value)}.")
    return value


def names(place: Place, keyword: str) -> tuple[str, ...]:
    value = place.schema.get(keyword, [])
    if not isinstance(value, list) or not all(isinstance(n, str) for n in value):
        raise Malformed(
            keyword,
            place.pointer,
            f"it must be an array of property names, not {shown(value)}.",
        )
    return tuple(dict.fromkeys(value))
