"""Steps of few tokens as CUDA graphs: the device is told once per step what to do, not per kernel.

A step that only adds tokens to running answers runs as a `StaticStep`, captured when its bucket is
first needed or, where one graph serves every length, at the start. Its rows may have any mixture of
adapters. Everything else goes to the runner as it is: prompts read in large parts, rows that
together would read too much. At the start steps are computed both ways; an error or a difference
leaves the engine without graphs and says so once.

Off CUDA the same steps run uncaptured; that is for tests.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from provider.engine.arena import Arena
from provider.engine.cache import SMALLEST, CacheShape
from provider.engine.capture import GRAPH_BYTES, Captures
from provider.engine.fused import FusedRunner
from provider.engine.paged import PagedAttention, PagedPlan, lies_in
from provider.engine.runner import Step
from provider.engine.static_step import Bucket, GatheredAttention, StaticStep

if TYPE_CHECKING:
    from provider.engine.adapters import Adapter
    from provider.engine.lora_bank import Tables

logger = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
"""Tokens of a bucket."""
MOST_GRAPHS = 24
"""Graphs that are kept; the one not used for longest makes room."""
GATHERED = 65_536
"""Places that a step may gather from the arena: tokens times length."""
REREAD = 16_384
"""Places that a step may read again because several of its tokens belong to one row."""
FEW, NEAR = 8, 4096
"""Flash attention divides a bucket's length among processors; with few tokens most would have
nothing to do if the length were the longest possible. So few tokens that see no further than `NEAR`
have a bucket of that length."""
FAILURES = 3
"""Steps that may fail one after the other before graphs are given up."""


@dataclass
class _Known:
    """A bucket's step, and its graph once it is captured."""

    step: StaticStep
    graph: torch.cuda.CUDAGraph | None = None


