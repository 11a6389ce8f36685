"""One tensor for all keys and values of an engine, whose address never changes.

A captured CUDA graph holds addresses, and a static step finds a row by its place in the tensor, so
slabs are cut out of one arena instead of being allocated. It has the whole budget from the start,
as vLLM's does; what it takes does not depend on the tokens held.

Shape: `[layers, 2, tokens, kv_heads, head_dim]`; index 0 is keys, 1 values. Tokens come in pages of
`PAGE`, the unit in which paged attention addresses them. The last page belongs to no row: padding
writes there.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from provider.engine.cache import SMALLEST, CacheShape

PAGE = SMALLEST
"""Tokens of a page: flash attention's smallest, and the smallest slot."""


class Arena:
    """Pages of one tensor, given out in ranges. The engine's thread owns it."""

    def __init__(self, shape: CacheShape) -> None:
        self.pages = max(1, shape.budget // PAGE)
        self.spare = self.pages * PAGE
        """The place that padding writes to."""
        self.capacity = min(shape.capacity, self.spare)
        """Most places of one row."""
        self.shape = replace(shape, budget=self.spare, capacity=self.capacity)
        """The cache's shape in whole pages."""
        width = (shape.kv_heads, shape.head_dim)
        self.kv = torch.zeros(
            (shape.layers, 2, self.spare + PAGE, *width), dtype=shape.dtype, device=shape.device
        )
        self.keys: list[Tensor] = list(self.kv[:, 0].unbind(0))
        self.values: list[Tensor] = list(self.kv[:, 1].unbind(0))
        self._free = [(0, self.pages)]

    @property
    def largest(self) -> int:
        """Tokens of the longest range that is free."""
        return PAGE * max((count for _, count in self._free), default=0)

    def clear(self) -> Arena:
        """Itself with all pages free; nobody uses an earlier range any more."""
        self._free = [(0, self.pages)]
        return self

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """`keys` and `values` [T, heads, width] of a layer into `places` [T]."""
        self.keys[layer].index_copy_(0, places, keys)
        self.values[layer].index_copy_(0, places, values)

    def allocate(self, tokens: int) -> int | None:
        """The first place of a free range of `tokens` (whole pages); None if there is none."""
        wanted = tokens // PAGE
        for number, (first, count) in enumerate(self._free):
            if count >= wanted:
                rest = [(first + wanted, count - wanted)] if count > wanted else []
                self._free[number : number + 1] = rest
                return first * PAGE
        return None

    def free(self, place: int, tokens: int) -> None:
        """Gives a range back; it is joined with its free neighbours."""
        ranges = sorted([*self._free, (place // PAGE, tokens // PAGE)])
        joined = ranges[:1]
        for first, count in ranges[1:]:
            before, length = joined[-1]
            if before + length == first:
                joined[-1] = (before, length + count)
            else:
                joined.append((first, count))
        self._free = joined
