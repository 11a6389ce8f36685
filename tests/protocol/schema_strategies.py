"""Random schemas and random JSON values that have something to do with each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c", "ab", "x1"])
PATTERNS = st.sampled_from(
    ["^a", "b$", "^[a-c]{1,2}$", "^(?!b)", "x[0-9]", "^$", "^(a|b)+$", "^[^a]*$", r"^\w\d?$"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([0.5, -1.5, 2.25, 10.1]),
    st.sampled_from(["", "a", "b", "ab", "x1", "ba", "가"]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
_BOUND = st.integers(0, 3)


def _numbers() -> st.SearchStrategy[dict[str, Any]]:
    bound = st.one_of(st.integers(-2, 10), st.sampled_from([0.5, 2.25, -1.5]))
    return st.fixed_dictionaries(
        {},
        optional={
            "minimum": bound,
            "maximum": bound,
            "exclusiveMinimum": bound,
            "exclusiveMaximum": bound,
            "multipleOf": st.sampled_from([1, 2, 3, 5, 0.5, 0.25]),
        },
    )


def _strings() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {}, optional={"minLength": _BOUND, "maxLength": _BOUND, "pattern": PATTERNS}
    )


def _arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "minItems": _BOUND,
            "maxItems": _BOUND,
            "contains": inner,
            "minContains": _BOUND,
            "maxContains": _BOUND,
            "uniqueItems": st.just(True),
        },
    )


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": _strings(),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "minProperties": st.integers(0, 1),
            "maxProperties": _BOUND,
            "dependentRequired": st.dictionaries(
                NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2
            ),
            "dependentSchemas": st.dictionaries(NAMES, inner, max_size=1),
        },
    )


def _combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.fixed_dictionaries({"allOf": several}),
        st.fixed_dictionaries({"anyOf": several}),
        st.fixed_dictionaries({"oneOf": several}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"if": inner}, optional={"then": inner, "else": inner}),
    )


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {k: v for part in parts for k, v in part.items()}


def _types() -> st.SearchStrategy[dict[str, Any]]:
    kinds = ["null", "boolean", "integer", "number", "string", "array", "object"]
    kind = st.sampled_from(kinds)
    listed = st.one_of(kind, st.lists(kind, min_size=1, max_size=3, unique=True))
    return st.fixed_dictionaries({"type": listed})


LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    _types(),
    st.fixed_dictionaries({"enum": st.lists(VALUES, min_size=1, max_size=4)}),
    st.fixed_dictionaries({"const": VALUES}),
    st.tuples(_types(), _numbers()).map(lambda p: _merged(list(p))),
    st.tuples(_types(), _strings()).map(lambda p: _merged(list(p))),
    _numbers(),
    _strings(),
    st.fixed_dictionaries({"$ref": st.just("#/$defs/tree")}),
)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    parts = st.lists(
        st.one_of(_types(), _arrays(inner), _objects(inner), _combined(inner), _numbers()),
        min_size=1,
        max_size=3,
    )
    return parts.map(_merged)


_TREE = {
    "type": ["object", "null"],
    "properties": {"a": {"$ref": "#/$defs/tree"}, "b": {"type": "integer"}},
    "additionalProperties": False,
}
SCHEMAS: st.SearchStrategy[dict[str, Any]] = (
    st.recursive(LEAVES, _grown, max_leaves=5)
    .filter(lambda s: isinstance(s, dict))
    .map(lambda s: {**s, "$defs": {"tree": _TREE}})
)
