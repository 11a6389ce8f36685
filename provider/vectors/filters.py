"""Filters on metadata: a mapping to a SQL condition. Pure.

    {"lang": "ko", "rooms": {"gte": 3}}      every entry must hold
    {"lang": ["ko", "en"]}                   any of the values

A name is a column of the table where there is one, else a key of the metadata column.
Operators: eq, ne, gt, gte, lt, lte, in, exists. Anything else is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from provider.errors import InvalidRequest
from provider.vectors.source import Source

_COMPARISONS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = (*_COMPARISONS, "in", "exists")

Filter = Mapping[str, Any]


def condition(source: Source, filter: Filter, alias: str) -> tuple[sql.Composable, list[Any]]:
    """The condition and its parameters; `true` for an empty filter.

    Raises `InvalidRequest` for an unknown operator, an unusable value, and for a name that is no
    column where the table has no metadata column.
    """
    parts: list[sql.Composable] = []
    parameters: list[Any] = []
    for name, wanted in filter.items():
        tests = wanted if isinstance(wanted, Mapping) else {_operator(wanted): wanted}
        for operator, value in tests.items():
            part, values = _test(source, alias, name, operator, value)
            parts.append(part)
            parameters += values
    if not parts:
        return sql.SQL("true"), []
    return sql.SQL(" and ").join(parts), parameters


def _operator(value: Any) -> str:
    return "in" if isinstance(value, Sequence) and not isinstance(value, str) else "eq"


def _test(
    source: Source, alias: str, name: str, operator: str, value: Any
) -> tuple[sql.Composable, list[Any]]:
    if operator not in _OPERATORS:
        raise InvalidRequest(
            f"The filter on {name!r} has no operator {operator!r}; expected one of "
            f"{', '.join(_OPERATORS)}.",
            param="filter",
        )
    if operator == "exists" and not isinstance(value, bool):
        raise InvalidRequest(f"The filter {name!r} exists takes true or false.", param="filter")
    column = source.column(name)
    if column is not None:
        return _column_test(sql.Identifier(alias, name), column.type, operator, value)
    if source.metadata_column is None:
        known = ", ".join(column.name for column in source.columns)
        raise InvalidRequest(
            f"The filter names {name!r}, which is no column of {source.table} ({known}), and the "
            "table has no metadata column (VECTOR_METADATA_COLUMN).",
            param="filter",
        )
    return _metadata_test(sql.Identifier(alias, source.metadata_column), name, operator, value)


def _column_test(
    column: sql.Identifier, type: str, operator: str, value: Any
) -> tuple[sql.Composable, list[Any]]:
    cast = sql.SQL(type)
    if operator == "exists":
        return sql.SQL("({} is not null) = %s").format(column), [value]
    if operator == "in":
        return sql.SQL("{} = any(%s::{}[])").format(column, cast), [list(value)]
    if operator == "ne":
        return sql.SQL("{} is distinct from %s::{}").format(column, cast), [value]
    comparison = sql.SQL(_COMPARISONS[operator])
    return sql.SQL("{} {} %s::{}").format(column, comparison, cast), [value]


def _metadata_test(
    column: sql.Identifier, name: str, operator: str, value: Any
) -> tuple[sql.Composable, list[Any]]:
    if operator == "exists":
        return sql.SQL("({} ? %s) = %s").format(column), [name, value]
    if operator == "eq":  # containment, which a GIN index on the column serves
        return sql.SQL("{} @> %s").format(column), [Jsonb({name: value})]
    if operator == "in":
        options = [Jsonb({name: option}) for option in value]
        return sql.SQL("{} @> any(%s::jsonb[])").format(column), [options]
    if operator == "ne":
        return sql.SQL("not {} @> %s").format(column), [Jsonb({name: value})]
    comparison = sql.SQL(_COMPARISONS[operator])
    # jsonb orders all strings before all numbers; only values of the same type are compared
    typed = sql.SQL(
        "(jsonb_typeof({0} -> %s) = jsonb_typeof(%s::jsonb) and {0} -> %s {1} %s::jsonb)"
    ).format(column, comparison)
    return typed, [name, Jsonb(value), name, Jsonb(value)]
