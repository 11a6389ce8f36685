"""What is left when a capture breaks: nothing that the next step, or the allocator, stumbles over.

CUDA's part is played by a stand-in with torch's own order of events (`torch/cuda/graphs.py`,
`CUDAGraph.cpp`): a broken capture leaves the side stream current and both allocators open, that of
pinned memory for good, so that its pool cannot be used again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from provider.engine import device, transfer
from provider.engine.capture import GRAPH_BYTES, Captures
from provider.engine.graphs import GraphRunner
from provider.engine.static_step import StaticStep
from tests.engine.test_static_step import Rows, graphs

CARD = torch.device("cuda", 1)


class Stream:
    def __init__(self, where: Any = None) -> None:
        self.where = where

    def wait_stream(self, other: Stream) -> None:
        pass


class Graph:
    def __init__(self) -> None:
        self.work: list[Any] = []

    def replay(self) -> None:
        for each in self.work:
            each()


class Card:
    """Streams, pools and captures; `broken` captures end as CUDA ends them."""

    def __init__(self) -> None:
        self.default = Stream()
        self.current = self.default
        self.open: set[Any] = set()
        self.pinned: set[Any] = set()
        self.uses: Counter[Any] = Counter()
        self.pools = 0
        self.reserved = 0
        self.broken = False
        self.recording: Graph | None = None
        self.synchronized: list[Any] = []

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def graph(self, graph: Graph, pool: Any, stream: Stream, capture_error_mode: str) -> Any:
        assert capture_error_mode == "thread_local"
        card = self

        class Capture:
            def __enter__(self) -> None:
                assert card.current is stream  # torch waits for the current device, which it sets
                assert pool not in card.open | card.pinned, "already recording to mempool_id"
                card.open.add(pool)
                card.pinned.add(pool)
                card.uses[pool] += 1
                card.recording = graph
                card.current = stream

            def __exit__(self, *error: object) -> None:
                card.recording = None
                if card.broken:  # cudaStreamEndCapture fails: torch goes no further
                    raise RuntimeError("operation failed due to a previous error during capture")
                card.open.discard(pool)
                card.pinned.discard(pool)
                card.reserved += 1 << 20 if not card.reserved else 0

        return Capture()

    def end(self, index: int, pool: Any) -> None:
        assert index == CARD.index
        if pool not in self.open:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.open.discard(pool)

    def release(self, index: int, pool: Any) -> None:
        self.uses[pool] -= 1
        assert self.uses[pool] >= 0

    def handle(self) -> tuple[int, int]:
        self.pools += 1
        return 0, self.pools


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    stands_in = {
        "graph_pool_handle": card.handle,
        "Stream": Stream,
        "CUDAGraph": Graph,
        "current_stream": lambda _=None: card.current,
        "stream": card.stream,
        "graph": card.graph,
        "synchronize": card.synchronized.append,
        "empty_cache": lambda: None,
        "memory_reserved": lambda _: card.reserved,
    }
    for name, made in stands_in.items():
        monkeypatch.setattr(torch.cuda, name, made)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", card.end, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", card.release, raising=False)
    return card


def test_a_capture_runs_twice_before_it_is_recorded(card: Card) -> None:
    runs: list[Stream] = []
    captures = Captures(CARD)
    captures.capture(lambda: runs.append(card.current))
    assert len(runs) == 3
    assert set(runs) == {captures._stream}
    assert card.current is card.default
    assert card.synchronized == [CARD]
    assert captures.pool_bytes == 1 << 20


@pytest.mark.parametrize("late", [False, True])
def test_after_a_broken_capture_the_stream_is_back_and_the_allocator_closed(
    card: Card, late: bool
) -> None:
    """Broken by the step itself, or by another thread, which is noticed at the end."""
    captures = Captures(CARD)
    card.broken = True
    calls = iter(range(9))

    def step() -> None:
        if next(calls) == 2 and not late:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="capture"):
        captures.capture(step)
    assert card.current is card.default
    assert card.open == set()
    assert card.uses.total() == 0
    card.broken = False
    assert captures.capture(lambda: None) is not None


def test_an_error_that_leaves_the_capture_whole_is_ended_once(card: Card) -> None:
    captures = Captures(CARD)
    calls = iter(range(9))

    def step() -> None:
        if next(calls) == 2:
            raise ValueError("in python")

    with pytest.raises(ValueError, match="in python"):
        captures.capture(step)
    assert card.open == set()
    assert card.pools == card.uses.total() == 1  # the graph itself lets go of it


def test_one_broken_capture_is_tried_again_and_costs_no_request(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread that waits for the whole device breaks a capture by chance."""
    runner, twin = captured(card, monkeypatch), graphs("exaone")
    ours, theirs = Rows(runner, [20, 9]), Rows(twin, [20, 9])
    for broken in (True, True, False, False, False):
        card.broken = broken
        got, plain = runner.forward(ours.step([1, 1])), twin.inner.forward(theirs.step([1, 1]))
        assert torch.allclose(got, plain, atol=2e-4)
        assert runner.on
    assert runner.figures()["graphs"] == 1
    assert runner.steps == 3
    assert card.current is card.default


