"""Many clients, one model: shared batches, fair order, and nobody pays for another's mistake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.engine.embed_queue import EmbedQueue
from provider.engine.embedder import InputTooLong
from provider.errors import RateLimited, ServerError, Unavailable


class Toy:
    """A real embedder of its own kind: a text's vector is its length and the sum of its bytes.

    Records every batch; `gate` holds computation up; texts with "poison" cannot be computed. A text
    takes a step for each 512 of its bytes, recorded by `between`.
    """

    dimensions = 2
    batch_tokens = 4096

    def __init__(self, *, pads: bool = True) -> None:
        self.pads = pads
        self.between: Callable[[], None] = lambda: None
        self.steps_done = 0
        self.computed: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def tokenize(self, texts: Sequence[str], task: Any = None) -> list[list[int]]:
        for index, text in enumerate(texts):
            if len(text) > 5000:
                raise InputTooLong(index, len(text), 5000)
        return [list(text.encode()) for text in texts]

    def steps(self, ids: Sequence[Sequence[int]]) -> Iterator[Any]:
        self.entered.set()
        assert self.gate.wait(10)
        for _ in range(max(map(len, ids)) // 512):
            self.between()
            yield None
            self.steps_done += 1
        self.computed.append([len(row) for row in ids])
        if any(bytes(row).startswith(b"poison") for row in ids):
            raise FloatingPointError("not finite")
        yield np.array([[len(row), sum(row)] for row in ids], dtype=np.float32)

    def expected(self, text: str) -> list[int]:
        return [len(text.encode()), sum(text.encode())]


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def queue(toy: Toy) -> Iterator[EmbedQueue]:
    made = EmbedQueue(toy, capacity=3000)
    yield made
    toy.gate.set()
    made.close()
    assert not made.alive


def hold(toy: Toy, queue: EmbedQueue) -> Any:
    """Occupy the worker, so that what is submitted now gathers."""
    toy.gate.clear()
    toy.entered.clear()
    first = queue.submit(["first"])
    assert toy.entered.wait(10)
    toy.computed.clear()
    return first


async def test_each_client_gets_its_own_vectors_in_order(toy: Toy, queue: EmbedQueue) -> None:
    async def client(number: int) -> None:
        texts = [f"{number}/{i}" * (1 + (number * i) % 9) for i in range(number % 4 + 1)]
        found = await queue.embed(texts)
        assert found.vectors.tolist() == [toy.expected(text) for text in texts]
        assert found.token_counts == [len(text) for text in texts]

    await asyncio.gather(*(client(number) for number in range(100)))
    assert queue.stats().requests == 100
    assert (await queue.embed([])).vectors.shape == (0, 2)


def test_waiting_clients_share_batches_of_similar_length(toy: Toy, queue: EmbedQueue) -> None:
    hold(toy, queue)
    lengths = [10, 12, 1000, 11, 1010, 13, 990] * 3
    waiting = [queue.submit(["x" * length]) for length in lengths]
    toy.gate.set()
    for future in waiting:
        future.result(10)
    batches = toy.computed[1:]
    assert len(batches) <= 6
    for batch in batches:
        assert max(batch) * len(batch) <= 1.25 * sum(batch) + 128


def test_a_long_request_does_not_hold_up_a_short_one(toy: Toy, queue: EmbedQueue) -> None:
    hold(toy, queue)
    long = queue.submit(["y" * 2000] * 400)
    short = queue.submit(["z" * 20])
    toy.gate.set()
    short.result(10)
    assert [20] in toy.computed[:4] or any(20 in batch for batch in toy.computed[:4])
    assert len(long.result(10).token_counts) == 400


def test_short_ones_do_not_hold_up_a_long_request_for_ever(toy: Toy, queue: EmbedQueue) -> None:
    hold(toy, queue)
    long = queue.submit(["y" * 3000] * 4)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            queue.submit(["z" * 10]).result(10)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    toy.gate.set()
    try:
        long.result(20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_short_text_is_answered_while_a_long_one_is_computed(toy: Toy, queue: EmbedQueue) -> None:
    toy.pads = False
    short: list[Any] = []
    toy.between = lambda: short.append(queue.submit([f"short {len(short)}"]))
    long = queue.submit(["y" * 4000])
    assert long.result(10).token_counts == [4000]
    assert len(short) == 7
    assert all(future.done() for future in short)
    assert toy.computed[-1] == [4000]
    assert [len(batch) for batch in toy.computed] == [1] * 8


@pytest.mark.parametrize("failing", [False, True])
def test_a_long_text_in_one_piece_does_not_hold_up_short_ones(failing: bool) -> None:
    """A model that pads computes 8,192 tokens at once: a thread beside the queue's has it."""
    toy, started, free = Toy(), threading.Event(), threading.Event()
    queue = EmbedQueue(toy)

    def hold() -> None:
        started.set()
        assert free.wait(20)

    toy.between = hold
    long = ("poison" if failing else "") + "x" * 600
    answer = queue.submit([long])
    assert started.wait(10)
    for number in range(3):
        text = f"short {number}"
        assert queue.submit([text]).result(10).vectors.tolist() == [toy.expected(text)]
    assert not answer.done()
    free.set()
    if failing:
        with pytest.raises(ServerError):
            answer.result(10)
    else:
        assert answer.result(10).vectors.tolist() == [toy.expected(long)]
    queue.close()


