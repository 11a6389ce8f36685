"""Traps that others have fallen into, each as a regression test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from pgvector.psycopg import register_vector
from sqlalchemy import BigInteger, Column, MetaData, Table, create_engine
from sqlalchemy.pool import NullPool

from migrations import registry, runner
from migrations.verify import recall
from migrations.verify.checks import Subject
from provider.vectors import VectorStore, catalog, search
from provider.vectors.database import Database
from provider.vectors.embedding import embed
from provider.vectors.flow import run
from provider.vectors.mirror import drainer
from provider.vectors.search import _INDEX, Parts
from tests.migrations.test_backfill import backfill, prepared, wrong_vectors
from tests.vectors.postgres import App, text_of

SIDE = "sllm.vectors_local_kosimcse_roberta_768"


@contextmanager
def subject_of(app: App, provider: str = "local") -> Iterator[Subject]:
    settings = app.settings()
    with Database(settings).connect(autocommit=True) as connection:
        found = run(connection, catalog.load(settings))
        yield Subject(connection, found, found.space(provider), app.make(provider))


# Trap 1, a backfill that rewrites the app's rows, is
# test_backfill.test_the_apps_table_is_not_touched.


def test_2_replicas_that_start_together_neither_hang_nor_migrate_twice(app: App) -> None:
    """A session that waits for an advisory lock would hang CREATE INDEX CONCURRENTLY for ever."""
    app.upgrade("0001")
    app.fill(200)
    waiting: list[Any] = []
    over = threading.Event()

    def watch() -> None:
        with app.connect(autocommit=True) as connection:
            while not over.wait(0.02):
                query = "select * from pg_locks where locktype = 'advisory' and not granted"
                waiting.extend(connection.execute(query).fetchall())

    def replica(_: int) -> None:
        target = app.target(force=True)
        runner.upgrade(target, runner.INDEXED, patience=60)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(replica, range(4)))
    over.set()
    watcher.join()
    assert waiting == []
    assert app.value("select version_num from sllm.alembic_version") == "0003"
    assert app.value("select count(*) from sllm.embedding_spaces") == 2


def test_3_apps_and_workers_do_not_deadlock(app: App) -> None:
    prepared(app, 400)
    backfill(app)
    over = threading.Event()

    def worker() -> None:
        with drainer(app.settings(), "local", app.make) as opened:
            while not over.is_set():
                opened.step()

    def writer(seed: int) -> None:
        random = np.random.default_rng(seed)
        with app.connect(autocommit=True) as connection:
            for _ in range(60):
                ids = [int(n) for n in random.integers(1, 400, 8)]
                change = "update documents set content = content || '.' where id = any(%s)"
                connection.execute(change, [ids])
                connection.execute("delete from documents where id = any(%s)", [ids[:1]])

    workers = [threading.Thread(target=worker) for _ in range(2)]
    for thread in workers:
        thread.start()
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(_deadlocks_of_their_own(writer), range(2)))
    over.set()
    for thread in workers:
        thread.join()
    backfill(app)
    counts = wrong_vectors(app)
    assert counts["wrong"] == counts["missing"] == counts["orphans"] == 0
    assert outcomes == [None, None]


def _deadlocks_of_their_own(writer: Callable[[int], None]) -> Callable[[int], str | None]:
    """Two writers that update rows in random order deadlock with each other; with a worker never.
    PostgreSQL's message names both processes' statements in the server log, the client sees the
    relation: only one on our own tables counts."""

    def attempt(seed: int) -> str | None:
        try:
            writer(seed)
        except psycopg.errors.DeadlockDetected as error:
            return "ours" if "vectors_" in str(error) or "queue" in str(error) else None
        return None

    return attempt


def test_4_batches_are_sized_by_time(app: App) -> None:
    """A DELETE waits for the batch that holds its row: 500 rows made it wait for 2.4 s."""
    prepared(app, 1)
    with drainer(app.settings(), "local", app.make) as opened:
        opened._adapt(seconds=2.0, entries=opened._size)
        assert opened._size == 16
        for _ in range(20):
            opened._adapt(seconds=2.0, entries=opened._size)
        assert opened._size == 8
        for _ in range(20):
            opened._adapt(seconds=0.001, entries=opened._size)
        assert opened._size == 256


def test_5_search_uses_the_index(app: App) -> None:
    """A LEFT JOIN, or an expression around the distance, makes the index unusable."""
    prepared(app, 1500)
    backfill(app, index=True)
    with subject_of(app) as subject:
        parts = Parts(subject.catalog, subject.space)
        statement = psycopg.sql.SQL(_INDEX).format(**parts.names, where=psycopg.sql.SQL("true"))
        vector = embed(subject.embedder, subject.space, ["room"])[0]
        explained = subject.connection.execute(
            psycopg.sql.SQL("explain {}").format(statement), {"query": vector, "k": 10}
        )
        plan = "\n".join(row[0] for row in explained)
    assert "hnsw" in plan
    assert "Sort Key: d.id" not in plan


def test_6_a_filter_loses_no_rows(app: App) -> None:
    """Without an iterative scan the index gives 40 candidates and the filter keeps one of them."""
    prepared(app, 1500)
    app.rows("update documents set metadata = '{\"rare\": true}' where mod(id, 100) = 0")
    backfill(app, index=True)
    settings = app.settings(embedding_provider="local")
    with VectorStore(settings, make=app.make) as store:
        for mode in ("index", "exact", "auto"):
            hits = store.search("document 7", k=10, filter={"rare": True}, mode=mode)
            assert len(hits) == 10, mode


def test_7_a_prepared_plan_does_not_fool_the_recall_gate(app: App) -> None:
    """psycopg prepares a statement after five executions; its plan then outlives the settings."""
    prepared(app, 1)
    random = np.random.default_rng(0)
    rows = 3000
    app.rows("insert into documents (content) select 'x' || n from generate_series(1, 3000) n")
    with app.connect() as connection:
        register_vector(connection)
        with connection.cursor().copy(
            f"copy {SIDE} (row_id, embedding, content_hash) from stdin (format binary)"
        ) as copy:
            copy.set_types(["bigint", "vector", "bytea"])
            for row_id in range(2, rows + 2):
                copy.write_row((row_id, random.standard_normal(768).astype("float32"), b""))
        connection.execute(
            f"create index on {SIDE} using hnsw (embedding vector_cosine_ops) "
            "with (m = 2, ef_construction = 4)"
        )
    with subject_of(app) as subject:
        query = embed(subject.embedder, subject.space, ["room"])[0]
        for _ in range(10):
            run(
                subject.connection,
                search.search(subject.catalog, subject.space, query, 10, {}, "exact", 1),
            )
        measured = recall.measure(subject, 20, ef_search=1)
    assert measured.used_index
    assert measured.mean < 0.9
    assert not recall.check(measured).ok


def test_8_a_role_without_rights_on_our_tables_can_write(app: App) -> None:
    prepared(app, 10)
    role = "plain_" + app.dsn.split("/")[3].split("?")[0]
    app.rows(f"create role {role}")
    app.rows(f"grant select, insert, update, delete on documents to {role}")
    app.rows(f"grant usage on all sequences in schema public to {role}")
    app.rows(
        f"set role {role}; insert into documents (content) values ('by a plain role'); "
        "update documents set content = 'changed' where id = 1; delete from documents where id = 2"
    )
    assert app.value("select count(*) from sllm.queue") == 4  # two rows, two spaces
    app.rows(f"drop owned by {role}; drop role {role}")


def test_9_the_extension_in_another_schema(app: App) -> None:
    """Supabase installs extensions into `extensions`, which a pinned search_path must name."""
    app.rows("drop extension vector; create schema extensions")
    app.rows("create extension vector schema extensions")
    app.upgrade(runner.INDEXED)
    settings = app.settings(embedding_provider="local")
    with VectorStore(settings, make=app.make) as store:
        ids = store.add([text_of(n) for n in range(5)])
        store.update(ids[0], {"content": "changed"})
        assert store.search("changed", k=1)[0].id == ids[0]
    app.rows("update documents set content = 'by plain sql' where id = %s", ids[1])
    backfill(app, "openai")
    assert app.value("select count(*) from sllm.queue where space_id = 1") == 0


# Trap 10, vectors of zeros, is test_backfill.test_a_vector_that_must_not_be_stored_is_poison.


def test_11_the_index_gets_the_memory_it_needs(app: App) -> None:
    prepared(app, 2000)
    app.rows("analyze documents")
    app.rows("update pg_class set reltuples = 100000 where relname = 'documents'")
    settings = dict(app.target().parameters.index_settings)
    assert 380 <= int(settings["maintenance_work_mem"].strip("'MB")) <= 460
    assert settings["lock_timeout"] == "0"


def test_12_an_apps_autogenerate_leaves_us_alone(app: App) -> None:
    """Without a schema of our own, the app's next revision would drop every table of ours."""
    app.upgrade(runner.INDEXED)
    metadata = MetaData()
    Table("documents", metadata, Column("id", BigInteger, primary_key=True))
    url = app.dsn.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        operations = produce_migrations(MigrationContext.configure(connection), metadata)
    text = str([op.to_diff_tuple() for group in operations.upgrade_ops.ops for op in group.ops])  # type: ignore[union-attr]
    assert "sllm" not in text
    assert "'remove_table'" not in text


