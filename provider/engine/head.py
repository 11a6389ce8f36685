"""The product that makes logits, which is a good part of a small model's work.

Where a grammar leaves few tokens, only the logits in whose blocks of 64 these lie are computed. The
others are minus infinity; each that is computed is what it would have been, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from provider.engine.constraint import Blocks
from provider.engine.linear import Linear
from provider.engine.native.kernels import BLOCK


class Head:
    """`narrows` says whether `logits` leaves anything out."""

    def __init__(self, linear: Linear) -> None:
        self.linear = linear
        self.narrows = linear.selects

    def __call__(self, x: Tensor) -> Tensor:
        """All logits, in the model's type."""
        return self.linear(x)

    def logits(self, x: Tensor, outputs: Sequence[Blocks | None]) -> Tensor:
        """Logits `[rows, vocabulary]` in float32 of the blocks that `outputs` names for each row,
        and of others. It may be empty: all of them."""
        few = [row for row, blocks in enumerate(outputs) if blocks is not None]
        if not few or not self.narrows:
            return self.linear(x).float()
        named = np.unique(np.concatenate([blocks for blocks in outputs if blocks is not None]))
        blocks = torch.from_numpy(named)
        chosen = torch.tensor(few)
        part = self.linear.select(x[chosen], blocks).float()
        whole = [row for row, named in enumerate(outputs) if named is None]
        found = self._start(x, whole)
        found.view(x.shape[0], -1, BLOCK)[chosen.unsqueeze(1), blocks] = part
        return found

    def _start(self, x: Tensor, whole: list[int]) -> Tensor:
        """Rows of minus infinity, and those that are computed as a whole."""
        found = x.new_full((x.shape[0], self.linear.outputs), -torch.inf, dtype=torch.float32)
        if whole:
            rows = torch.tensor(whole)
            found[rows] = self.linear(x[rows]).float()
        return found
