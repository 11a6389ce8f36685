"""The key/value cache: one growing slot per row, in slabs of equal slots.

A row's keys and values lie in one contiguous slot, so attention reads them as a view, without a
gather. Slots come in capacities of `SMALLEST * 2**k` tokens; a row that outgrows its slot moves to
the next size. Slots of one size share a *slab*, one tensor; a slab is allocated when it is needed
and released when its last slot is, so memory follows the tokens held; with an arena
(`provider.engine.arena`) slabs are parts of it. Slots of finished rows are kept as prefixes by
`provider.engine.prefix` and are given back when space runs out.

Shape of a slab: `[layers, 2, slots, capacity, kv_heads, head_dim]`; index 0 is keys, 1 values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from provider.engine.arena import Arena

SMALLEST = 256
"""Tokens of the smallest slot."""


@dataclass(frozen=True)
class CacheShape:
    """What one token costs. `capacity` is the longest row, `budget` all slots, in tokens."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device
    capacity: int
    budget: int
    slab_tokens: int = 2048

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize


class Slab:
    """Some slots of one capacity in one tensor: an own one, or the arena's from `origin` on."""

    def __init__(
        self,
        shape: CacheShape,
        slots: int,
        capacity: int,
        arena: Arena | None = None,
        origin: int = 0,
    ) -> None:
        self.slots = slots
        self.capacity = capacity
        self.tokens = slots * capacity
        self.arena = arena
        self.origin = origin
        self.free = list(range(slots - 1, -1, -1))
        size = (shape.layers, 2, slots, capacity, shape.kv_heads, shape.head_dim)
        if arena is not None:
            self.kv = arena.kv[:, :, origin : origin + self.tokens].view(size)
        else:
            # Rows that attend together read past their ends, masked: what lies there must be
            # finite. A CPU reads each row's own tokens only, and gets its memory page by page.
            make = torch.empty if shape.device.type == "cpu" else torch.zeros
            self.kv = make(size, dtype=shape.dtype, device=shape.device)
        flat = self.kv.view(shape.layers, 2, self.tokens, shape.kv_heads, shape.head_dim)
        self.keys = list(flat[:, 0].unbind(0))
        self.values = list(flat[:, 1].unbind(0))


class Slot:
    """`capacity` tokens of one row: all layers, keys and values."""

    __slots__ = ("index", "slab")

    def __init__(self, slab: Slab, index: int) -> None:
        self.slab = slab
        self.index = index

    @property
    def capacity(self) -> int:
        return self.slab.capacity

    @property
    def first(self) -> int:
        """Where this slot starts in the slab's flat token axis."""
        return self.index * self.slab.capacity

    def views(self, length: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Keys and values of the first `length` tokens, per layer `[1, kv_heads, length, dim]`."""
        held = self.slab.kv[:, :, self.index, :length].transpose(2, 3).unsqueeze(2)
        return held[:, 0].unbind(0), held[:, 1].unbind(0)

    def clear(self) -> None:
        """Takes out what another row has left."""
        self.slab.kv[:, :, self.index].zero_()

    def copy_from(self, other: Slot, length: int) -> None:
        """Takes over the first `length` tokens of another slot."""
        self.slab.kv[:, :, self.index, :length] = other.slab.kv[:, :, other.index, :length]


class KVCache:
    """Slots within a budget of tokens. Not thread-safe: the engine's thread owns it.

    With an `arena` slots are whole pages of it, and `shape` is `arena.shape`.
    """

    def __init__(self, shape: CacheShape, arena: Arena | None = None) -> None:
        self.shape = shape
        self._arena = arena
        self._slabs: dict[int, list[Slab]] = {}
        self.allocated = 0

    def slot_size(self, tokens: int) -> int:
        """Capacity of the slot that a row of `tokens` tokens gets."""
        size = SMALLEST
        while size < tokens:
            size *= 2
        size = max(tokens, min(size, self.shape.capacity))
        return size if self._arena is None else -(-size // SMALLEST) * SMALLEST

    def allocate(self, tokens: int) -> Slot | None:
        """A slot for at least `tokens` tokens, or None if the budget is used up."""
        capacity = self.slot_size(tokens)
        slabs = self._slabs.setdefault(capacity, [])
        for slab in slabs:
            if slab.free:
                slot = Slot(slab, slab.free.pop())
                if self.shape.device.type != "cpu":
                    slot.clear()  # a row that failed may have left NaN past the new row's end
                return slot
        new = self._slab(capacity)
        if new is None:
            return None
        slabs.append(new)
        self.allocated += new.tokens
        return Slot(new, new.free.pop())

    def _slab(self, capacity: int) -> Slab | None:
        """A new slab of as many slots as are usual and fit, at least one."""
        slots = max(1, self.shape.slab_tokens // capacity)
        slots = min(slots, (self.shape.budget - self.allocated) // capacity)
        if self._arena is None:
            return Slab(self.shape, slots, capacity) if slots >= 1 else None
        slots = min(slots, self._arena.largest // capacity)
        origin = self._arena.allocate(slots * capacity) if slots >= 1 else None
        if origin is None:
            return None
        slab = Slab(self.shape, slots, capacity, self._arena, origin)
        slab.kv.zero_()  # what an earlier slab of other slots has left there
        return slab

    def free(self, slot: Slot) -> None:
        """Gives a slot back; an empty slab is released."""
        slab = slot.slab
        slab.free.append(slot.index)
        if len(slab.free) == slab.slots:
            self._slabs[slab.capacity].remove(slab)
            self.allocated -= slab.tokens
            if slab.arena is not None:
                slab.arena.free(slab.origin, slab.tokens)

    @property
    def used_slots(self) -> int:
        return sum(s.slots - len(s.free) for slabs in self._slabs.values() for s in slabs)

    @property
    def allocated_bytes(self) -> int:
        return self.allocated * self.shape.bytes_per_token
