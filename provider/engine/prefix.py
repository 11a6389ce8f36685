"""Prompts that have been computed before: slots of finished rows, kept as long as there is room.

A kept slot is the keys and values of some tokens under one adapter (or none). A new row that begins
with the same tokens copies them, which costs a memory copy instead of a forward pass. What is kept
is bounded by tokens; the least recently used goes first, and everything goes before a live row
is made to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from provider.engine.cache import KVCache, Slot

SHORTEST = 16
"""Fewer common tokens than this are not worth keeping or copying."""


@dataclass(slots=True, eq=False)
class Prefix:
    """`tokens` whose keys and values lie in `slot`, computed under `adapter` (0 is none)."""

    tokens: NDArray[np.int32]
    slot: Slot
    adapter: int
    used: int


class PrefixCache:
    """Kept slots within `budget` tokens of `cache`. The engine's thread owns it."""

    def __init__(self, cache: KVCache, budget: int) -> None:
        self._cache = cache
        self._budget = budget
        self._kept: list[Prefix] = []
        self._clock = 0
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, tokens: Sequence[int], adapter: int) -> tuple[Slot, int] | None:
        """The kept slot with the longest common beginning, and how long that is."""
        wanted = np.asarray(tokens, dtype=np.int32)
        best, best_length = None, SHORTEST - 1
        for prefix in self._kept:
            if prefix.adapter == adapter:
                length = common_length(prefix.tokens, wanted)
                if length > best_length:
                    best, best_length = prefix, length
        if best is None:
            return None
        self._clock += 1
        best.used = self._clock
        return best.slot, best_length

    def keep(self, tokens: Sequence[int], slot: Slot, adapter: int) -> None:
        """Takes over the slot of a finished row, or gives it back if it is not worth keeping."""
        held = np.asarray(tokens, dtype=np.int32)
        if len(held) < SHORTEST or slot.capacity > self._budget or self._covers(held, adapter):
            self._cache.free(slot)
            return
        for prefix in [p for p in self._kept if p.adapter == adapter]:
            if common_length(prefix.tokens, held) == len(prefix.tokens):
                self._drop(prefix)
        while self._tokens + slot.capacity > self._budget and self.evict():
            pass
        self._clock += 1
        self._kept.append(Prefix(held, slot, adapter, self._clock))
        self._tokens += slot.capacity

    def evict(self) -> bool:
        """Gives the least recently used slot back; False if none is kept."""
        if not self._kept:
            return False
        self._drop(min(self._kept, key=lambda prefix: prefix.used))
        return True

    def forget(self, adapter: int) -> None:
        """Drops what was computed under an adapter that has gone."""
        for prefix in [p for p in self._kept if p.adapter == adapter]:
            self._drop(prefix)

    def clear(self) -> None:
        while self.evict():
            pass

    def _covers(self, tokens: NDArray[np.int32], adapter: int) -> bool:
        return any(
            p.adapter == adapter and common_length(p.tokens, tokens) == len(tokens)
            for p in self._kept
        )

    def _drop(self, prefix: Prefix) -> None:
        self._kept.remove(prefix)
        self._tokens -= prefix.slot.capacity
        self._cache.free(prefix.slot)


def common_length(left: NDArray[np.int32], right: NDArray[np.int32]) -> int:
    """How many first tokens are equal."""
    size = min(len(left), len(right))
    different = np.flatnonzero(left[:size] != right[:size])
    return int(different[0]) if different.size else size
