"""The 4-bit round trip that a weight makes when a model is loaded in NF4, and its way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from provider.errors import ConfigurationError

_BLOCK = 64
"""Weights that share a scale, in QLoRA and in transformers' defaults."""


def round_trip(weight: torch.Tensor) -> torch.Tensor:
    """`weight` as 4-bit serving and training see it (NF4, double quantisation), in float32.

    `ConfigurationError` when bitsandbytes is not installed.
    """
    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    except ImportError as error:
        raise ConfigurationError(
            "Merging into dequantised weights needs bitsandbytes; install "
            "'sllm-provider[quantized]', or merge --into original."
        ) from error
    packed, state = quantize_4bit(
        weight.float().contiguous(), blocksize=_BLOCK, compress_statistics=True, quant_type="nf4"
    )
    restored: torch.Tensor = dequantize_4bit(packed, state)
    return restored.reshape(weight.shape)


def dequantise(model: nn.Module) -> None:
    """Every 4-bit linear layer of `model` becomes a plain one of the values that it computes with.

    To be called before the first forward pass: on a CPU, bitsandbytes repacks the weights in it,
    and neither this nor transformers' own `dequantize` reads them rightly afterwards.
    """
    from bitsandbytes.functional import dequantize_4bit

    for name, module in list(model.named_modules()):
        if type(module).__name__ != "Linear4bit":
            continue
        packed: Any = module.weight
        values = dequantize_4bit(packed.data, packed.quant_state).float()
        plain = nn.Linear(values.shape[1], values.shape[0], bias=False, device="meta")
        plain.weight = nn.Parameter(values, requires_grad=False)
        plain.bias = module.bias
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, plain)
