"""A whole backfill: the ranges, the rows that changed meanwhile, the state, the index."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from migrations import chunks, registry
from migrations.backfill import Job, Tally
from migrations.chunks import Progress
from migrations.target import Target
from provider.vectors import readiness
from provider.vectors.catalog import Catalog
from provider.vectors.mirror import Drained, Drainer
from provider.vectors.readiness import Readiness
from provider.vectors.source import Source
from provider.vectors.spaces import Space

_log = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Filled:
    """What a backfill did, and how the space stands now."""

    tally: Tally
    drained: Drained
    readiness: Readiness
    indexed: bool


def fill(
    job: Job,
    found: Catalog,
    target: Target,
    *,
    workers: int = 1,
    build_index: bool = True,
    say: Say = lambda line: None,
) -> Filled:
    """Fill a space until no row is missing, and index it.

    Ends under any rate of inserts: what arrives later is the mirror's. With another machine's
    worker still at a range, returns what is left in `readiness` and does not index.
    """
    with job.database.connect(autocommit=True) as connection:
        chunks.cut(connection, job.source, job.space)  # before the queue is drained, see there
    with _keeping_up(job) as drained:
        tally = job.run(workers)
        if job.stop.is_set():
            return Filled(tally, drained, _count(job, found), indexed=False)
        with job.database.connect(autocommit=True) as connection:
            if chunks.progress(connection, job.source, job.space).chunks_left == 0:
                say("rows that changed meanwhile")
                enqueue_missing(connection, job.source, job.space)
                if enqueue_orphans(connection, job.source, job.space):
                    drained.add(_drainer(connection, job).catch_up())
        if not _caught_up(job, found).ready:
            return Filled(tally, drained, _count(job, found), indexed=False)
        _mark_filled(job)
        if build_index and job.space.side:
            say("index, while everybody reads and writes")
            registry.index(target)
    return Filled(tally, drained, _caught_up(job, found), indexed=build_index and job.space.side)


@contextmanager
def _keeping_up(job: Job) -> Iterator[Drained]:
    """Drain the space's queue all the while, so that it is short when the index is there. Its
    failures are the backfill's too, or pass; what is left is drained at the end."""
    total, over = Drained(), threading.Event()

    def drain() -> None:
        while not over.is_set():
            try:
                with job.database.connect(autocommit=True) as connection:
                    drainer = _drainer(connection, job)
                    while not over.is_set():
                        step = drainer.step()
                        total.add(step)
                        if not step.entries:
                            over.wait(0.2)
            except Exception as error:  # noqa: BLE001 - the outermost handler of a thread
                _log.warning("the queue of %s waits: %s", job.space.name, error)
                over.wait(1.0)

    thread = threading.Thread(target=drain, name=f"queue {job.space.name}", daemon=True)
    thread.start()
    try:
        yield total
    finally:
        over.set()
        thread.join()


def enqueue_missing(connection: psycopg.Connection[Any], source: Source, space: Space) -> int:
    """Queue rows that have no vector, are not queued and are not poison: those that came in while
    triggers were off (`session_replication_role`, a restored dump)."""
    vector = (
        sql.SQL("exists (select from {} v where v.row_id = d.{})").format(
            source.own(space.relation), source.id
        )
        if space.side
        else sql.SQL("d.{} is not null").format(sql.Identifier(space.relation))
    )
    statement = sql.SQL(
        "insert into {queue} (space_id, row_id) select {space}, d.{id} from {documents} d "
        "where not {vector} and not exists (select from {queue} q where q.space_id = {space} "
        "and q.row_id = d.{id}) and not exists (select from {letters} l "
        "where l.space_id = {space} and l.row_id = d.{id})"
    ).format(
        queue=source.own("queue"),
        letters=source.own("dead_letters"),
        space=sql.Literal(space.id),
        documents=source.relation,
        id=source.id,
        vector=vector,
    )
    return connection.execute(statement).rowcount


def enqueue_orphans(connection: psycopg.Connection[Any], source: Source, space: Space) -> int:
    """Queue vectors whose document went without a trigger (a partition that was dropped): the
    worker finds no document and removes them."""
    if not space.side:
        return 0
    statement = sql.SQL(
        "insert into {queue} (space_id, row_id) select {space}, v.row_id from {side} v "
        "where not exists (select from {documents} d where d.{id} = v.row_id) "
        "and not exists (select from {queue} q where q.space_id = {space} "
        "and q.row_id = v.row_id)"
    ).format(
        queue=source.own("queue"),
        space=sql.Literal(space.id),
        side=source.own(space.relation),
        documents=source.relation,
        id=source.id,
    )
    return connection.execute(statement).rowcount


def _drainer(connection: psycopg.Connection[Any], job: Job) -> Drainer:
    return Drainer(connection, job.source, job.space, job.embedder)


def _count(job: Job, found: Catalog) -> Readiness:
    with job.database.connect(autocommit=True) as connection:
        return readiness.of(connection, found, job.space)


def _caught_up(job: Job, found: Catalog) -> Readiness:
    with job.database.connect(autocommit=True) as connection:
        return readiness.caught_up(connection, found, job.space, lambda: job.embedder)


def _mark_filled(job: Job) -> None:
    statement = sql.SQL(
        "update {} set state = 'filled', filled_at = now() where id = %s and state = 'filling'"
    )
    with job.database.connect(autocommit=True) as connection:
        connection.execute(statement.format(job.source.own("embedding_spaces")), [job.space.id])
        note(connection, job.source, job.space.name, "filled")


def note(connection: psycopg.Connection[Any], source: Source, space: str, what: str) -> None:
    """A line in the audit trail."""
    statement = sql.SQL("insert into {} (space, what) values (%s, %s)")
    connection.execute(statement.format(source.own("events")), [space, what])


def progress(job: Job) -> Progress:
    """The backfill as a whole, over all workers everywhere."""
    with job.database.connect(autocommit=True) as connection:
        return chunks.progress(connection, job.source, job.space)