def test_graphs_that_made_room_for_others_are_not_counted_for_ever(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider.engine.graphs.MOST_GRAPHS", 2)
    runner, twin = captured(card, monkeypatch, room=4 * GRAPH_BYTES), graphs("exaone")
    ours, theirs = Rows(runner, [20]), Rows(twin, [20])
    for count in (1, 2, 4, 1, 2, 4, 1, 2, 4):
        got, plain = runner.forward(ours.step([count])), twin.inner.forward(theirs.step([count]))
        assert torch.allclose(got, plain, atol=2e-4)
    assert runner.steps == 9
    assert runner.figures()["graph_bytes"] < 4 * GRAPH_BYTES


def captured(card: Card, patch: pytest.MonkeyPatch, room: int = 1 << 40) -> GraphRunner:
    """A runner whose captures are the card's, which notes what is computed during one."""
    compute = StaticStep.compute

    def noted(step: StaticStep) -> None:
        compute(step)
        if card.recording is not None:
            card.recording.work.append(lambda: compute(step))

    patch.setattr(StaticStep, "compute", noted)
    runner = graphs("exaone")
    runner._captures, runner._room = Captures(CARD), room
    return runner


def test_what_torch_keeps_of_freed_memory_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an engine whose first way failed would get a fifth of the memory for its second."""
    memory = {"free": 10, "cached": 80}

    def empty_cache() -> None:
        memory["free"] += memory.pop("cached", 0)

    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (memory["free"], 100))
    assert device.free_memory(CARD) == 90


def test_mps_copies_are_waited_for_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    class Host:
        def pin_memory(self) -> Host:
            return self

        def to(self, where: torch.device, non_blocking: bool) -> None:
            asked.append((where.type, non_blocking))

    host: Any = Host()
    for kind in ("mps", "cuda"):
        transfer.send(host, torch.device(kind))
    assert asked == [("mps", False), ("cuda", True)]


def test_a_device_that_does_not_compute_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.works(torch.device("cpu"))

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "ones", broken)
    assert not device.works(CARD)


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@GPU
def test_a_card_captures_again_after_a_broken_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stand-in plays, on the real thing: the host reads a value during a capture."""
    runner, twin = graphs("exaone", "cuda"), graphs("exaone", "cuda")
    ours, theirs = Rows(runner, [20, 9]), Rows(twin, [20, 9])
    compute, broken = StaticStep.compute, iter([True])

    def breaks(step: StaticStep) -> None:
        compute(step)
        if torch.cuda.is_current_stream_capturing() and next(broken, False):
            step._out.sum().item()

    monkeypatch.setattr(StaticStep, "compute", breaks)
    for _ in range(4):
        got, plain = runner.forward(ours.step([1, 1])), twin.inner.forward(theirs.step([1, 1]))
        assert torch.allclose(got, plain, atol=5e-3)
    assert runner.on
    assert runner.steps == 3
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.mark.gpu
@GPU
def test_other_threads_may_use_the_card_while_graphs_are_captured() -> None:
    """A vision model or an embedder of the same process allocates, computes and copies."""
    over, failed = threading.Event(), []

    def work() -> None:
        try:
            while not over.is_set():
                x = torch.randn(700, 700, device="cuda")
                failed.extend([] if bool(torch.isfinite(x @ x).all()) else ["not finite"])
        except RuntimeError as error:
            failed.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        runner, twin = graphs("exaone", "cuda"), graphs("exaone", "cuda")
        ours, theirs = Rows(runner, [20, 9]), Rows(twin, [20, 9])
        for counts in ([1, 1], [3, 1], [7, 1], [15, 1], [30, 1], [1, 1], [7, 1]):
            got, plain = runner.forward(ours.step(counts)), twin.inner.forward(theirs.step(counts))
            assert torch.allclose(got, plain, atol=5e-3)
    finally:
        over.set()
        thread.join()
    assert failed == []
    assert runner.steps == 7
