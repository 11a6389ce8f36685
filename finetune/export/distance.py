"""How far one set of logits is from another. Pure: tensors in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Distance:
    """`relative` is |difference| / |reference|, both as Euclidean norms over every logit;
    `agreement` the share of positions whose most likely token is the same."""

    largest: float
    mean: float
    relative: float
    agreement: float
    positions: int


def distance(found: Sequence[torch.Tensor], reference: Sequence[torch.Tensor]) -> Distance:
    """Of `found` from `reference`: logits [positions, vocabulary] of the same prompts.

    A value that is not finite makes every distance infinite. `ValueError` for other shapes.
    """
    largest = absolute = squared = norm = 0.0
    same = positions = elements = 0
    for one, other in zip(found, reference, strict=True):
        if one.shape != other.shape:
            raise ValueError(f"logits have shapes {tuple(one.shape)} and {tuple(other.shape)}")
        apart = one.double() - other.double()
        if not bool(torch.isfinite(apart).all()):
            return Distance(float("inf"), float("inf"), float("inf"), 0.0, len(one))
        largest = max(largest, float(apart.abs().max()))
        absolute += float(apart.abs().sum())
        squared += float(apart.square().sum())
        norm += float(other.double().square().sum())
        same += int((one.argmax(-1) == other.argmax(-1)).sum())
        positions += len(one)
        elements += one.numel()
    relative = (squared / norm) ** 0.5 if norm else float(squared > 0) and float("inf")
    return Distance(
        largest, absolute / max(elements, 1), relative, same / max(positions, 1), positions
    )
