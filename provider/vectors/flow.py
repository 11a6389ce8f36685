"""Conversations with the database as generators, so that sync and async share every statement.

A flow yields queries and is sent their rows; what it returns is the result. `run` and `arun`
are the only code that differs between the two faces (the same idea as httpx's auth flows).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import sql

T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Query:
    """One statement. `many` runs it once per element of `parameters`, pipelined, without rows.

    `prepare=False` keeps psycopg from preparing it: a prepared plan outlives the settings that it
    was made under.
    """

    statement: LiteralString | sql.SQL | sql.Composed
    parameters: Sequence[Any] | Mapping[str, Any] = field(default_factory=tuple)
    many: bool = False
    prepare: bool | None = None


Flow = Generator[Query, list[Row], T]


def run(connection: psycopg.Connection[Any], flow: Flow[T]) -> T:
    """Drive a flow over a connection. The caller opens the transaction."""
    try:
        query = next(flow)
        while True:
            query = flow.send(_execute(connection, query))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def arun(connection: psycopg.AsyncConnection[Any], flow: Flow[T]) -> T:
    """`run`, awaited."""
    try:
        query = next(flow)
        while True:
            query = flow.send(await _aexecute(connection, query))
    except StopIteration as stop:
        result: T = stop.value
        return result


def _execute(connection: psycopg.Connection[Any], query: Query) -> list[Row]:
    with connection.cursor(binary=True) as cursor:
        if query.many:
            cursor.executemany(query.statement, query.parameters)
            return []
        cursor.execute(query.statement, query.parameters, prepare=query.prepare)
        return cursor.fetchall() if cursor.description else []


async def _aexecute(connection: psycopg.AsyncConnection[Any], query: Query) -> list[Row]:
    async with connection.cursor(binary=True) as cursor:
        if query.many:
            await cursor.executemany(query.statement, query.parameters)
            return []
        await cursor.execute(query.statement, query.parameters, prepare=query.prepare)
        return await cursor.fetchall() if cursor.description else []
