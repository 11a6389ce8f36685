"""What a training will need, computed from the model's config before anything is loaded.

Memory is a sum of terms, each stated with how it comes about; `docs/finetune.md` compares it with
measured peaks. Time is a rough figure: the work per token over what the device multiplies now.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from finetune.train.base import placed, precision, target_modules
from finetune.train.config import TrainConfig
from finetune.train.head_loss import PIECE
from provider.engine.device import resolve_device, resolve_dtype
from provider.engine.exaone import register

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight: 4 bits, a byte of scale for 64 of them, 4 bytes more for 256 scales (double
quantisation)."""
_STATE = {"adamw": 8, "adamw_8bit": 2, "paged_adamw_8bit": 2, "paged_adamw_32bit": 8, "auto": 8}
"""Bytes of optimiser state per learning parameter."""
_OVERHEAD = {"cuda": 600 << 20, "mps": 600 << 20, "cpu": 700 << 20}
"""What the libraries hold themselves: the CUDA context, or Python with torch in resident memory."""
_EFFICIENCY = {"cuda": 0.35, "mps": 0.3, "cpu": 0.5}
"""Share of a large product's speed that a whole step reaches."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. `linear` and `other` count weights inside and outside the layers' linear
    maps, tied ones once; `largest` is the biggest linear map."""

    layers: int
    hidden: int
    intermediate: int
    keys: int
    vocabulary: int
    linear: int
    other: int
    largest: int
    adapter: int
    adapted_inputs: int


@dataclass(frozen=True)
class Estimate:
    """`terms` are (name, how it comes about, bytes); `flops` is the work of the whole training."""

    terms: tuple[tuple[str, str, int], ...]
    flops: float
    device: torch.device

    @property
    def bytes(self) -> int:
        return sum(size for _, _, size in self.terms)

    def lines(self) -> list[str]:
        """A table for a terminal."""
        width = max(len(name) for name, _, _ in self.terms)
        rows = [
            f"  {name:<{width}}  {size / 2**30:7.3f} GiB  {how}" for name, how, size in self.terms
        ]
        return [*rows, f"  {'together':<{width}}  {self.bytes / 2**30:7.3f} GiB"]

    def seconds(self) -> float:
        """Of the whole training, from how fast the device multiplies right now."""
        return self.flops / (_speed(self.device) * _EFFICIENCY.get(self.device.type, 0.35))


def shape_of(folder: Path, config: TrainConfig) -> Shape:
    """Sizes from the base's config alone: the model is built without memory for its weights."""
    register()
    stated: Any = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(stated)
    head = model.get_output_embeddings()
    maps = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    chosen = set(target_modules(model, config.target_modules))
    adapted = [module for name, module in maps if name.rsplit(".", 1)[-1] in chosen]
    every = sum(parameter.numel() for parameter in model.parameters())
    linear = sum(module.weight.numel() for _, module in maps)
    layers = int(stated.num_hidden_layers)
    return Shape(
        layers=layers,
        hidden=int(stated.hidden_size),
        intermediate=int(getattr(stated, "intermediate_size", 4 * stated.hidden_size)),
        keys=_keys(stated),
        vocabulary=int(stated.vocab_size),
        linear=linear,
        other=every - linear,
        largest=max(module.weight.numel() for _, module in maps),
        adapter=sum(config.r * (m.in_features + m.out_features) for m in adapted),
        adapted_inputs=sum(m.in_features for m in adapted) // layers,
    )


