"""The 4-bit round trip that a weight makes when a model is loaded in NF4."""

from __future__ import annotations

import torch

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
