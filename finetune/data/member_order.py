"""The order of members: a constrained model writes those of an object as its schema names them.

Followed through `properties`, `items`, local references and the one alternative to null; elsewhere
any order is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEPTH = 40


def disorder(value: Any, schema: Any, root: Mapping[str, Any]) -> str | None:
    """The path of the first object that is in another order; None where none is."""
    return _disorder(value, schema, root, "", 0)


def in_order(value: Any, schema: Any, root: Mapping[str, Any], depth: int = 0) -> Any:
    """The value in order; members that the schema does not name stay behind those that it does."""
    schema = _resolved(schema, root)
    if schema is None or depth > _DEPTH:
        return value
    if isinstance(value, list):
        return [in_order(item, schema.get("items"), root, depth + 1) for item in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return value
    named = [name for name in properties if name in value]
    ordered = {name: in_order(value[name], properties[name], root, depth + 1) for name in named}
    return {**ordered, **{name: value[name] for name in value if name not in ordered}}


def _disorder(
    value: Any, schema: Any, root: Mapping[str, Any], path: str, depth: int
) -> str | None:
    schema = _resolved(schema, root)
    if schema is None or depth > _DEPTH:
        return None
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(value, list):
        parts = [(f"{path}[{n}]", item, schema.get("items")) for n, item in enumerate(value)]
    elif isinstance(value, dict) and isinstance(properties := schema.get("properties"), dict):
        named = [name for name in properties if name in value]
        if list(value)[: len(named)] != named:
            return path or "the answer"
        parts = [(f"{path}.{n}" if path else n, value[n], properties[n]) for n in named]
    found = (_disorder(item, part, root, at, depth + 1) for at, item, part in parts)
    return next((at for at in found if at is not None), None)


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema behind local references and behind `anyOf` with null; None where there is none."""
    for _ in range(8):
        if not isinstance(schema, dict):
            return None
        options = [option for option in schema.get("anyOf") or () if option != {"type": "null"}]
        if isinstance(reference := schema.get("$ref"), str):
            schema = _at(root, reference)
        elif len(options) == 1 and "properties" not in schema:
            schema = options[0]
        else:
            return schema
    return None


def _at(root: Mapping[str, Any], reference: str) -> Any:
    if not reference.startswith("#"):
        return None
    place: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        place = place.get(part) if isinstance(place, dict) else None
    return place