def test_13_a_backfill_ends_however_fast_rows_arrive(app: App) -> None:
    prepared(app, 300)

    def insert(texts: list[str]) -> None:
        app.rows(
            "insert into documents (content) select 'new ' || random() from generate_series(1, 40)"
        )

    app.embedders["local"].before = insert
    done = backfill(app, batch=50)
    assert done.tally.rows == 300
    app.embedders["local"].before = lambda texts: None
    backfill(app)
    assert wrong_vectors(app)["missing"] == 0


# Trap 14, a second worker that embeds everything again, is
# test_backfill.test_every_row_gets_exactly_its_vector with three workers.


def test_15_truncate_and_drop_table_work(app: App) -> None:
    """A foreign key to the app's table would make both fail."""
    prepared(app, 50)
    backfill(app)
    app.rows("truncate documents")
    assert app.value(f"select count(*) from {SIDE}") == 0
    assert app.value("select count(*) from sllm.queue") == 0
    app.fill(5)
    app.rows("drop table documents")


def test_15b_rows_deleted_during_a_backfill_leave_no_orphans(app: App) -> None:
    prepared(app, 1200)
    numbers = iter(range(1, 1200, 3))

    def delete(texts: list[str]) -> None:
        ids = [next(numbers, 0) for _ in range(40)]
        app.rows("delete from documents where id = any(%s)", ids)
        with app.connect() as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("delete from documents where id = %s", [ids[0] + 1])

    app.embedders["local"].before = delete
    backfill(app, batch=40)
    app.embedders["local"].before = lambda texts: None
    backfill(app)
    assert wrong_vectors(app)["orphans"] == 0


