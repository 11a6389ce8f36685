"""Attention of a packed step: many rows' tokens in one sequence, each over its own cache slot.

The model's own forward runs on `[1, T]` tokens; only its attention function is ours, registered
with transformers' `AttentionInterface`. It writes the new keys and values into the rows' slots and
lets each row attend to its own slot, so rows cannot see one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from provider.engine.cache import Slab, Slot
from provider.engine.native.kernels import Kernels, Row, attends
from provider.engine.transfer import upload

NAME = "sllm_packed"
"""Under this name transformers finds `packed_attention`."""
_MASKED = 1 << 24
"""Places of a mask: queries times heads of a group times what they may see."""


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


class Attention(Protocol):
    """Where the tokens of one step go and what they may see; shared by all layers."""

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Stores the step's keys and values `[T, kv_heads, head_dim]` of one layer."""

    def attend(
        self, layer: int, query: Tensor, scale: float | None, window: int | None = None
    ) -> Tensor:
        """Attention output `[T, heads, head_dim]` for queries `[T, heads, head_dim]`."""


class AttentionPlan:
    """Where the tokens of one step go and what they may see; shared by all layers.

    On a CPU every row attends by itself, without padding, with `kernels` of our own where there are
    any. Elsewhere kernel launches are what costs,
    so the rows of a slab that have one new token attend together, padded to the longest.
    """

    def __init__(
        self,
        segments: list[Segment],
        device: torch.device,
        together: bool | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        self.segments = segments
        self.device = device
        self.writes = _writes(segments, device)
        if together is None:
            together = device.type != "cpu"
        self.groups = _groups(segments, device) if together else []
        self._rows = _rows(segments) if kernels is not None else None
        self._kernels = kernels
        if self._rows is not None:
            return
        grouped = {id(segment) for group in self.groups for segment in group.segments}
        self._alone = [segment for segment in segments if id(segment) not in grouped]
        self._views = [segment.slot.views(segment.length) for segment in self._alone]
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
        if self._rows is not None and self._kernels is not None:
            if scale is None:
                scale = query.shape[2] ** -0.5
            kv_heads = self.segments[0].slot.slab.kv.shape[-2]
            return self._kernels.attend(self._rows, layer, query, kv_heads, scale, window)
        if not self.groups and len(self._alone) == 1:
            return self._attend_alone(layer, 0, query, scale, window)
        out = torch.empty_like(query)
        for group in self.groups:
            out[group.offsets] = group.attend(layer, query[group.offsets], scale, window)
        for number, segment in enumerate(self._alone):
            part = slice(segment.offset, segment.offset + segment.count)
            out[part] = self._attend_alone(layer, number, query[part], scale, window)
        return out

    def _attend_alone(
        self, layer: int, number: int, query: Tensor, scale: float | None, window: int | None
    ) -> Tensor:
        keys, values = self._views[number]
        key, value = keys[layer], values[layer]  # [1, kv_heads, length, head_dim]
        count, heads, kv_heads = query.shape[0], query.shape[1], key.shape[1]
        groups = heads // kv_heads
        if count == 1:
            mask = self._mask(number, window, 1)
            single = query.view(1, kv_heads, groups, -1)
            out = scaled_dot_product_attention(single, key, value, attn_mask=mask, scale=scale)
            return out.view(1, heads, -1)
        most = max(1, _MASKED // (groups * self._alone[number].length))
        if count > most:  # a mask of all of a long prompt's places would take gigabytes
            parts = [
                self._attend_part(number, slice(at, at + most), query, key, value, scale, window)
                for at in range(0, count, most)
            ]
            return torch.cat(parts)
        mask = self._mask(number, window, groups)
        return _grouped(query, key, value, mask, scale)

    def _attend_part(
        self,
        number: int,
        part: slice,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        window: int | None,
    ) -> Tensor:
        """Some of a row's queries, which see what lies before the last of them."""
        whole = self._alone[number]
        few = query[part]
        segment = Segment(0, few.shape[0], whole.position + part.start, whole.slot)
        seen = slice(0, segment.length)
        mask = _visible(segment, window, query.shape[1] // key.shape[1], self.device)
        return _grouped(few, key[:, :, seen], value[:, :, seen], mask, scale)

    def _mask(self, number: int, window: int | None, groups: int) -> Tensor | None:
        """True where a query may look, `[groups * count, length]`; None if everywhere."""
        known = (number, window, groups)
        if known not in self._masks:
            self._masks[known] = _visible(self._alone[number], window, groups, self.device)
        return self._masks[known]


def _grouped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """One row's attention, `[count, heads, head_dim]`: heads of a group are further queries."""
    (count, heads, _), kv_heads = query.shape, key.shape[1]
    groups = heads // kv_heads
    grouped = query.view(count, kv_heads, groups, -1).permute(1, 2, 0, 3)
    grouped = grouped.reshape(1, kv_heads, groups * count, -1)
    out = scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scale)
    out = out.view(kv_heads, groups, count, -1).permute(2, 0, 1, 3)
    return out.reshape(count, heads, -1)


class Group:
    """Rows of one slab with one new token each; the slots between them take part unread."""

    def __init__(self, segments: list[Segment], device: torch.device) -> None:
        self.segments = segments
        self.slab = segments[0].slot.slab
        slots = [segment.slot.index for segment in segments]
        self.first, self.stop = min(slots), max(slots) + 1
        self.longest = max(segment.length for segment in segments)
        places = [slot - self.first for slot in slots]
        self.offsets, self._places = upload([[s.offset for s in segments], places], device)
        lengths = dict(zip(places, (s.length for s in segments), strict=True))
        every = [lengths.get(place, 1) for place in range(self.stop - self.first)]
        self._lengths = upload(every, device)
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, layer: int, query: Tensor, scale: float | None, window: int | None) -> Tensor:
        """Output `[rows, heads, head_dim]` for the rows' queries of that shape."""
        held = self.slab.kv[layer, :, self.first : self.stop, : self.longest].transpose(2, 3)
        rows, heads, dim = query.shape
        kv_heads = held.shape[2]
        spread = query.new_zeros((self.stop - self.first, kv_heads, heads // kv_heads, dim))
        spread[self._places] = query.view(rows, kv_heads, heads // kv_heads, dim)
        out = scaled_dot_product_attention(
            spread, held[0], held[1], attn_mask=self._mask(window), scale=scale
        )
        return out[self._places].reshape(rows, heads, dim)

    def _mask(self, window: int | None) -> Tensor:
        if window not in self._masks:
            at = torch.arange(self.longest, device=self._lengths.device)
            ends = self._lengths.unsqueeze(1)
            visible = at < ends
            if window is not None:
                visible &= at >= ends - window
            self._masks[window] = visible[:, None, None, :]
        return self._masks[window]


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
            None if whole else upload(packed, device),
            upload(flat, device),
        )
        for slab, packed, flat in by_slab.values()
    ]


def _rows(segments: list[Segment]) -> Any:
    """Where each row lies, for the kernels; None for heads that they do not take."""
    if not segments:
        return None
    held = segments[0].slot.slab.kv
    if not attends(held.shape[-1], held.dtype):
        return None
    rows = (Row * len(segments))()
    for row, segment in zip(rows, segments, strict=True):
        held, index = segment.slot.slab.kv, segment.slot.index
        row.offset, row.count, row.position = segment.offset, segment.count, segment.position
        at = held.data_ptr() + held.itemsize * index * held.stride(2)
        row.keys, row.values = at, at + held.itemsize * held.stride(1)
        row.layer = held.stride(0)
    return rows


def _groups(segments: list[Segment], device: torch.device) -> list[Group]:
    """Rows with one new token, by slab; a slab that is mostly other rows' is not worth padding."""
    by_slab: dict[int, list[Segment]] = {}
    for segment in segments:
        if segment.count == 1:
            by_slab.setdefault(id(segment.slot.slab), []).append(segment)
    groups = [Group(rows, device) for rows in by_slab.values() if len(rows) > 1]
    return [g for g in groups if g.stop - g.first <= 2 * len(g.segments)]


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
