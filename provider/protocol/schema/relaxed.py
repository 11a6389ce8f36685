"""The part of a schema that can be enforced, for callers to whom less than all was promised.

OpenAI takes almost any schema for a tool without `strict` and promises nothing of its arguments.
A refusal there would break an app that works; so what cannot be enforced is left to the model, and
named. Everything else stays in force, and what is valid can still be written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from provider.protocol.schema.compiler import compile
from provider.protocol.schema.known import MAP_VALUED, subschemas
from provider.protocol.schema.refused import Malformed, SchemaRefused

_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
_PATIENCE = 40
_SIMPLE = frozenset({"pattern", "patternProperties", "format", "multipleOf", "$ref", "uniqueItems"})
"""Refused as soon as they are read: these cost one, others ten (a second, if the worst comes)."""
_NARROWING = frozenset({"not", "if", "contains"})
"""To ask for less below these is to allow less; so they go as a whole."""


def relaxed(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """A schema that `compile` takes, and JSON pointers to what of the given one it leaves out.

    Where the root itself is at fault, or more than we have patience for, that is any object and
    `""`. Raises `Malformed` for what is no JSON Schema: OpenAI refuses that, too.
    """
    try:
        text = json.dumps(schema, ensure_ascii=False)
    except RecursionError:
        return _ANY_OBJECT, ("",)
    text, left_out = _relaxed(text)
    return (json.loads(text) if left_out else schema), left_out


@lru_cache(maxsize=256)
def _relaxed(text: str) -> tuple[str, tuple[str, ...]]:
    """Cached: an app sends the same tools with every request, and each round is a compilation."""
    remaining: Any = json.loads(text)
    left_out: list[str] = []
    patience = _PATIENCE
    while patience > 0:
        try:
            compile(remaining)
            return json.dumps(remaining, ensure_ascii=False), tuple(dict.fromkeys(left_out))
        except Malformed:
            raise
        except SchemaRefused as refused:
            gone = [*_gone(remaining, refused)]
            if not gone:
                break
            left_out += gone
            patience -= 1 if refused.keyword in _SIMPLE else 10
    return json.dumps(_ANY_OBJECT), ("",)


def _gone(schema: Any, refused: SchemaRefused) -> Iterator[str]:
    """Takes what was refused out of `schema`, in place; nothing where only the whole would do."""
    if refused.path or refused.keyword:
        yield from _leave_out(schema, refused.path, refused.keyword)
    else:
        yield from _contradictions(schema)


def _contradictions(schema: Any) -> Iterator[str]:
    """Properties that no value can have (`enum` for an array, where its items are meant) keep
    their type only."""
    around = {k: v for k, v in schema.items() if k in ("$schema", "$defs", "definitions")}
    for name, value in schema.get("properties", {}).items():
        try:
            compile({**around, **_ANY_OBJECT, "properties": {name: value}, "required": [name]})
        except SchemaRefused as refused:
            if not isinstance(refused, Malformed) and isinstance(value, dict):
                kept = {"type": value["type"]} if "type" in value else {}
                schema["properties"][name] = kept
                yield f"/properties/{name.replace('~', '~0').replace('/', '~1')}"


def _leave_out(schema: Any, path: str, keyword: str) -> Iterator[str]:
    """Takes the keyword of the subschema at `path` out, in place; yields pointers to what is gone.

    Exactly one of several becomes any of them where one of them allows more than it did.
    """
    at, here, named = schema, "", False
    steps = path.split("/")[1:]
    for index, step in enumerate(steps):
        if not named and step in _NARROWING:
            del at[step]
            yield f"{here}/{step}"
            return
        here = f"{here}/{step}"
        if not named and step == "oneOf":
            at = _any_of(at)
            yield here
            if keyword == "":
                return  # told apart no longer, they may all be well
        elif index == len(steps) - 1 and keyword == "":
            at[_key(at, step)] = True
            yield here
            return
        else:
            at = at[_key(at, step)]
        named = not named and step in MAP_VALUED
    yield from _without(at, here, keyword)


def _key(at: Any, step: str) -> str | int:
    return int(step) if isinstance(at, list) else step.replace("~1", "/").replace("~0", "~")


def _any_of(schema: dict[str, Any]) -> list[Any]:
    """The alternatives, of which several may now hold."""
    alternatives: list[Any] = schema.pop("oneOf")
    if "anyOf" in schema:
        schema["allOf"] = [*schema.get("allOf", ()), {"anyOf": alternatives}]
    else:
        schema["anyOf"] = alternatives
    return alternatives


def _without(at: Any, here: str, keyword: str) -> Iterator[str]:
    """Takes the keyword out of this subschema, or out of those in it which have it."""
    if keyword == "oneOf" and keyword in at:
        _any_of(at)
        yield f"{here}/{keyword}"
        return
    holders = [(here, at)] if keyword in at else [*subschemas(at, here)]
    for pointer, inner in holders:
        if inner.pop(keyword, None) is not None:
            yield f"{pointer}/{keyword}"
