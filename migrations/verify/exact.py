"""Exact nearest neighbours of many queries at once: every vector is read a single time.

An `ORDER BY distance` for each query would read the whole table again each time: a hundred queries
on 100,000 rows took two minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from migrations.verify.checks import Subject
from provider.vectors.embedding import Stored

Matrix = NDArray[np.float64]
Found = list[tuple[Any, float]]
_BLOCK = 2000


def nearest(subject: Subject, queries: Sequence[Stored], k: int) -> list[Found]:
    """For each query the keys and distances of the `k` nearest, nearest first, as one moment has
    them. Distances are pgvector's: cosine, Euclidean, or the negative inner product."""
    asked = _matrix(queries)
    keys: list[list[Any]] = [[] for _ in queries]
    nearest_ones = np.empty((len(queries), 0))
    if not queries:
        return []
    for names, vectors in _blocks(subject):
        distances = np.hstack([nearest_ones, _distances(subject.space.metric, asked, vectors)])
        best = _smallest(distances, k)
        nearest_ones = np.take_along_axis(distances, best, axis=1)
        keys = [
            [known[at] if at < len(known) else names[at - len(known)] for at in row]
            for known, row in zip(keys, best.tolist(), strict=True)
        ]
    return [list(zip(*pair, strict=True)) for pair in zip(keys, nearest_ones.tolist(), strict=True)]


def _blocks(subject: Subject) -> Iterator[tuple[list[Any], Matrix]]:
    """Keys and vectors of the whole space; vectors without a direction are left out, as a cosine
    index leaves them out."""
    statement = sql.SQL(
        "select {key}, {send}({vector}) from {rows} v where {vector} is not null"
    ).format(
        key=subject.key,
        send=sql.Identifier(subject.space.extension_schema, f"{subject.space.element}_send"),
        vector=subject.vector,
        rows=subject.rows,
    )
    with (
        subject.connection.transaction(),
        subject.connection.cursor(name="sllm_exact", binary=True) as cursor,
    ):
        cursor.execute(statement)
        while rows := cursor.fetchmany(_BLOCK):
            names = [row[0] for row in rows]
            vectors = _sent(subject.space.element, [row[1] for row in rows])
            usable: NDArray[np.bool_] = np.any(vectors != 0, axis=1)
            if not usable.all():
                names = [n for n, ok in zip(names, usable.tolist(), strict=True) if ok]
                vectors = vectors[usable]
            yield names, vectors


def _smallest(distances: Matrix, k: int) -> NDArray[np.intp]:
    """Where the `k` smallest of each row are, the smallest first."""
    if distances.shape[1] <= k:
        return np.argsort(distances, axis=1, kind="stable")
    some = np.sort(np.argpartition(distances, k - 1, axis=1)[:, :k], axis=1)
    order = np.argsort(np.take_along_axis(distances, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _sent(element: str, rows: Sequence[bytes]) -> Matrix:
    """Vectors as pgvector sends them: the width in two bytes, two of zeros, then big-endian floats
    of four or two bytes. An object for each vector would cost more than the arithmetic."""
    read = np.dtype(">f4" if element == "vector" else ">f2")
    flat = np.frombuffer(b"".join(rows), dtype=read).reshape(len(rows), -1)
    return flat[:, 4 // read.itemsize :].astype(np.float64)


def _matrix(vectors: Sequence[Stored]) -> Matrix:
    if not vectors:
        return np.empty((0, 0))
    return np.stack([vector.to_numpy() for vector in vectors]).astype(np.float64)


def _distances(metric: str, queries: Matrix, vectors: Matrix) -> Matrix:
    """[queries, vectors]."""
    products: Matrix = queries @ vectors.T
    if metric == "ip":
        return -products
    squares = np.einsum("ij,ij->i", queries, queries), np.einsum("ij,ij->i", vectors, vectors)
    if metric == "l2":
        apart = squares[0][:, None] - 2 * products + squares[1][None]
        return np.asarray(np.sqrt(np.maximum(0.0, apart)))
    lengths = np.sqrt(squares[0])[:, None] * np.sqrt(squares[1])[None]
    return np.asarray(1 - products / np.maximum(lengths, 1e-300))
