"""Steps of few tokens as CUDA graphs: the device is told once per step what to do, not per kernel.

A step that only adds tokens to running answers runs as a `StaticStep`, captured when its bucket is
first needed. Everything else goes to the runner as it is: prompts read in large parts, rows of
several adapters in one step, rows that together would read too much. At the start some steps are
computed both ways; an error or a difference leaves the engine without graphs and says so once.

Off CUDA the same steps run uncaptured; that is for tests.
"""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from provider.engine.arena import Arena
from provider.engine.cache import SMALLEST, CacheShape
from provider.engine.device import free_memory
from provider.engine.fused import FusedRunner
from provider.engine.runner import Step
from provider.engine.static_step import Bucket, GatheredAttention, PagedAttention, StaticStep

if TYPE_CHECKING:
    from provider.engine.adapters import Adapter

logger = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
"""Tokens of a bucket."""
MOST_GRAPHS = 24
"""Graphs that are kept; the one not used for longest makes room."""
GATHERED = 65_536
"""Places that a step may gather from the arena: tokens times length."""
REREAD = 16_384
"""Places that a step may read again because several of its tokens belong to one row."""
_GRAPH_BYTES = 8 << 20
"""An allowance for what the driver keeps of one graph; more is not captured than all may take."""


@dataclass
class _Known:
    """A bucket's step, and its graph once it is captured. Holds the adapter's weights alive."""

    step: StaticStep
    graph: torch.cuda.CUDAGraph | None = None


def reserve(runner: FusedRunner, shape: CacheShape) -> int:
    """Bytes that graphs may take beside the cache: the logits in float32 and in the model's type,
    what one layer gathers, and what the driver keeps."""
    logits = SIZES[-1] * runner.vocabulary * (4 + shape.dtype.itemsize)
    gathered = GATHERED * 2 * shape.kv_heads * shape.head_dim * shape.dtype.itemsize
    return logits + gathered + MOST_GRAPHS * _GRAPH_BYTES


class GraphRunner:
    """A runner that replays what it can and hands on what it cannot."""

    def __init__(
        self,
        inner: FusedRunner,
        arena: Arena,
        *,
        attention: type[GatheredAttention] = GatheredAttention,
        capture: bool = True,
        room: int = 0,
    ) -> None:
        self.inner = inner
        self.arena = arena
        self.weight_bytes = inner.weight_bytes
        self.steps = 0
        self.on = True
        self._attention = attention
        self._capture = capture
        self._room = room
        self.bytes = 0
        """What the graphs have taken of the device's memory, as far as it can be seen."""
        self._gone: set[int] = set()
        self._known: OrderedDict[Bucket, _Known] = OrderedDict()
        self._out = torch.empty((SIZES[-1], inner.vocabulary), device=inner.device)
        if capture:
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream(inner.device)

    @property
    def shape(self) -> CacheShape:
        return self.arena.shape

    def figures(self) -> dict[str, float]:
        """Graphs that are captured (0: none run), steps that ran static, bytes taken."""
        graphs = sum(known.graph is not None for known in list(self._known.values()))
        return {
            "graphs": float(graphs),
            "graph_steps": float(self.steps),
            "graph_bytes": float(self.bytes),
        }

    def attach(self, adapter: Adapter) -> None:
        self.inner.attach(adapter)

    def forward(self, step: Step) -> Tensor:
        """As `Runner.forward`; the logits are overwritten by the next step."""
        bucket = self.bucket(step)
        if bucket is None:
            return self.inner.forward(step)
        try:
            return self.replay(step, bucket)
        except Exception as error:  # noqa: BLE001  (whatever a capture raises, the request goes on)
            self.turn_off(f"a step could not be captured ({type(error).__name__}: {error})")
            return self.inner.forward(step)

    def bucket(self, step: Step) -> Bucket | None:
        """Where the step fits, or None."""
        count = len(step.tokens)
        adapter = step.adapters[0][0].key if step.adapters else 0
        if not self.on or not 0 < count <= SIZES[-1] or adapter in self._gone:
            return None
        if step.adapters and [each[1:] for each in step.adapters] != [(0, count)]:
            return None
        if any(segment.slot.slab.arena is not self.arena for segment in step.segments):
            return None
        if sum((s.count - 1) * s.length for s in step.segments) > REREAD:
            return None
        tokens = next(size for size in SIZES if size >= count)
        return self._admitted(Bucket(tokens, self._length(step), adapter))

    def _length(self, step: Step) -> int:
        if issubclass(self._attention, PagedAttention):
            return self.arena.capacity
        length = SMALLEST
        while length < max(segment.length for segment in step.segments):
            length *= 2
        return length

    def _admitted(self, bucket: Bucket) -> Bucket | None:
        """The bucket, if it may be captured or has been."""
        if bucket in self._known:
            return bucket
        gathers = not issubclass(self._attention, PagedAttention)
        if gathers and bucket.tokens * bucket.length > GATHERED:
            return None
        return bucket if not self._capture or self.bytes < self._room else None

    @torch.inference_mode()
    def replay(self, step: Step, bucket: Bucket) -> Tensor:
        """The step's logits by its bucket's graph, which is captured if it is not there."""
        known = self._known.get(bucket)
        if known is None:
            known = self._add(bucket, step.adapters[0][0] if step.adapters else None)
        self._known.move_to_end(bucket)
        known.step.fill(step)
        if self._capture and known.graph is None:
            before = free_memory(self.inner.device)
            known.graph = self._captured(known.step)
            self.bytes += max(0, before - free_memory(self.inner.device))
        if known.graph is not None:
            known.graph.replay()
        else:
            known.step.compute()
        self.steps += 1
        return self._out[: len(step.wanted)]

    def forget(self, adapter: int) -> None:
        """Drops the graphs of an adapter that has gone; what is left of its rows runs without."""
        self._gone.add(adapter)
        for bucket in [bucket for bucket in self._known if bucket.adapter == adapter]:
            del self._known[bucket]

    def turn_off(self, reason: str) -> None:
        """No more graphs; one warning."""
        self.on = False
        self._known.clear()
        logger.warning(
            "CUDA graphs are off: %s; answers are as they were, steps of few tokens take longer.",
            reason,
        )

    def _add(self, bucket: Bucket, adapter: Adapter | None) -> _Known:
        while len(self._known) >= MOST_GRAPHS:
            self._known.popitem(last=False)
        step = StaticStep(self.inner, self.arena, bucket, self._out, self._attention, adapter)
        known = self._known[bucket] = _Known(step)
        return known

    def _captured(self, step: StaticStep) -> torch.cuda.CUDAGraph:
        """Runs the step twice, so that libraries allocate and load what they need, and records it.

        All this happens on one side stream, whose cuBLAS workspace the graph then holds. Other
        threads may use the device meanwhile. The step's keys and values are written anew each time.
        """
        current = torch.cuda.current_stream(self.inner.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(2):
                step.compute()
        current.wait_stream(self._stream)
        torch.cuda.synchronize(self.inner.device)  # `torch.cuda.graph` waits for device 0 alone
        graph = torch.cuda.CUDAGraph()
        collecting = gc.isenabled()
        gc.disable()  # a tensor or graph that is freed during a capture would break it
        try:
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                step.compute()
        finally:
            if collecting:
                gc.enable()
        return graph