def test_a_cancelled_index_build_is_healed_by_the_next_run(app: App) -> None:
    prepared(app, 2000)
    backfill(app)
    name = "vectors_local_kosimcse_roberta_768_hnsw"
    app.rows("set statement_timeout = 0; update pg_index set indisvalid = indisvalid where false")
    with app.connect(autocommit=True) as connection:
        connection.execute("set statement_timeout = '150ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(
                f"create index concurrently {name} on {SIDE} using hnsw "
                "(embedding vector_cosine_ops)"
            )
    query = "select indisvalid from pg_index where indexrelid = to_regclass('sllm.' || %s)"
    assert app.rows(query, name) == [(False,)]
    registry.index(app.target())
    assert app.rows(query, name) == [(True,)]


def test_ddl_behind_an_open_transaction_gives_up_and_tries_again(app: App) -> None:
    """Nobody queues behind our DDL: it waits for a lock for 200 ms, then lets everybody pass."""
    app.upgrade("0001")
    app.fill(10)
    target = app.target()
    with app.connect() as writer:
        writer.execute("update documents set metadata = '{}' where id = 1")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(runner.upgrade, target, runner.EXPANDED, patience=60)
            for number in range(2, 6):
                with app.connect() as other:
                    other.execute("set lock_timeout = '3s'")
                    other.execute("update documents set content = 'x' where id = %s", [number])
            assert not running.done()
            writer.commit()
            running.result()
    assert app.value("select version_num from sllm.alembic_version") == "0002"


def test_the_expansion_does_not_wait_for_readers(app: App) -> None:
    app.upgrade("0001")
    target = app.target()
    with app.connect() as reader:
        reader.execute("select * from documents")
        runner.upgrade(target, runner.EXPANDED, patience=0.5)


def test_ddl_that_never_gets_its_lock_changes_nothing(app: App) -> None:
    app.upgrade("0001")
    target = app.target()
    with app.connect() as writer:
        writer.execute("insert into documents (content) values ('open')")
        with pytest.raises(Exception, match="locks were never free"):
            runner.upgrade(target, runner.EXPANDED, patience=1)
    assert app.value("select version_num from sllm.alembic_version") == "0001"
    assert app.value("select to_regclass('sllm.queue')") is None
