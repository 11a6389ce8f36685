"""A weight matrix in the layout that the device multiplies fastest.

On CPUs oneDNN has its own blocked layouts. torch converts a plain weight on every call; converted
once, a matrix-vector product reads memory at more than twice the speed (see docs/engine.md). The
values are the same, and `plain` gives them back bit for bit. With kernels of our own
(`provider.engine.native`) products of few rows read the same memory at almost its full speed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from provider.engine.native.kernels import BLOCK, Kernels, packed_address


class Linear:
    """`y = x W^T + b` for `x [..., in]`; W is given as `[out, in]`."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, kernels: Kernels | None = None
    ) -> None:
        self.bias = bias
        self.packed = can_pack(weight)
        reorder: Any = torch.ops.mkldnn._reorder_linear_weight if self.packed else None
        self.weight: Tensor = reorder(weight.contiguous()) if self.packed else weight
        self._multiply: Any = torch.ops.mkldnn._linear_pointwise if self.packed else None
        self.outputs, self._inputs = weight.shape
        self._few = 0
        self._address: Any = None
        if kernels is not None and self.packed:
            self._address = packed_address(self.weight, weight)
            self._product = kernels.product
            self._few = 0 if self._address is None else kernels.rows

    def __call__(self, x: Tensor) -> Tensor:
        if self._few and 0 < x.numel() <= self._few * self._inputs and self._reads(x):
            return self._few_rows(x)
        if self.packed:
            packed: Tensor = self._multiply(x, self.weight, self.bias, "none", [], "")
            return packed
        return linear(x, self.weight, self.bias)

    def _reads(self, x: Tensor) -> bool:
        """Whether `x` is what the kernel takes it for; it would read past the weight's end."""
        return x.shape[-1] == self._inputs and x.dtype is torch.bfloat16

    def _few_rows(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        product: Tensor = self._product(rows, self._address, self.outputs)
        if self.bias is not None:
            product = product + self.bias
        return product if x.dim() == 2 else product.view(*x.shape[:-1], -1)

    @property
    def selects(self) -> bool:
        """Whether `select` can be called."""
        return self._address is not None

    def select(self, x: Tensor, blocks: Tensor) -> Tensor:
        """`[rows, blocks, 64]`: the outputs `64 b ... 64 b + 63` for each b of `blocks` (int64) and
        `x [rows, in]`, to the last bit what few rows give as a whole. Without a bias."""
        if not self._reads(x):
            raise TypeError(f"bfloat16 [rows, {self._inputs}] expected, not {x.dtype} {x.shape}")
        product: Tensor = self._product(x, self._address, self.outputs, blocks)
        return product.view(x.shape[0], -1, BLOCK)

    def plain(self) -> Tensor:
        """The weight as it was given."""
        return self.weight.to_dense() if self.packed else self.weight


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN multiplies this matrix in its own layout on this machine."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32


def pack_modules(model: nn.Module, shared: Tensor | None, kernels: Kernels | None = None) -> None:
    """Lets the plain linear modules of a model multiply in the device's own layout.

    They compute what they did, and give their weight up for it, except the one whose weight is
    `shared` (with the embedding).
    """
    for module in model.modules():
        if type(module) is nn.Linear and can_pack(module.weight):
            bias = None if module.bias is None else module.bias.data
            packed: Any = Linear(module.weight.data, bias, kernels)
            module.forward = packed  # type: ignore[method-assign]
            if module.weight is not shared:
                module.weight.data = module.weight.data.new_empty(0)
