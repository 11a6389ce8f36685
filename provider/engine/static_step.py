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

from provider.engine.arena import Arena
from provider.engine.lora_bank import Masked, Tables, owners
from provider.engine.runner import Step
from provider.engine.transfer import pins

if TYPE_CHECKING:
    from provider.engine.attention import Attention
    from provider.engine.fused import FusedRunner

IDS, POSITIONS, PLACES, STARTS, LENGTHS, WANTED, OWNERS = range(7)
"""Rows of a step's numbers: token, position in its answer, place that it is written to, where its
slot starts, how many places it sees, packed place of each wanted logit, number of its adapter."""


@dataclass(frozen=True)
class Bucket:
    """`tokens` places that see at most `length`. `adapters` is the version of the tables that their
    adapters are in (0: no place has one)."""

    tokens: int
    length: int
    adapters: int = 0


def numbers(step: Step, bucket: Bucket, spare: int, adapters: list[int]) -> list[list[int]]:
    """The rows of a step's numbers, padded to the bucket; `adapters` one for each token."""
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
        adapters + [0] * padding,
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
        self._arena.write(layer, self._places, keys, values)

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


class StaticStep:
    """One bucket's step: its numbers on the device, and its logits in the first rows of `out`."""

    def __init__(
        self,
        runner: FusedRunner,
        arena: Arena,
        bucket: Bucket,
        out: Tensor,
        attention: type[GatheredAttention],
        tables: Tables | None,
    ) -> None:
        self.bucket = bucket
        self._runner = runner
        self._arena = arena
        self._attention = attention
        self._tables = tables
        self._given = torch.zeros((7, bucket.tokens), dtype=torch.long, device=runner.device)
        self._out = out[: bucket.tokens]

    def fill(self, step: Step) -> None:
        """Brings the step's numbers to the device, without waiting for it.

        The pinned memory is the step's own: torch gives it to nobody else before the copy is done.
        """
        bank = self._runner.bank
        adapters = [0] * len(step.tokens)
        if bank is not None and step.adapters:
            adapters = owners(step.adapters, len(step.tokens), bank)
        host = torch.tensor(numbers(step, self.bucket, self._arena.spare, adapters))
        if pins(self._given.device):
            host = host.pin_memory()
        self._given.copy_(host, non_blocking=True)

    def compute(self) -> None:
        """The forward pass over what `fill` has brought."""
        given = self._given
        plan: Attention = self._attention(self._arena, given, self.bucket)
        lora = None if self._tables is None else Masked(self._tables, given[OWNERS])
        ids, positions, wanted = given[IDS], given[POSITIONS], given[WANTED]
        self._out.copy_(self._runner.run(ids, positions, wanted, plan, lora))