def reserve(runner: FusedRunner, shape: CacheShape) -> int:
    """Bytes that graphs may take beside the cache: the logits in float32 and in the model's type,
    what one layer gathers, a quantised weight as it is widened, and what the driver keeps."""
    logits = SIZES[-1] * runner.vocabulary * (4 + shape.dtype.itemsize)
    gathered = GATHERED * 2 * shape.kv_heads * shape.head_dim * shape.dtype.itemsize
    return logits + gathered + runner.widened + MOST_GRAPHS * GRAPH_BYTES


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
        self.adapters_on = inner.adapters_on
        self.narrows = False
        self.steps = 0
        self.on = True
        self.paged = issubclass(attention, PagedAttention)
        """Whether flash attention reads the arena, in static steps; `packed` says it of others."""
        self.packed = self.paged
        self._attention = attention
        self._room = room
        self._failures = 0
        self._tables: Tables | None = None
        self._known: OrderedDict[Bucket, _Known] = OrderedDict()
        self._out = torch.empty((SIZES[-1], inner.vocabulary), device=inner.device)
        self._captures = Captures(inner.device) if capture else None

    @property
    def shape(self) -> CacheShape:
        return self.arena.shape

    def figures(self) -> dict[str, float]:
        """Graphs that are captured (0: none run), steps that ran static, bytes taken by graphs and
        by adapters."""
        bank = self.inner.bank
        return {
            "graphs": float(self._graphs),
            "graph_steps": float(self.steps),
            "graph_bytes": float(self._taken),
            "adapter_bytes": float(0 if bank is None else bank.nbytes),
        }

    @property
    def _graphs(self) -> int:
        return sum(known.graph is not None for known in list(self._known.values()))

    @property
    def _taken(self) -> int:
        """Bytes that graphs have taken, an allowance for the driver included."""
        pool = 0 if self._captures is None else self._captures.pool_bytes
        return pool + GRAPH_BYTES * self._graphs

    def attach(self, adapter: Adapter) -> None:
        self.inner.attach(adapter)

    def forget(self, adapter: int) -> None:
        """Nothing is kept of it: graphs read which adapter a row has from the device."""

    def forward(self, step: Step) -> Tensor:
        """As `Runner.forward`; the logits are overwritten by the next step."""
        bucket = self.bucket(step)
        if bucket is None:
            return self.as_packed(step)
        try:
            logits = self.replay(step, bucket)
        except Exception as error:  # noqa: BLE001  (whatever a capture raises, the request goes on)
            self._failed(bucket, error)
            return self.as_packed(step)
        self._failures = 0
        return logits

    def as_packed(self, step: Step) -> Tensor:
        """The step launched kernel by kernel."""
        if not self.packed or not lies_in(self.arena, step.segments):
            return self.inner.forward(step)
        try:
            plan = PagedPlan(self.arena, step.segments, self.inner.device)
            return self.inner.packed(step, plan)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.packed = False
            logger.warning("Flash attention is off for prompts: %s; they take longer.", error)
            return self.inner.forward(step)

    def bucket(self, step: Step, tokens: int = 0) -> Bucket | None:
        """Where the step fits, or None; `tokens` is the least that the bucket has."""
        count = len(step.tokens)
        if not self.on or not 0 < count <= SIZES[-1] or not lies_in(self.arena, step.segments):
            return None
        if sum((s.count - 1) * s.length for s in step.segments) > REREAD:
            return None
        if step.adapters and self.inner.bank is None:
            return None
        self._tables = self._tables_of(step)
        version = 0 if self._tables is None else self._tables.version
        tokens = next(size for size in SIZES if size >= max(count, tokens))
        return self._admitted(Bucket(tokens, self._length(step, tokens), version))

    def _tables_of(self, step: Step) -> Tables | None:
        """Where the step's adapters lie, all of them (`add` can make new tables)."""
        bank = self.inner.bank
        if bank is None or not step.adapters:
            return None
        for adapter, _, _ in step.adapters:
            bank.add(adapter)
        return bank.tables

    def _length(self, step: Step, tokens: int) -> int:
        longest = max(segment.length for segment in step.segments)
        if self.paged:
            near = tokens <= FEW and longest <= NEAR
            return min(NEAR, self.arena.capacity) if near else self.arena.capacity
        length = SMALLEST
        while length < longest:
            length *= 2
        return length

    def _admitted(self, bucket: Bucket) -> Bucket | None:
        """The bucket, if it may be captured or has been."""
        if bucket in self._known:
            return bucket
        if not self.paged and bucket.tokens * bucket.length > GATHERED:
            return None
        return bucket if self._captures is None or self._taken < self._room else None

    @torch.inference_mode()
    def replay(self, step: Step, bucket: Bucket) -> Tensor:
        """The step's logits by its bucket's graph, which is captured if it is not there."""
        known = self._known.get(bucket)
        if known is None:
            known = self._add(bucket)
        self._known.move_to_end(bucket)
        known.step.fill(step)
        if self._captures is not None and known.graph is None:
            known.graph = self._captures.capture(known.step.compute)
        if known.graph is not None:
            known.graph.replay()
        else:
            known.step.compute()
        self.steps += 1
        return self._out[: len(step.wanted)]

    def turn_off(self, reason: str) -> None:
        """No more graphs; one warning."""
        self.on = False
        self._known.clear()
        logger.warning(
            "CUDA graphs are off: %s; answers are as they were, steps of few tokens take longer.",
            reason,
        )

    def _failed(self, bucket: Bucket, error: Exception) -> None:
        """Another thread can break a capture; one after the other is more than chance."""
        self._known.pop(bucket, None)
        self._failures += 1
        if self._failures >= FAILURES:
            self.turn_off(f"a step could not be captured ({type(error).__name__}: {error})")
        else:
            logger.info("a step could not be captured (%s); it is tried again", error)

    def _add(self, bucket: Bucket) -> _Known:
        """A new bucket's step; those of tables that adapters have outgrown make room first."""
        versions = (0, bucket.adapters) if bucket.adapters else None
        for old in [old for old in self._known if versions and old.adapters not in versions]:
            del self._known[old]
        while len(self._known) >= MOST_GRAPHS:
            self._known.popitem(last=False)
        tables = self._tables if bucket.adapters else None
        step = StaticStep(self.inner, self.arena, bucket, self._out, self._attention, tables)
        known = self._known[bucket] = _Known(step)
        return known