def test_a_long_text_makes_progress_under_a_flood_of_short_ones(
    toy: Toy, queue: EmbedQueue
) -> None:
    toy.pads = False
    toy.between = lambda: [queue.submit(["z" * 300]) for _ in range(30)]  # type: ignore[assignment]
    assert queue.submit(["y" * 2000]).result(10).token_counts == [2000]
    assert toy.computed.index([2000]) == 3


def test_a_long_text_that_nobody_waits_for_is_given_up(toy: Toy, queue: EmbedQueue) -> None:
    long: list[Any] = []
    toy.between = lambda: long[0].cancel()
    hold(toy, queue)
    long.append(queue.submit(["y" * 5000]))
    toy.gate.set()
    assert queue.submit(["after"]).result(10).token_counts == [5]
    assert (toy.steps_done, [5000] in toy.computed) == (0, False)


def test_without_padding_a_batch_takes_any_lengths_up_to_its_tokens() -> None:
    toy = Toy(pads=False)
    queue = EmbedQueue(toy)
    try:
        hold(toy, queue)
        waiting = [queue.submit(["x" * length]) for length in (10, 400, 90, 3000, 500, 200)]
        toy.gate.set()
        for future in waiting:
            future.result(10)
        assert sorted(map(sorted, toy.computed[1:])) == [[10, 90, 200, 400, 500], [3000]]
    finally:
        queue.close()


def test_one_texts_failure_is_its_requests_alone(toy: Toy, queue: EmbedQueue) -> None:
    hold(toy, queue)
    good = [queue.submit([f"good {i}"]) for i in range(7)]
    bad = queue.submit(["fine", "poison!", "fine"])
    toy.gate.set()
    for index, future in enumerate(good):
        assert future.result(10).vectors[0].tolist() == toy.expected(f"good {index}")
    with pytest.raises(ServerError, match="could not be embedded"):
        bad.result(10)
    assert queue.submit(["after"]).result(10).token_counts == [5]


async def test_an_over_long_text_is_refused_at_once(queue: EmbedQueue) -> None:
    with pytest.raises(InputTooLong) as refusal:
        await queue.embed(["ok", "n" * 5001])
    assert refusal.value.index == 1
    assert queue.stats().texts == 0


async def test_cancelled_requests_are_not_computed(toy: Toy, queue: EmbedQueue) -> None:
    hold(toy, queue)
    dropped = [asyncio.create_task(queue.embed(["c" * 33])) for _ in range(5)]
    kept = asyncio.create_task(queue.embed(["k" * 34]))
    await asyncio.sleep(0)
    assert queue.stats().waiting == 6
    for task in dropped:
        task.cancel()
    await asyncio.sleep(0)
    toy.gate.set()
    assert (await kept).token_counts == [34]
    assert toy.computed == [[5], [34]]
    for task in dropped:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert queue.stats().waiting == 0


def test_a_full_queue_refuses_with_retry_after(toy: Toy, queue: EmbedQueue) -> None:
    hold(toy, queue)
    accepted = queue.submit(["a"] * 2900)
    with pytest.raises(RateLimited, match="2900 of at most 3000") as refusal:
        queue.submit(["b"] * 101)
    assert int(refusal.value.headers["retry-after"]) >= 1
    toy.gate.set()
    accepted.result(10)
    assert len(queue.submit(["alone"] * 4000).result(10).token_counts) == 4000


def test_closing_answers_what_waits(toy: Toy) -> None:
    queue = EmbedQueue(toy)
    first = hold(toy, queue)
    waiting = [queue.submit(["w"]) for _ in range(3)]
    closing = threading.Thread(target=queue.close)
    closing.start()
    toy.gate.set()
    closing.join(10)
    assert first.result(1).token_counts == [5]
    for future in waiting:
        with pytest.raises(Unavailable):
            future.result(1)
    with pytest.raises(Unavailable):
        queue.submit(["late"])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.lists(st.text("ab가", max_size=40), min_size=1, max_size=6), min_size=1, max_size=12
    )
)
def test_any_mixture_is_answered_exactly(requests: list[list[str]]) -> None:
    toy = Toy()
    queue = EmbedQueue(toy)
    try:
        futures = [queue.submit(texts) for texts in requests]
        for texts, future in zip(requests, futures, strict=True):
            assert future.result(10).vectors.tolist() == [toy.expected(text) for text in texts]
        assert sum(map(len, toy.computed)) == sum(map(len, requests))
    finally:
        queue.close()
