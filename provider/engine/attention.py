"""Attention of a packed step: many rows' tokens in one sequence, each over its own cache slot.

The model's own forward runs on `[1, T]` tokens; only its attention function is ours, registered
with transformers' `AttentionInterface`. It writes the new keys and values into the rows' slots and
lets each row attend to its own slot, so rows cannot see one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from provider.engine.cache import Slab, Slot

NAME = "sllm_packed"
"""Under this name transformers finds `packed_attention`."""


@dataclass(slots=True)
class Segment:
    """`count` new tokens of one row: at `offset` of the packed step, at `position` of the row."""

    offset: int
    count: int
    position: int
    slot: Slot

    @property
    def length(self) -> int:
        """Tokens of the row after this step."""
        return self.position + self.count


class AttentionPlan:
    """Where the tokens of one step go and what they may see; shared by all layers."""

    def __init__(self, segments: list[Segment], device: torch.device) -> None:
        self.segments = segments
        self.device = device
        self.writes = _writes(segments, device)
        self._views = [segment.slot.views(segment.length) for segment in segments]
        self._masks: dict[tuple[int, int | None, int], Tensor | None] = {}

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Stores the step's keys and values `[T, kv_heads, head_dim]` of one layer."""
        for slab, packed, flat in self.writes:
            if packed is None:
                slab.keys[layer].index_copy_(0, flat, keys)
                slab.values[layer].index_copy_(0, flat, values)
            else:
                slab.keys[layer].index_copy_(0, flat, keys[packed])
                slab.values[layer].index_copy_(0, flat, values[packed])

    def attend(
        self, layer: int, query: Tensor, scale: float | None, window: int | None = None
    ) -> Tensor:
        """Attention output `[T, heads, head_dim]` for queries `[T, heads, head_dim]`.

        Query heads that share a key/value head are laid out as further queries of it, so grouped
        heads need no copy of the cache.
        """
        outputs = []
        for number, segment in enumerate(self.segments):
            keys, values = self._views[number]
            key, value = keys[layer], values[layer]
            count, kv_heads = segment.count, key.shape[1]
            queries = query[segment.offset : segment.offset + count]
            groups = query.shape[1] // kv_heads
            if count == 1:
                grouped = queries.view(1, kv_heads, groups, -1)
            else:
                grouped = queries.view(count, kv_heads, groups, -1).permute(1, 2, 0, 3)
                grouped = grouped.reshape(1, kv_heads, groups * count, -1)
            out = scaled_dot_product_attention(
                grouped, key, value, attn_mask=self._mask(number, window, groups), scale=scale
            )
            if count == 1:
                outputs.append(out.view(1, kv_heads * groups, -1))
            else:
                out = out.view(kv_heads, groups, count, -1).permute(2, 0, 1, 3)
                outputs.append(out.reshape(count, kv_heads * groups, -1))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _mask(self, number: int, window: int | None, groups: int) -> Tensor | None:
        """True where a query may look, `[groups * count, length]`; None if everywhere."""
        known = (number, window, groups)
        if known not in self._masks:
            self._masks[known] = _visible(self.segments[number], window, groups, self.device)
        return self._masks[known]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packed: AttentionPlan | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: `[1, heads, T, head_dim]` in, `[1, T, heads, dim]` out."""
    if packed is None:
        raise RuntimeError("the packed attention function needs the step's plan (packed=...)")
    layer: int = module.layer_idx  # type: ignore[assignment]
    packed.write(layer, key[0].transpose(0, 1), value[0].transpose(0, 1))
    out = packed.attend(layer, query[0].transpose(0, 1), scaling, sliding_window)
    return out.unsqueeze(0), None


def _writes(
    segments: list[Segment], device: torch.device
) -> list[tuple[Slab, Tensor | None, Tensor]]:
    """Per slab: which packed tokens (None: all) go to which flat places."""
    by_slab: dict[int, tuple[Slab, list[int], list[int]]] = {}
    for segment in segments:
        slab = segment.slot.slab
        _, packed, flat = by_slab.setdefault(id(slab), (slab, [], []))
        packed.extend(range(segment.offset, segment.offset + segment.count))
        start = segment.slot.first + segment.position
        flat.extend(range(start, start + segment.count))
    whole = len(by_slab) == 1
    return [
        (
            slab,
            None if whole else torch.tensor(packed, device=device),
            torch.tensor(flat, device=device),
        )
        for slab, packed, flat in by_slab.values()
    ]


def _visible(
    segment: Segment, window: int | None, groups: int, device: torch.device
) -> Tensor | None:
    if segment.count == 1 and (window is None or segment.length <= window):
        return None
    at = torch.arange(segment.position, segment.length, device=device).unsqueeze(1)
    seen = torch.arange(segment.length, device=device).unsqueeze(0)
    visible = seen <= at
    if window is not None:
        visible &= seen > at - window
    return visible.repeat(groups, 1)
