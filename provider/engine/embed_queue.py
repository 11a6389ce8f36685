"""Texts of many clients, embedded together.

One worker thread takes what is waiting, computes texts of similar length in one batch and answers
each request when its last text is done. While a batch is computed the next one gathers, so a lone
client waits for nobody and many clients share their forward passes. A long text is computed in
steps, and between them the short ones that have come meanwhile; where a model computes it in one
piece, in a thread beside them.

Order is start-time fair queueing over tokens (Goyal et al. 1996): each request has a virtual clock
that runs with the tokens it is given, so a request of 2,000 long texts does not hold up a short one
that comes later, and short ones cannot hold up a long one for ever.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from provider.engine.embedder import Embeddings, Task
from provider.errors import ApiError, RateLimited, ServerError, Unavailable

log = logging.getLogger(__name__)
_PADDING = 1.25  # most of a padded batch's computation, relative to its real tokens
_SMALL = 128  # padding that costs less than another forward pass
_SHORT = 512  # tokens of a text that does not wait for the end of a longer one
_GATHER_SECONDS = 0.003
_WINDOW = 1024  # due texts among which a batch is chosen
_AT_ONCE = 2000  # characters that are tokenized faster than a thread is reached


class BatchEmbedder(Protocol):
    """What is needed of `provider.engine.embedder.Embedder`."""

    @property
    def dimensions(self) -> int: ...
    @property
    def pads(self) -> bool: ...
    @property
    def batch_tokens(self) -> int: ...
    def tokenize(self, texts: Sequence[str], task: Task | None = None) -> list[list[int]]: ...
    def steps(self, ids: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32] | None]: ...


@dataclass(eq=False)
class _Request:
    ids: list[list[int]]
    vectors: NDArray[np.float32]
    missing: int
    future: Future[Embeddings] = field(default_factory=Future)

    @property
    def over(self) -> bool:
        return self.future.done()


@dataclass(frozen=True, slots=True)
class _Text:
    request: _Request
    index: int
    start: float
    """Virtual time at which its request is due for it."""

    @property
    def ids(self) -> list[int]:
        return self.request.ids[self.index]


@dataclass(frozen=True)
class QueueStats:
    """Since the start: requests answered, texts computed, forward passes; and texts waiting now."""

    requests: int
    texts: int
    batches: int
    waiting: int


class EmbedQueue:
    """`capacity` texts may wait; a request that would exceed it is refused with 429."""

    def __init__(self, embedder: BatchEmbedder, capacity: int = 8192) -> None:
        self.embedder = embedder
        self.capacity = capacity
        self._waiting: list[_Text] = []
        self._changed = threading.Condition()
        self._clock = 0.0
        self._closed = False
        self._requests = self._texts = self._batches = 0
        self._texts_per_second = 100.0
        self._thread = threading.Thread(target=self._work, name="embeddings", daemon=True)
        self._thread.start()

    async def embed(self, texts: Sequence[str], task: Task | None = None) -> Embeddings:
        """As `Embedder.embed`; a cancelled task's texts are dropped before the next batch.

        Raises `InputTooLong`, `RateLimited` when too many texts wait, `Unavailable` after
        `close`, `ServerError` when a text cannot be computed.
        """
        if sum(map(len, texts)) <= _AT_ONCE:
            ids = self.embedder.tokenize(texts, task)
        else:
            ids = await asyncio.to_thread(self.embedder.tokenize, texts, task)
        return await asyncio.wrap_future(self._submit(ids))

    def submit(self, texts: Sequence[str], task: Task | None = None) -> Future[Embeddings]:
        """`embed` for callers without an event loop; the future can be cancelled."""
        return self._submit(self.embedder.tokenize(texts, task))

    def _submit(self, ids: list[list[int]]) -> Future[Embeddings]:
        vectors = np.empty((len(ids), self.embedder.dimensions), dtype=np.float32)
        request = _Request(ids, vectors, len(ids))
        if not ids:
            request.future.set_result(Embeddings(vectors, []))
            return request.future
        with self._changed:
            self._admit(len(ids))
            start = self._clock
            for index in sorted(range(len(ids)), key=lambda row: len(ids[row])):
                self._waiting.append(_Text(request, index, start))
                start += len(ids[index])
            self._changed.notify()
        return request.future

    def _admit(self, texts: int) -> None:
        if self._closed:
            raise Unavailable("The embedding model has been shut down.")
        waiting = len(self._waiting)
        if waiting and waiting + texts > self.capacity:
            raise RateLimited(
                f"Too many texts wait to be embedded ({waiting} of at most {self.capacity}). "
                "Please retry later, or send fewer texts at a time.",
                retry_after=waiting / self._texts_per_second,
            )

    def stats(self) -> QueueStats:
        with self._changed:
            return QueueStats(self._requests, self._texts, self._batches, len(self._waiting))

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Let the batch under way finish; requests that still wait fail with `Unavailable`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        gathered = 1
        try:
            while (batch := self._next_batch(gathered)) is not None:
                gathered = len(batch)
                started = time.monotonic()
                self._compute(batch)
                rate = len(batch) / max(time.monotonic() - started, 1e-6)
                self._texts_per_second += 0.1 * (rate - self._texts_per_second)
        finally:
            self._abandon()

    def _next_batch(self, gathered: int) -> list[_Text] | None:
        """The next texts to compute; None after `close`. Never empty."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._gather(gathered)
                if self._closed:
                    return None
                self._waiting = [text for text in self._waiting if not text.request.over]
                if self._waiting:
                    return self._take()

    def _gather(self, gathered: int) -> None:
        """After a batch of many clients, a moment for those that are just asking again."""
        self._changed.wait_for(
            lambda: len(self._waiting) >= gathered or self._closed, timeout=_GATHER_SECONDS
        )

    def _take(self) -> list[_Text]:
        """The text that is due first, and those of the nearest lengths among the next due ones."""
        return self._with_nearest(self._waiting)

    def _take_short(self) -> list[_Text]:
        """`_take` among the short texts that are still waited for; empty when there are none."""
        with self._changed:
            short = [
                text for text in self._waiting if len(text.ids) <= _SHORT and not text.request.over
            ]
            return self._with_nearest(short) if short and not self._closed else []

    def _with_nearest(self, among: list[_Text]) -> list[_Text]:
        due = sorted(among, key=lambda text: text.start)[:_WINDOW]
        first = due[0]
        self._clock = max(self._clock, first.start)
        size = len(first.ids)
        near = sorted(due, key=lambda text: abs(len(text.ids) - size))
        chosen = [first]
        longest = real = size
        for text in near:
            if text is first:
                continue
            longest, real = max(longest, len(text.ids)), real + len(text.ids)
            if not self._fits(longest * (len(chosen) + 1), real):
                break
            chosen.append(text)
        taken = {id(text) for text in chosen}
        self._waiting = [text for text in self._waiting if id(text) not in taken]
        return chosen

    def _fits(self, padded: int, real: int) -> bool:
        if not self.embedder.pads:
            return real <= self.embedder.batch_tokens
        return padded <= self.embedder.batch_tokens and padded <= _PADDING * real + _SMALL

    def _compute(self, batch: list[_Text]) -> None:
        """Compute a batch; one that fails is halved until the text that fails stands alone."""
        try:
            vectors = self._vectors(batch)
        except Exception as error:
            if len(batch) > 1:
                self._compute(batch[: len(batch) // 2])
                self._compute(batch[len(batch) // 2 :])
                return
            log.exception("a text of %d tokens could not be embedded", len(batch[0].ids))
            self._fail(batch[0].request, error)
            return
        if vectors is None:
            return
        with self._changed:
            self._batches += 1
            self._texts += len(batch)
        for text, vector in zip(batch, vectors, strict=True):
            self._deliver(text, vector)

    def _vectors(self, batch: list[_Text]) -> NDArray[np.float32] | None:
        """The batch's vectors; None when nobody waits for them any more. Between the steps of a
        long text, short ones get a batch each time."""
        long = max(len(text.ids) for text in batch) > _SHORT
        if long and self.embedder.pads:
            return self._aside(batch)
        return self._drive(batch, self._compute_short if long else lambda: None)

    def _compute_short(self) -> None:
        if short := self._take_short():
            self._compute(short)

    def _drive(
        self, batch: list[_Text], between: Callable[[], None] = lambda: None
    ) -> NDArray[np.float32] | None:
        for found in self.embedder.steps([text.ids for text in batch]):
            if found is not None:
                return found
            between()
            if all(text.request.over for text in batch):
                break
        return None

    def _aside(self, batch: list[_Text]) -> NDArray[np.float32] | None:
        """The vectors of a long text that is computed in one piece, in a thread of its own: this
        one goes on with short texts meanwhile."""
        found: Future[NDArray[np.float32] | None] = Future()

        def work() -> None:
            try:
                found.set_result(self._drive(batch))
            except BaseException as error:  # noqa: BLE001 - raised by whoever waits for it
                found.set_exception(error)
            with self._changed:
                self._changed.notify_all()

        threading.Thread(target=work, name="long embedding", daemon=True).start()
        while not found.done():
            if short := self._take_short():
                self._compute(short)
                continue
            with self._changed:
                self._changed.wait_for(lambda: found.done() or self._has_short())
        return found.result()

    def _has_short(self) -> bool:
        return not self._closed and any(
            len(text.ids) <= _SHORT and not text.request.over for text in self._waiting
        )

    def _deliver(self, text: _Text, vector: NDArray[np.float32]) -> None:
        request = text.request
        request.vectors[text.index] = vector
        request.missing -= 1
        if request.missing == 0 and request.future.set_running_or_notify_cancel():
            with self._changed:
                self._requests += 1
            counts = [len(ids) for ids in request.ids]
            request.future.set_result(Embeddings(request.vectors, counts))

    def _fail(self, request: _Request, error: Exception) -> None:
        told = (
            error if isinstance(error, ApiError) else ServerError("A text could not be embedded.")
        )
        if not request.over and request.future.set_running_or_notify_cancel():
            request.future.set_exception(told)

    def _abandon(self) -> None:
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        for request in {id(text.request): text.request for text in waiting}.values():
            self._fail(request, Unavailable("The embedding model has been shut down."))
