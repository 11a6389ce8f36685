"""A step of few tokens with shapes that do not change, so that a CUDA graph can replay it.

Every token is a row of attention by itself: where its slot starts in the arena, and how much of it
the token may see. A token that follows another in the same step sees it because keys are written
before they are read. So one number of tokens and one length make a *bucket*; newest tokens, drafts
and forced tokens need no further ones. Places of a bucket that no token takes are padding: token 0
at the arena's spare place.

The same function runs on any device, captured or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from provider.engine.arena import PAGE, Arena
from provider.engine.runner import Step
from provider.engine.transfer import pins

if TYPE_CHECKING:
    from provider.engine.adapters import Adapter
    from provider.engine.attention import Attention
    from provider.engine.fused import FusedRunner

IDS, POSITIONS, PLACES, STARTS, LENGTHS, WANTED = range(6)
"""Rows of a step's numbers: token, position in its answer, place that it is written to, where its
slot starts, how many places it sees, packed place of each wanted logit."""


@dataclass(frozen=True)
class Bucket:
    """`tokens` places that see at most `length`; all belong to one adapter (0: none)."""

    tokens: int
    length: int
    adapter: int


def numbers(step: Step, bucket: Bucket, spare: int) -> list[list[int]]:
    """The six rows of a step's numbers, padded to the bucket."""
    padding = bucket.tokens - len(step.tokens)
    places: list[int] = []
    starts: list[int] = []
    for segment in step.segments:
        first = segment.slot.slab.origin + segment.slot.first
        places += range(first + segment.position, first + segment.length)
        starts += [first] * segment.count
    return [
        step.tokens + [0] * padding,
        step.positions + [0] * padding,
        places + [spare] * padding,
        starts + [spare] * padding,
        [position + 1 for position in step.positions] + [1] * padding,
        step.wanted + [0] * (bucket.tokens - len(step.wanted)),
    ]


class GatheredAttention:
    """Reads each token's part of the arena by index; what lies beyond it is not read."""

    def __init__(self, arena: Arena, given: Tensor, bucket: Bucket) -> None:
        self._arena = arena
        self._places = given[PLACES]
        lengths = given[LENGTHS].unsqueeze(1)
        at = torch.arange(bucket.length, device=given.device).unsqueeze(0)
        self._seen = given[STARTS].unsqueeze(1) + torch.minimum(at, lengths - 1)
        self._visible = (at < lengths)[:, None, None, :]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        self._arena.keys[layer].index_copy_(0, self._places, keys)
        self._arena.values[layer].index_copy_(0, self._places, values)

    def attend(
        self, layer: int, query: Tensor, scale: float | None, window: int | None = None
    ) -> Tensor:
        keys = self._arena.keys[layer][self._seen].transpose(1, 2)
        values = self._arena.values[layer][self._seen].transpose(1, 2)
        count, heads, width = query.shape
        grouped = query.view(count, keys.shape[1], -1, width)
        out = scaled_dot_product_attention(
            grouped, keys, values, attn_mask=self._visible, scale=scale
        )
        return out.reshape(count, heads, width)


class PagedAttention(GatheredAttention):
    """Flash attention on the arena's pages, which reads keys and values where they lie."""

    def __init__(self, arena: Arena, given: Tensor, bucket: Bucket) -> None:
        from torch.nn.attention.varlen import varlen_attn

        self._attend = varlen_attn
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
        keys, values = self._arena.keys[layer], self._arena.values[layer]
        size = (self._arena.pages + 1, PAGE, *keys.shape[1:])
        out = self._attend(
            query.contiguous(),
            keys.view(size),
            values.view(size),
            self._ends,
            self._ends,  # lengths come from `seqused_k`, places from the table
            1,
            self._longest,
            scale=scale,
            enable_gqa=True,
            seqused_k=self._lengths,
            block_table=self._table,
        )
        return out if isinstance(out, Tensor) else out[0]


class StaticStep:
    """One bucket's step: its numbers on the device, and its logits in the first rows of `out`."""

    def __init__(
        self,
        runner: FusedRunner,
        arena: Arena,
        bucket: Bucket,
        out: Tensor,
        attention: type[GatheredAttention],
        adapter: Adapter | None,
    ) -> None:
        self.bucket = bucket
        self._runner = runner
        self._arena = arena
        self._attention = attention
        ranges = [] if adapter is None else [(adapter, 0, bucket.tokens)]
        self._step = Step(adapters=ranges)
        self._given = torch.zeros((6, bucket.tokens), dtype=torch.long, device=runner.device)
        self._out = out[: bucket.tokens]

    def fill(self, step: Step) -> None:
        """Brings the step's numbers to the device, without waiting for it."""
        host = torch.tensor(numbers(step, self.bucket, self._arena.spare))
        if pins(self._given.device):
            host = host.pin_memory()
        self._given.copy_(host, non_blocking=True)

    def compute(self) -> None:
        """The forward pass over what `fill` has brought."""
        given = self._given
        plan: Attention = self._attention(self._arena, given, self.bucket)
        ids, positions, wanted = given[IDS], given[POSITIONS], given[WANTED]
        self._out.copy_(self._runner.run(ids, positions, wanted, plan, self._step))
