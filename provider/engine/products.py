"""Several linear modules of a model with one input, as one product.

Plain weights are laid out in one matrix (`provider.engine.linear`). Quantised modules (NF4 and int8
of bitsandbytes) keep their weights and are multiplied one after the other. Nothing here reads a
value on the host, so that a CUDA graph can hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from provider.engine.linear import Linear
from provider.engine.native.kernels import Kernels

if TYPE_CHECKING:
    from provider.engine.lora_bank import Adapting

_FEW = 16
"""Rows up to which torch's int8 kernel of CPUs is faster than widening the weights."""


@dataclass(slots=True)
class Part:
    """Which columns of a fused product a module of the model makes."""

    module: nn.Linear
    start: int
    stop: int


class Quantised(Protocol):
    """One quantised module's product, and the bytes it takes (`widened`: for its weights in the
    type of `x`, while it multiplies)."""

    nbytes: int
    widened: int

    def __call__(self, x: Tensor) -> Tensor: ...


class FourBit:
    """A module of bitsandbytes in NF4, which multiplies by itself.

    On CUDA one kernel reads the narrow weights where rows are few (bitsandbytes 0.50), else they
    are widened first; neither waits for the device (read: `gemm_4bit` of its CUDA backend).
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        state = module.weight.quant_state
        nested = state.state2 if state.nested else None
        held = [module.weight, state.absmax, *([] if nested is None else [nested.absmax])]
        self.nbytes = sum(tensor.nbytes for tensor in held)
        self.widened = 2 * module.out_features * module.in_features

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = self._module(x)
        return product


class EightBit:
    """A module of bitsandbytes in int8: its weights, one scale a row, and `x` as it is.

    bitsandbytes' own product (LLM.int8) also narrows `x`, and looks on the host whether a column
    of it is out of range, which waits for the device and cannot be captured.
    """

    def __init__(self, module: Any) -> None:
        state = module.state
        self._codes: Tensor = module.weight.data
        scales = module.weight.SCB if module.weight.SCB is not None else state.SCB
        self._scales = (scales / 127).float()
        self._bias: Tensor | None = None if module.bias is None else module.bias.data
        rows, columns = self._codes.shape
        # Shapes that torch's kernel was seen to take; it reads past the end of odd ones.
        self._whole = self._codes.device.type == "cpu" and not rows % 16 and not columns % 32
        self._narrow: dict[torch.dtype, Tensor] = {}
        self.nbytes = self._codes.nbytes + self._scales.nbytes
        self.widened = 2 * self._codes.numel()

    def __call__(self, x: Tensor) -> Tensor:
        if self._whole and x.shape[0] <= _FEW:
            product = torch._weight_int8pack_mm(x.contiguous(), self._codes, self._scales_as(x))
        elif x.dtype is torch.float16:  # sums of unscaled products could pass its largest number
            product = linear(x, self._codes.to(x.dtype) * self._scales_as(x).unsqueeze(1))
        else:
            product = (linear(x, self._codes.to(x.dtype)).float() * self._scales).to(x.dtype)
        return product if self._bias is None else product + self._bias.to(x.dtype)

    def _scales_as(self, x: Tensor) -> Tensor:
        if x.dtype not in self._narrow:
            self._narrow[x.dtype] = self._scales.to(x.dtype)
        return self._narrow[x.dtype]


_QUANTISED: dict[str, Any] = {"Linear4bit": FourBit, "Linear8bitLt": EightBit}


def multiplies(modules: list[nn.Module]) -> bool:
    """Whether `FusedLinear` takes these modules: all plain, or all quantised in one way."""
    kinds = {type(module).__name__ for module in modules}
    plain = all(type(m) is nn.Linear and m.weight.is_floating_point() for m in modules)
    return plain or (len(kinds) == 1 and kinds <= _QUANTISED.keys())


class FusedLinear:
    """Several of the model's linear modules on one input: `[T, in]` to `[T, out]`."""

    def __init__(self, modules: list[nn.Linear], kernels: Kernels | None) -> None:
        self.parts = []
        start = 0
        for module in modules:
            self.parts.append(Part(module, start, start + module.out_features))
            start += module.out_features
        self.inputs = modules[0].in_features
        narrow = _QUANTISED.get(type(modules[0]).__name__)
        self.quantised: list[Quantised] = [narrow(module) for module in modules] if narrow else []
        self.linear = None if narrow else _together(modules, kernels)

    def __call__(self, x: Tensor, adapting: Adapting | None) -> Tensor:
        if self.linear is not None:
            y = self.linear(x)
        else:
            made = [part(x) for part in self.quantised]
            y = made[0] if len(made) == 1 else torch.cat(made, -1)
        if adapting is not None:
            adapting.add(self, x, y)
        return y

    def give_up(self) -> None:
        """Frees the modules' own weights, which the product now holds in another layout."""
        if self.linear is None or not self.linear.packed:
            self.bring_back()
            return
        for part in self.parts:
            part.module.weight.data = part.module.weight.data.new_empty(0)

    def bring_back(self) -> None:
        """Gives the modules their weights again, as views of one tensor."""
        if self.linear is None:
            return
        plain = self.linear.plain()
        for part in self.parts:
            part.module.weight.data = plain[part.start : part.stop]


def _together(modules: list[nn.Linear], kernels: Kernels | None) -> Linear:
    weights = [module.weight.data for module in modules]
    biases = [module.bias.data for module in modules if module.bias is not None]
    return Linear(
        torch.cat(weights) if len(weights) > 1 else weights[0],
        torch.cat(biases) if biases else None,
        kernels,
    )
