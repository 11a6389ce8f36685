"""The mirror: takes rows off the queue and keeps a space fresh, whichever space apps read.

mirror = Mirror(settings)        # or SharedMirror in a server's own thread: start(), stop()
mirror.once()                    # until the queue is empty
mirror.follow(stop)              # for ever
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from provider.settings import Settings
from provider.vectors import catalog, queue, work
from provider.vectors.database import Database
from provider.vectors.embedding import Embedder, MakeEmbedder, compare_probe, from_settings, probe
from provider.vectors.flow import run
from provider.vectors.queue import Entry
from provider.vectors.source import Source
from provider.vectors.spaces import Space

_log = logging.getLogger(__name__)

TARGET_SECONDS = 0.08
"""A write transaction should take this long: an app's DELETE may wait for it."""
SMALLEST, LARGEST = 8, 256


@dataclass
class Drained:
    """What one pass over the queue did."""

    entries: int = 0
    embedded: int = 0
    poison: int = 0

    def add(self, other: Drained) -> None:
        self.entries += other.entries
        self.embedded += other.embedded
        self.poison += other.poison


class Drainer:
    """Drains one space's queue over one connection."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        source: Source,
        space: Space,
        embedder: Embedder,
    ) -> None:
        self.connection = connection
        self.source = source
        self.space = space
        self.embedder = embedder
        self._size = 32

    def step(self) -> Drained:
        """One batch; `entries` is 0 when nothing is free.

        When the embedder fails, the entries go back to the queue and the error is raised.
        """
        entries = queue.claim(self.connection, self.source, self.space, self._size)
        if not entries:
            return Drained()
        try:
            return self._process(entries)
        except psycopg.Error:
            raise
        except Exception:
            self._put_back(entries, delay_seconds=2.0 ** min(6, entries[0].attempts))
            raise

    def drain(self, seconds: float | None = None) -> Drained:
        """Steps until nothing is free, or for about so long."""
        total = Drained()
        deadline = time.monotonic() + seconds if seconds is not None else None
        while (step := self.step()).entries:
            total.add(step)
            if deadline is not None and time.monotonic() > deadline:
                break
        return total

    def catch_up(self, seconds: float | None = None) -> Drained:
        """Drain what waits now; what arrives meanwhile does not prolong it. Entries that another
        worker holds are waited for."""
        total = Drained()
        newest = queue.edge(self.connection, self.source, self.space, "max")
        deadline = time.monotonic() + seconds if seconds is not None else math.inf
        while newest is not None and time.monotonic() < deadline:
            step = self.step()
            total.add(step)
            oldest = queue.edge(self.connection, self.source, self.space, "min")
            if oldest is None or oldest > newest:
                break
            if not step.entries:
                time.sleep(0.05)
        return total

    def _process(self, entries: Sequence[Entry]) -> Drained:
        ids = list(dict.fromkeys(entry.row_id for entry in entries))
        with self.connection.transaction():
            documents = work.read(self.connection, self.source, self.space, ids)
        stale = [document for document in documents if not document.fresh]
        outcome = work.compute(self.embedder, self.space, stale)
        gone = sorted(set(ids) - {document.row_id for document in documents})
        fresh = {document.row_id for document in documents if document.fresh}
        started = time.monotonic()
        for attempt in _contention():
            with attempt, self.connection.transaction():
                settled = work.store(self.connection, self.source, self.space, outcome)
                if self.space.side:
                    work.remove(self.connection, self.source, self.space, gone)
                done = settled | fresh | set(gone)
                self._settle(entries, done)
        self._adapt(time.monotonic() - started, len(entries))
        return Drained(len(entries), outcome.embedded, len(outcome.poison))

    def _settle(self, entries: Sequence[Entry], done: set[Any]) -> None:
        queue.settle(self.connection, self.source, [e for e in entries if e.row_id in done])
        left = [entry for entry in entries if entry.row_id not in done]
        if left:
            queue.put_back(self.connection, self.source, left, delay_seconds=0.05)

    def _put_back(self, entries: Sequence[Entry], delay_seconds: float) -> None:
        with self.connection.transaction():
            queue.put_back(self.connection, self.source, entries, delay_seconds)

    def _adapt(self, seconds: float, entries: int) -> None:
        if entries < self._size and seconds < TARGET_SECONDS:
            return
        wanted = int(self._size * min(2.0, max(0.5, TARGET_SECONDS / max(seconds, 1e-4))))
        self._size = max(SMALLEST, min(LARGEST, wanted))


def _contention() -> Retrying:
    """Deadlocks are not expected; a database restart in the middle is."""
    return Retrying(
        retry=retry_if_exception_type(
            (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
        ),
        wait=wait_random(0.01, 0.1),
        stop=stop_after_attempt(5),
        reraise=True,
    )


@contextmanager
def drainer(settings: Settings, name: str, make: MakeEmbedder) -> Iterator[Drainer]:
    """A drainer of one space with a connection of its own. `name` is a space's or a provider's."""
    database = Database(settings)
    try:
        with database.connect(autocommit=True) as connection:
            found = run(connection, catalog.load_whole(settings))
            space = found.space(name)
            found.of(settings, space.provider)  # the settings still mean the model that filled it
            embedder = make(space.provider)
            compare_probe(space, probe(embedder))
            yield Drainer(connection, found.source, space, embedder)
    finally:
        database.close()


class Mirror:
    """Keeps one space fresh from a thread, through failures of the database and of the embedder.

    Errors are logged and tried again with a growing pause; apps never wait for any of this.
    """

    def __init__(
        self,
        settings: Settings,
        space: str,
        *,
        make: MakeEmbedder | None = None,
        interval: float = 0.2,
    ) -> None:
        self.space = space
        self.drained = Drained()
        self._settings = settings
        self._make = make or from_settings(settings)
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Drain until `stop()`."""
        pause = self._interval
        while not self._stop.is_set():
            try:
                with drainer(self._settings, self.space, self._make) as opened:
                    while not self._stop.is_set():
                        step = opened.step()
                        self.drained.add(step)
                        pause = self._interval
                        if not step.entries:
                            self._stop.wait(self._interval)
            except Exception as error:  # noqa: BLE001 - the outermost handler of a thread
                _log.warning("the mirror of %s pauses for %.1f s: %s", self.space, pause, error)
                self._stop.wait(pause)
                pause = min(30.0, pause * 2)

    def start(self) -> Mirror:
        self._thread = threading.Thread(
            target=self.follow, name=f"mirror {self.space}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Finish the batch under way and end the thread. Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
