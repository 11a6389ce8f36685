"""Flash attention on the arena's pages: keys and values are read where they lie.

For static steps (`PagedAttention`: one query a row, any graph serves every length) and for packed
ones (`PagedPlan`: prompts and newest tokens of all rows in one launch, without a mask). Both call
torch's `varlen_attn`, which wants bf16 or fp16, heads of a multiple of 8 up to 256, pages of 256
tokens and indices in int32, on compute capability 8.0 or later (its source, torch 2.13).
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from provider.engine.arena import PAGE, Arena
from provider.engine.attention import Segment
from provider.engine.static_step import LENGTHS, PLACES, STARTS, Bucket, GatheredAttention
from provider.engine.transfer import upload


class PagedAttention(GatheredAttention):
    """Flash attention for rows of one query each."""

    def __init__(self, arena: Arena, given: Tensor, bucket: Bucket) -> None:
        self._arena = arena
        self._places = given[PLACES]
        narrow = given.int()
        self._lengths = narrow[LENGTHS].contiguous()
        self._ends = torch.arange(bucket.tokens + 1, dtype=torch.int32, device=given.device)
        pages = torch.arange(-(-bucket.length // PAGE), dtype=torch.int32, device=given.device)
        first = torch.div(narrow[STARTS], PAGE, rounding_mode="floor").unsqueeze(1)
        # Pages that a row does not have are not read, but an entry should name a page that exists.
        self._table = (first + pages).clamp(max=arena.pages).contiguous()
        self._longest = bucket.length

    def attend(
        self, layer: int, query: Tensor, scale: float | None, window: int | None = None
    ) -> Tensor:
        # Lengths come from `seqused_k`, places from the table: the ends of keys are not read.
        stated = {"seqused_k": self._lengths, "block_table": self._table, "scale": scale}
        return _attend(self._arena, layer, query, self._ends, 1, self._longest, stated)


class PagedPlan:
    """Attention of a packed step whose rows lie in the arena; see `provider.engine.attention`."""

    def __init__(self, arena: Arena, segments: list[Segment], device: torch.device) -> None:
        firsts = [segment.slot.slab.origin + segment.slot.first for segment in segments]
        places: list[int] = []
        for segment, first in zip(segments, firsts, strict=True):
            places += range(first + segment.position, first + segment.length)
        self._arena = arena
        self._places = upload(places, device)
        self._most = max(segment.count for segment in segments)
        self._longest = max(segment.length for segment in segments)
        pages = -(-self._longest // PAGE)
        ends = [0, *accumulate(segment.count for segment in segments)]
        lengths = [segment.length for segment in segments]
        table = [min(at // PAGE + page, arena.pages) for at in firsts for page in range(pages)]
        sent = upload(ends + lengths + table, device, torch.int32)
        self._ends, self._lengths, rest = sent.split([len(ends), len(lengths), len(table)])
        self._table = rest.view(len(segments), pages)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        self._arena.write(layer, self._places, keys, values)

    def attend(
        self, layer: int, query: Tensor, scale: float | None, window: int | None = None
    ) -> Tensor:
        stated: dict[str, Any] = {
            "seqused_k": self._lengths,
            "block_table": self._table,
            "scale": scale,
            # Up to each query's own place, counted from the row's end. A lone query sees it all.
            "window_size": (-1, 0) if self._most > 1 else (-1, -1),
        }
        return _attend(self._arena, layer, query, self._ends, self._most, self._longest, stated)


def _attend(
    arena: Arena,
    layer: int,
    query: Tensor,
    ends: Tensor,
    most: int,
    longest: int,
    stated: dict[str, Any],
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    keys, values = arena.keys[layer], arena.values[layer]
    size = (arena.pages + 1, PAGE, *keys.shape[1:])
    pages = (keys.view(size), values.view(size))
    out: Any = varlen_attn(
        query.contiguous(), *pages, ends, ends, most, longest, enable_gqa=True, **stated
    )
    found: Tensor = out if isinstance(out, Tensor) else out[0]
    return found


def lies_in(arena: Arena, segments: list[Segment]) -> bool:
    """Whether all rows of a step are in this arena."""
    return all(segment.slot.slab.arena is arena for segment in segments)
