"""Causal attention on each conversation of a row by itself: no mask, no work across borders.

A mask over the whole row costs the square of its length, in memory and in time; here a row of many
conversations costs the sum of their squares. The sums are those of torch's
scaled_dot_product_attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "packed"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    documents: Sequence[int] | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """`query` [batch, heads, length, size], `key` and `value` with as many or fewer heads; returns
    [batch, length, heads, size]. `documents` are borders, 0 and the length included; None is one
    document. Raises ValueError for a mask or a cache: this is for training."""
    length = query.shape[2]
    if attention_mask is not None or key.shape[2] != length:
        raise ValueError(f"{NAME} attention takes no mask and no cache: it is for training only")
    pieces = []
    for start, end in pairwise(documents or (0, length)):
        window = _band(end - start, sliding_window, query.device)
        pieces.append(
            scaled_dot_product_attention(
                query[:, :, start:end],
                key[:, :, start:end],
                value[:, :, start:end],
                attn_mask=window,
                dropout_p=dropout if module.training else 0.0,
                is_causal=window is None,
                scale=scaling,
                enable_gqa=key.shape[1] != query.shape[1],
            )
        )
    return torch.cat(pieces, dim=2).transpose(1, 2).contiguous(), None


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """The mask of a sliding window, None where a document is no longer than it."""
    if window is None or length <= window:
        return None
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril() & ones.triu(1 - window)


def register() -> None:
    """Make `attn_implementation="packed"` known to transformers. Idempotent."""
    AttentionInterface.register(NAME, packed_attention)
