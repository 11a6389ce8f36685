"""The ways themselves. Each runs its steps as phases; the app's load goes on all the while."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import sql
from tenacity import Retrying, wait_random

from bench.migration.stage import NEW, Size, make, settings_of
from migrations import registry, runner
from migrations.backfill import Job
from migrations.demo.load import text_of
from migrations.demo.timeline import Running, Timeline
from migrations.fill import fill
from migrations.target import Target
from provider.vectors import catalog, check_readiness
from provider.vectors.database import Database
from provider.vectors.flow import run
from provider.vectors.mirror import Mirror

SETTLE = 10.0
BATCH = 500
PEER = Path(".venv-vecshift/bin/vecshift")
PEER_VERSION = "0.4.0"


class TooLong(Exception):
    """A way reached its limit."""


@dataclass
class Scene:
    """What a way works with."""

    url: str
    line: Timeline
    running: Running
    facts: dict[str, Any] = field(default_factory=dict)
    limit: float = math.inf
    """Seconds that the migration itself may take; a way that needs longer is stopped."""
    switch: tuple[float, Size] | None = None
    """When the fleet went over, and the table's size just before."""
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds; raises `TooLong` when there are none."""
        if (left := self.started + self.limit - time.monotonic()) <= 0:
            raise TooLong
        return left

    def go_over(self, **mode: str) -> None:
        """The whole fleet switches."""
        self.switch = (time.time(), Size.of(self.url))
        self.running.mode(**mode)

    def go_back(self, before: float, **mode: str) -> None:
        """The whole fleet switches back; `before` is when that was decided (monotonic)."""
        self.running.mode(**mode)
        self.facts["rollback seconds"] = round(time.monotonic() - before, 3)

    def filled(self, rows: int, seconds: float) -> None:
        """Rows a second of the backfill, and against the embedder alone."""
        alone = _alone()
        self.facts["backfill rows/s"] = round(rows / seconds)
        self.facts["embedder alone, texts/s"] = alone
        self.facts["share"] = round(rows / seconds / alone, 3)

    def settle(self, name: str) -> None:
        """Let the app run for a while."""
        with self.line.phase(name):
            threading.Event().wait(SETTLE)


def in_place(scene: Scene) -> None:
    """Drop the column, add the wider one, embed again, index: one transaction, as a revision that
    autogenerate proposes would."""
    with (
        scene.line.phase("migrate in one transaction"),
        psycopg.connect(scene.url) as connection,
    ):
        started = time.monotonic()
        connection.execute("set maintenance_work_mem = '2GB'")
        connection.execute("alter table documents drop column embedding")
        connection.execute(f"alter table documents add column embedding vector({NEW})")
        rows = _rewrite(connection, "embedding", scene)
        scene.filled(rows, time.monotonic() - started)
        connection.execute(
            "create index documents_embedding_idx on documents "
            "using hnsw (embedding vector_cosine_ops)"
        )
    scene.settle("a fleet in the old mode")
    scene.go_over(sql="embedding", provider="local")
    scene.settle("a fleet in the new mode")
    scene.facts["rollback"] = "embed everything again"


def second_column(scene: Scene) -> None:
    """A second column on the same table, filled in batches, as the playbooks have it."""
    with psycopg.connect(scene.url, autocommit=True) as connection:
        with scene.line.phase("add a column"):
            connection.execute("set lock_timeout = '200ms'")
            for attempt in Retrying(wait=wait_random(1.0, 2.0), reraise=True):
                with attempt:
                    connection.execute(
                        f"alter table documents add column embedding_new vector({NEW})"
                    )
        connection.execute("set lock_timeout = 0")
        with scene.line.phase("backfill"):
            rows, started = 0, time.monotonic()
            try:
                rows = _rewrite(connection, "embedding_new", scene)
            finally:
                scene.filled(
                    rows or _filled(scene.url, "embedding_new"), time.monotonic() - started
                )
        with scene.line.phase("index, concurrently"):
            connection.execute("set maintenance_work_mem = '2GB'")
            connection.execute("set max_parallel_maintenance_workers = 0")
            connection.execute(
                "create index concurrently on documents using hnsw "
                "(embedding_new vector_cosine_ops)"
            )
        with scene.line.phase("catch up"):
            _rewrite(connection, "embedding_new", scene)
        scene.go_over(sql="embedding_new", provider="local")
        scene.settle("a fleet in the new mode")
        scene.go_back(time.monotonic(), sql="embedding", provider="openai")
        scene.settle("a fleet back in the old mode")
        row = connection.execute(
            "select count(*) from documents where embedding is null"
        ).fetchone()
        scene.facts["rows without an old vector after the rollback"] = row[0] if row else None


def peer(scene: Scene) -> None:
    """vecshift 0.4.0 from PyPI, as its README says, with its built-in model."""
    job = Path(scene.facts["folder"]) / "vecshift.yaml"
    environment = {**os.environ, "VECSHIFT_DSN": scene.url}

    def call(*arguments: str) -> None:
        done = subprocess.run(
            [str(PEER.absolute()), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            cwd=job.parent,
            check=False,
            timeout=min(scene.left, 3600),
        )
        if done.returncode:
            raise RuntimeError(f"vecshift {arguments[0]}: {done.stdout[-600:]}{done.stderr[-600:]}")

    call("init", "--table", "documents", "--model", f"hash/{NEW}", "-o", str(job))
    try:
        with scene.line.phase("apply: column, backfill, index"):
            call("apply", str(job), "--yes")
    except subprocess.TimeoutExpired as late:
        scene.filled(_filled(scene.url, _newest_column(scene.url)), late.timeout)
        raise TooLong from late
    scene.switch = (time.time(), Size.of(scene.url))
    with scene.line.phase("cutover"):
        call("cutover", str(job), "--yes")
    scene.settle("a fleet in the old mode after the cutover")
    scene.running.mode(sql="embedding", provider="local")
    scene.settle("a fleet in the new mode")
    started = time.monotonic()
    with scene.line.phase("rollback"):
        call("rollback", str(job), "--yes")
    scene.go_back(started, sql="embedding", provider="openai")
    scene.settle("a fleet back in the old mode")
    with psycopg.connect(scene.url) as connection:
        row = connection.execute(
            "select count(*) from documents where embedding is null"
        ).fetchone()
    scene.facts["rows without an old vector after the rollback"] = row[0] if row else None


def side_table(scene: Scene) -> None:
    """This project: expand, backfill, index, verify, switch, switch back."""
    settings = settings_of(scene.url)
    target = Target.of(settings, make=make)
    with scene.line.phase("expand"):
        runner.upgrade(target, runner.EXPANDED)
    job, found = _job(settings)
    with scene.line.phase("backfill"):
        done = fill(job, found, target, workers=2, build_index=False)
    scene.filled(done.tally.rows, scene.line.phases[-1].seconds)
    mirrors = [Mirror(settings, name, make=make).start() for name in ("local", "openai")]
    with scene.line.phase("index, concurrently"):
        registry.index(target)
    scene.facts["index"] = _index_size(scene.url)
    with scene.line.phase("verify"):
        scene.facts |= _verified(scene.url)
    scene.go_over(store="local")
    scene.settle("a fleet in the new mode")
    started = time.monotonic()
    with scene.line.phase("rollback: may the fleet go back?"):
        counted = check_readiness(settings, "openai", make=make)
    scene.go_back(started, sql="embedding", provider="openai")
    scene.settle("a fleet back in the old mode")
    for mirror in mirrors:
        mirror.stop()
    scene.facts["rows missing at the rollback"] = counted.missing
    with psycopg.connect(scene.url) as connection:
        row = connection.execute(
            "select count(*) from documents where embedding is null"
        ).fetchone()
    scene.facts["rows without an old vector after the rollback"] = row[0] if row else None


WAYS: dict[str, Callable[[Scene], None]] = {
    "in-place": in_place,
    "second-column": second_column,
    "vecshift": peer,
    "side-table": side_table,
}


def _verified(url: str) -> dict[str, Any]:
    """As `sllm db verify` does it: a process of its own."""
    call = [sys.executable, "-m", "bench.migration.verifying", url]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"verify: {done.stderr[-600:]}")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def _index_size(url: str) -> str:
    return str(
        _value(
            url,
            "select string_agg(format('%s %s', c.relname, pg_size_pretty(pg_relation_size(c.oid))),"
            " ', ') from pg_class c join pg_index i on i.indexrelid = c.oid "
            "join pg_am a on a.oid = c.relam where a.amname = 'hnsw'",
            "",
        )
    )


def _value(url: str, query: sql.Composed | LiteralString, missing: Any) -> Any:
    """What a query of one value finds, `missing` where it finds no row."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else missing