def estimate(
    folder: Path, config: TrainConfig, *, batch_tokens: int, tokens: int, learnt: int
) -> Estimate:
    """`batch_tokens` is the largest batch of one forward pass; `tokens` and `learnt` are those of
    the whole training, all epochs."""
    device = resolve_device(placed(config.device), setting="device")
    dtype = resolve_dtype(precision(config.precision, device), device)
    shape = shape_of(folder, config)
    wide = dtype.itemsize
    quantised = config.method == "qlora"
    per_weight = NF4_BYTES if quantised else wide
    state = _STATE[config.optimizer]
    if config.optimizer == "auto" and quantised and device.type == "cuda":
        state = 2
    terms = {
        "base": (
            f"{shape.linear / 1e6:,.1f} M weights x {per_weight:.3f} + "
            f"{shape.other / 1e6:,.1f} M x {wide} bytes",
            shape.linear * per_weight + shape.other * wide,
        ),
        "adapter": (
            f"{shape.adapter / 1e6:,.2f} M x (4 weight + 4 gradient + {state} optimiser) bytes",
            shape.adapter * (8 + state),
        ),
        **_activations(shape, config, batch_tokens, wide, quantised),
        "libraries": ("what torch holds itself", _OVERHEAD.get(device.type, 600 << 20)),
    }
    listed = tuple((name, how, int(size)) for name, (how, size) in terms.items())
    return Estimate(listed, _flops(shape, config, tokens, learnt), device)


def _activations(
    shape: Shape, config: TrainConfig, tokens: int, wide: int, quantised: bool
) -> Mapping[str, tuple[str, float]]:
    """Kept for the backward pass: with checkpointing each layer's input, and one layer in full."""
    layer = tokens * _layer_bytes(shape, config, wide)
    pieces = min(PIECE, tokens)
    head = pieces * shape.vocabulary * (4 + 4 + wide)
    if config.gradient_checkpointing:
        kept = shape.layers * tokens * shape.hidden * wide
        terms = {
            "layer inputs": (
                f"{shape.layers} layers x {tokens:,} tokens x {shape.hidden} x {wide} bytes",
                kept,
            ),
            "one layer or head": (
                f"the larger of a layer again and {pieces} tokens' logits x {shape.vocabulary:,}",
                max(layer, head),
            ),
        }
    else:
        terms = {
            "activations": (f"{shape.layers} layers x {tokens:,} tokens", shape.layers * layer),
            "head": (f"{pieces} tokens' logits x {shape.vocabulary:,}", head),
        }
    if quantised:
        terms["unpacked weights"] = (f"the largest, x {wide} bytes", shape.largest * wide)
    return terms


def _layer_bytes(shape: Shape, config: TrainConfig, wide: int) -> int:
    """Of one token in one layer: both norms (float32 inside), attention, the gated product, and
    for each adapted map its input after dropout with the mask."""
    norms = 2 * shape.hidden * (4 + wide)
    attention = (2 * shape.hidden + 2 * shape.keys) * wide
    gated = 4 * shape.intermediate * wide
    dropped = shape.adapted_inputs * ((wide + 1) if config.dropout else 0)
    return norms + attention + gated + dropped


def _keys(stated: Any) -> int:
    heads = int(stated.num_attention_heads)
    size = getattr(stated, "head_dim", None) or stated.hidden_size // heads
    return int((getattr(stated, "num_key_value_heads", None) or heads) * size)


def _flops(shape: Shape, config: TrainConfig, tokens: int, learnt: int) -> float:
    """Two per weight and token, forward and to the inputs, once more where layers are recomputed;
    the adapter's own weights learn too. The head sees learnt tokens only."""
    passes = 3 if config.gradient_checkpointing else 2
    layers = 2.0 * tokens * (passes * shape.linear + (passes + 1) * shape.adapter)
    return layers + 2.0 * learnt * 2 * shape.vocabulary * shape.hidden


def _speed(device: torch.device) -> float:
    """Floating-point operations per second of a large product on `device`, in about 0.3 s."""
    size = 4096 if device.type == "cuda" else 1024
    dtype = resolve_dtype("auto", device)
    left = torch.randn(size, size, device=device).to(dtype)
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < 0.3:
        start = time.perf_counter()
        product = left @ left
        if device.type != "cpu":
            product[0, 0].item()
        best = max(best, 2.0 * size**3 / (time.perf_counter() - start))
    return best
