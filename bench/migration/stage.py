"""The table that every way starts from: documents, 512-dimension vectors, an HNSW index."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import sql
from pydantic import SecretStr

from migrations import runner
from migrations.demo.load import text_of
from migrations.target import Target
from provider.settings import Settings
from provider.vectors.embedded import Cluster
from tests.vectors.embedders import BagOfWords

OLD, NEW = 512, 768
TEMPLATE = "bench_template"
MEMORY = 6144
"""MiB for the build of an index: a million rows of 768 take 4.3 GB."""
LARGE = 500_000
"""From so many rows on, the app's own index is of a coarser build, which is quicker by far."""


class Paced(BagOfWords):
    """A toy at the speed of a real embedder: a call takes its texts' share of a second and uses
    almost no core for it, as a GPU's or a hosted one does; calls of one process wait in line."""

    rate = 2000
    """Texts a second."""

    def __init__(self, dimensions: int, seed: int) -> None:
        super().__init__(dimensions, seed)
        self._device = threading.Lock()

    def embed_texts(self, texts: list[str], /) -> list[list[float]]:
        with self._device:
            end = time.monotonic() + len(texts) / self.rate
            vectors = super().embed_texts(texts)
            time.sleep(max(0.0, end - time.monotonic()))
        return vectors


def make(name: str) -> Paced:
    """The embedder of a provider."""
    return Paced(OLD, seed=1) if name == "openai" else Paced(NEW, seed=2)


@dataclass(frozen=True)
class Stage:
    """A durable server with the template."""

    cluster: Cluster
    rows: int

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A copy of the template for one way; its URL."""
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            made = sql.Identifier(name)
            copy = sql.SQL("create database {} template {} strategy file_copy")
            connection.execute(copy.format(made, sql.Identifier(TEMPLATE)))
            connection.execute("checkpoint")
            yield self.cluster.url(name)
            connection.execute(sql.SQL("drop database {} (force)").format(made))


@contextmanager
def stage(rows: int) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with Cluster(Path(folder) / "pg", settings={"shared_buffers": "512MB"}) as cluster:
            with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
            _fill(cluster.url(TEMPLATE), rows)
            yield Stage(cluster, rows)


def settings_of(url: str) -> Settings:
    return Settings(
        database_url=SecretStr(url), openai_embedding_dimensions=OLD, vector_index_memory_mb=MEMORY
    )


def _fill(url: str, rows: int) -> None:
    runner.upgrade(Target.of(settings_of(url), make=make), "0001")
    model = make("openai")
    with psycopg.connect(url, autocommit=True) as connection:
        register_vector(connection)
        connection.execute("drop index documents_embedding_idx")
        with connection.cursor().copy(
            "copy documents (content, metadata, embedding) from stdin (format binary)"
        ) as copy:
            copy.set_types(["text", "jsonb", "vector"])
            for number in range(1, rows + 1):
                text = text_of(number)
                vector = Vector(model.vector(text))
                copy.write_row((text, psycopg.types.json.Jsonb({"n": number}), vector))
        connection.execute(f"set maintenance_work_mem = '{MEMORY}MB'")
        connection.execute(
            "create index documents_embedding_idx on documents "
            "using hnsw (embedding vector_cosine_ops)"
            + (" with (m = 8, ef_construction = 16)" if rows >= LARGE else "")
        )
        connection.execute("vacuum analyze documents")


@dataclass(frozen=True)
class Size:
    """The app's table as PostgreSQL counts it."""

    heap: int
    toast: int
    updated: int
    dead: int
    wal: int

    @classmethod
    def of(cls, url: str) -> Size:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("select pg_stat_force_next_flush()")
            row: tuple[Any, ...] | None = connection.execute(
                "select pg_relation_size('documents'), "
                "pg_table_size('documents') - pg_relation_size('documents'), "
                "(select n_tup_upd from pg_stat_all_tables where relid = 'documents'::regclass), "
                "(select n_dead_tup from pg_stat_all_tables where relid = 'documents'::regclass), "
                "pg_current_wal_lsn() - '0/0'::pg_lsn"
            ).fetchone()
        return cls(*(int(value) for value in row or (0, 0, 0, 0, 0)))

    def as_json(self) -> str:
        return json.dumps(vars(self))
