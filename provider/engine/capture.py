"""Captures of CUDA graphs: one memory pool, one side stream, and what is left when one fails."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

logger = logging.getLogger(__name__)

GRAPH_BYTES = 8 << 20
"""An allowance for what the driver keeps of one graph, which torch does not see."""
_BROKEN: list[torch.cuda.CUDAGraph] = []
"""Graphs whose capture was broken: torch's allocator of pinned memory holds their addresses."""


class Captures:
    """Makes graphs of functions that only launch work on one device. The engine's thread owns it.

    Other threads may use the device meanwhile, but one that waits for the whole device
    (`torch.cuda.synchronize`) breaks a capture, and CUDA tells it so too; captures are short, and
    most are made before the engine serves.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)
        self.pool_bytes = 0
        """What the pool has taken of the device; what a dropped graph had is used again."""

    def capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Runs `function` twice, so that libraries allocate and load what they need, and records
        it. All this happens on one side stream, whose cuBLAS workspace the graph then holds."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(2):
                function()
        current.wait_stream(self._stream)
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(self._device)
        graph = self._record(function)
        taken = torch.cuda.memory_reserved(self._device) - before
        self.pool_bytes += max(0, taken)
        return graph

    def _record(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph:
        # `torch.cuda.graph` does not bring the former stream back when a capture is broken, and
        # waits for the current device: both are what the context around it is for.
        with torch.cuda.stream(self._stream), _no_collection():
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
                ):
                    function()
            except Exception:
                self._abandon(graph)
                raise
        return graph

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """Ends for the allocator what a broken capture has begun, and begins another pool.

        torch 2.13 leaves both allocators open: memory in the device's cache would never be given
        back again, and the pool could not be used again.
        """
        index, pool = self._device.index, self._pool
        index = torch.cuda.current_device() if index is None else index
        try:
            torch._C._cuda_endAllocateToPool(index, pool)
        except RuntimeError as error:
            logger.debug("a capture had been ended by torch already: %s", error)
            return
        torch._C._cuda_releasePool(index, pool)
        _BROKEN.append(graph)
        self._pool = torch.cuda.graph_pool_handle()


@contextmanager
def _no_collection() -> Iterator[None]:
    """A tensor or graph that is freed during a capture would break it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