def _job(settings: Any) -> tuple[Job, Any]:
    database = Database(settings)
    with database.connect() as connection:
        found = run(connection, catalog.load(settings))
    return Job(database, found.source, found.space("local"), make("local")), found


def _alone(texts: int = 5000) -> float:
    """Texts a second of the embedder with nothing else to do but what else runs here."""
    model = make("local")
    sample = [text_of(number) for number in range(texts)]
    model.embed_texts(sample)
    started = time.monotonic()
    model.embed_texts(sample)
    return round(texts / (time.monotonic() - started))


def _filled(url: str, column: str) -> int:
    """Rows that have a vector in the column."""
    counted = sql.SQL("select count({}) from documents").format(sql.Identifier(column))
    return int(_value(url, counted, 0))


def _newest_column(url: str) -> str:
    """The column that the peer added."""
    return str(
        _value(
            url,
            "select attname from pg_attribute where attrelid = 'documents'::regclass "
            "and not attisdropped and format_type(atttypid, null) = 'vector' "
            "order by attnum desc limit 1",
            "embedding",
        )
    )


def _rewrite(connection: psycopg.Connection[Any], column: str, scene: Scene) -> int:
    """Embed every row that has no vector in the column, batch by batch, with UPDATEs; how many.

    Raises `TooLong` at the scene's limit."""
    register_vector(connection)
    model, done = make("local"), 0
    for batch in _batches(connection, column):
        scene.left  # noqa: B018 - raises when there are none
        vectors = model.embed_texts([text for _, text in batch])
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(
                f"update documents set {column} = %s where id = %s and content = %s",
                [(Vector(v), row, text) for v, (row, text) in zip(vectors, batch, strict=True)],
            )
        done += len(batch)
    return done


def _batches(
    connection: psycopg.Connection[Any], column: str
) -> Iterator[Sequence[tuple[int, str]]]:
    last = 0
    statement = (
        f"select id, content from documents where {column} is null and id > %s "
        f"order by id limit {BATCH}"
    )
    while rows := connection.execute(statement.encode(), [last]).fetchall():
        last = rows[-1][0]
        yield rows
