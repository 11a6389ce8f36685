"""The tokens of one row, each as likely as its weight, to be drawn with or without replacement.

Weights are summed up by blocks of tokens, so a draw looks at the sums and at one block. That makes
a further draw from the same row nearly free.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provider.engine.native.kernels import SUMMED, Kernels


class Urn:
    """Tokens with the weights `exp(values / temperature)`; `values` is `[tokens]` float32."""

    def __init__(self, values: Tensor, temperature: float, kernels: Kernels | None = None) -> None:
        self._values = values
        self._temperature = temperature
        self._removed: list[int] = []
        if kernels is not None and values.device.type == "cpu" and values.dtype is torch.float32:
            sums, self._most = kernels.weigh(values, 1 / temperature)
        else:
            sums, self._most = _weigh(values, temperature)
        self._sums: NDArray[np.float64] = sums.double().cpu().numpy()

    def draw(self, uniform: float) -> int | None:
        """The token at which the cumulated weights pass `uniform`, in [0, 1), of their sum.

        None if nothing of any weight is left. Raises ValueError for values that are not numbers.
        """
        ends = self._sums.cumsum()
        total = float(ends[-1])
        if math.isnan(total):
            raise ValueError("the model's logits are not numbers")
        if not total:
            return None
        target = total * uniform
        block = int(ends.searchsorted(target, side="right"))
        if block == ends.shape[0]:
            block = int(self._sums.nonzero()[0][-1])
        inside = self._block(block).cumsum()
        at = int(inside.searchsorted(target - (ends[block - 1] if block else 0.0), side="right"))
        if at == inside.shape[0]:
            at = int(inside.searchsorted(inside[-1]))  # its sum was rounded otherwise
        return block * SUMMED + at

    def remove(self, token: int) -> None:
        """Takes a token out; the others keep their weights."""
        self._removed.append(token)
        self._sums[token // SUMMED] = self._block(token // SUMMED).sum()

    def _block(self, block: int) -> NDArray[np.float64]:
        """The weights of one block's tokens."""
        start = block * SUMMED
        values = self._values[start : start + SUMMED].cpu().numpy().astype(np.float64)
        weights: NDArray[np.float64] = np.exp((values - self._most) / self._temperature)
        for token in self._removed:
            if start <= token < start + SUMMED:
                weights[token - start] = 0
        return weights


def _weigh(values: Tensor, temperature: float) -> tuple[Tensor, float]:
    """What `Kernels.weigh` gives, by torch."""
    most = values.max()
    weights = (values - most).div_(temperature).exp_()
    whole = weights.shape[0] // SUMMED * SUMMED
    sums = [weights[:whole].view(-1, SUMMED).sum(1), weights[whole:].sum()[None]]
    return torch.cat(sums), float(most)
