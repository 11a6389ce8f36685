"""Fills a space: claims ranges of keys, embeds outside any transaction, writes guarded.

A kill at any moment loses at most the batch under way: vectors and progress are one transaction.
Reading ahead and writing behind happen in threads, so the embedder never waits for the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from migrations import chunks
from migrations.chunks import Chunk, LostClaim
from migrations.estimate import Budget
from provider.errors import ConfigurationError
from provider.vectors import queue, work
from provider.vectors.database import Database
from provider.vectors.embedding import Embedder
from provider.vectors.source import Source
from provider.vectors.spaces import Space
from provider.vectors.work import Document, Outcome

_log = logging.getLogger(__name__)

BATCH = 256
"""Rows embedded and written at a time; some 40 ms of writing."""
PATIENCE_SECONDS = 300.0
"""How long a worker tries to reach a database that is away."""


@dataclass
class Tally:
    """What the workers of this process have done. Safe to use from several threads."""

    rows: int = 0
    embedded: int = 0
    poison: int = 0
    moved_on: int = 0
    """Rows that changed while they were embedded; the queue has them."""
    retries: int = 0
    embed_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **amounts: float) -> None:
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)


class Pace:
    """At most so many rows a second over all workers of this process; None is no limit."""

    def __init__(self, rows_per_second: float | None) -> None:
        self._interval = 1.0 / rows_per_second if rows_per_second else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self, rows: int, stop: threading.Event) -> None:
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + rows * self._interval
        delay = start - time.monotonic()
        if delay > 0:
            stop.wait(delay)


@dataclass(frozen=True)
class Job:
    """A backfill of one space; `run` with as many workers as there are connections to spare."""

    database: Database
    source: Source
    space: Space
    embedder: Embedder
    pace: Pace = field(default_factory=lambda: Pace(None))
    budget: Budget = field(default_factory=Budget)
    stop: threading.Event = field(default_factory=threading.Event)
    tally: Tally = field(default_factory=Tally)
    batch: int = BATCH

    def run(self, workers: int = 1) -> Tally:
        """Work until no range is left (or `stop` is set), then return what was done.

        Raises the embedder's error when it fails for good, and `ConfigurationError` when the
        budget is spent, the database stays away, or there is a pooler in transaction mode before
        it; what was written stays, a later run resumes.
        """
        self.database.check_sessions()
        with self.database.connect(autocommit=True) as connection:
            chunks.cut(connection, self.source, self.space)
        if workers == 1:
            self._work()
            return self.tally
        with ThreadPoolExecutor(workers, thread_name_prefix="backfill") as pool:
            futures = [pool.submit(self._work) for _ in range(workers)]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self.stop.set()
                raise
        return self.tally

    def _work(self) -> None:
        """One worker, through restarts of the database."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.stop.is_set():
            try:
                with self._connections() as (reading, writing):
                    while not self.stop.is_set():
                        if (chunk := chunks.claim(writing, self.source, self.space)) is None:
                            return
                        self._chunk(reading, writing, chunk)
                        deadline = time.monotonic() + PATIENCE_SECONDS
            except LostClaim as lost:
                _log.warning("%s is another worker's by now", lost)
            except (psycopg.OperationalError, psycopg.InterfaceError, ConfigurationError) as error:
                if isinstance(error, ConfigurationError) and self.budget.spent_up:
                    raise
                if isinstance(error, psycopg.errors.DiskFull):
                    raise
                if time.monotonic() > deadline:
                    raise
                _log.warning("the database is away, trying again: %s", str(error).strip())
                self.stop.wait(0.5)

    @contextmanager
    def _connections(self) -> Iterator[tuple[psycopg.Connection[Any], psycopg.Connection[Any]]]:
        with (
            self.database.connect(autocommit=True) as reading,
            self.database.connect(autocommit=True) as writing,
        ):
            yield reading, writing

    def _chunk(
        self, reading: psycopg.Connection[Any], writing: psycopg.Connection[Any], chunk: Chunk
    ) -> None:
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            ahead = reader.submit(self._read, reading, chunk, chunk.done_to)
            behind: Future[None] | None = None
            while documents := ahead.result():
                last = documents[-1].row_id
                ahead = reader.submit(self._read, reading, chunk, last)
                outcome = self._compute(documents)
                if behind is not None:
                    behind.result()
                behind = writer.submit(self._write, writing, chunk, documents, outcome)
                if self.stop.is_set():
                    break
            if behind is not None:
                behind.result()
            if self.stop.is_set():
                chunks.release(writing, self.source, self.space, chunk)
                return
            with writing.transaction():
                chunks.advance(writing, self.source, self.space, chunk, None, 0, done=True)

    def _read(
        self, connection: psycopg.Connection[Any], chunk: Chunk, after: Any
    ) -> list[Document]:
        first, last = chunk.first_id, chunk.last_id
        return work.read_range(connection, self.source, self.space, after, first, last, self.batch)

    def _compute(self, documents: Sequence[Document]) -> Outcome:
        stale = [document for document in documents if not document.fresh]
        self.pace.wait(len(stale), self.stop)
        self.budget.spend([document.text for document in stale])
        started = time.monotonic()
        outcome = work.compute(self.embedder, self.space, stale, retried=self._retried)
        self.tally.add(embed_seconds=time.monotonic() - started)
        return outcome

    def _write(
        self,
        connection: psycopg.Connection[Any],
        chunk: Chunk,
        documents: Sequence[Document],
        outcome: Outcome,
    ) -> None:
        with connection.transaction():
            settled = work.store(connection, self.source, self.space, outcome)
            stale = {document.row_id for document in documents if not document.fresh}
            moved_on = sorted(stale - settled)
            queue.enqueue(connection, self.source, self.space, moved_on)
            last = documents[-1].row_id
            chunks.advance(
                connection, self.source, self.space, chunk, last, len(documents), done=False
            )
        self.tally.add(
            rows=len(documents),
            embedded=outcome.embedded,
            poison=len(outcome.poison),
            moved_on=len(moved_on),
        )

    def _retried(self, error: Exception) -> None:
        _log.warning("the embedder failed, trying again: %s", error)
        self.tally.add(retries=1)


Watch = Callable[[], None]
