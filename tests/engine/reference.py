"""EXAONE-3.x's forward pass written from its description, with loops and without transformers.

Slow and plain on purpose: an independent statement of what the logits must be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def logits(weights: Mapping[str, Tensor], config: Mapping[str, Any], ids: list[int]) -> Tensor:
    """Logits [length, vocabulary] in float64 of one sequence; names and keys as LG's."""
    state = {name: tensor.double() for name, tensor in weights.items()}
    hidden = state["transformer.wte.weight"][torch.tensor(ids)]
    for layer in range(config["num_layers"]):
        part = _part(state, f"transformer.h.{layer}.")
        hidden = hidden + _attention(part, config, _norm(hidden, part["ln_1.weight"], config))
        hidden = hidden + _mlp(part, _norm(hidden, part["ln_2.weight"], config))
    hidden = _norm(hidden, state["transformer.ln_f.weight"], config)
    tied = config["tie_word_embeddings"]
    return hidden @ state["transformer.wte.weight" if tied else "lm_head.weight"].T


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def _norm(hidden: Tensor, weight: Tensor, config: Mapping[str, Any]) -> Tensor:
    rows = []
    for row in hidden:
        scale = math.sqrt(float((row * row).sum()) / len(row) + config["layer_norm_epsilon"])
        rows.append(row / scale * weight)
    return torch.stack(rows)


def _mlp(part: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
    gate = hidden @ part["mlp.c_fc_0.weight"].T
    up = hidden @ part["mlp.c_fc_1.weight"].T
    return (gate / (1 + torch.exp(-gate)) * up) @ part["mlp.c_proj.weight"].T


def _attention(part: Mapping[str, Tensor], config: Mapping[str, Any], hidden: Tensor) -> Tensor:
    heads, kv_heads, size = (
        config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"],
    )  # fmt: skip
    q, k, v = (hidden @ part[f"attn.attention.{name}_proj.weight"].T for name in ("q", "k", "v"))
    frequencies = _frequencies(config, size)
    outputs = []
    for head in range(heads):
        shared = head // (heads // kv_heads)
        rotated_q = _rotate(q[:, head * size : (head + 1) * size], frequencies)
        rotated_k = _rotate(k[:, shared * size : (shared + 1) * size], frequencies)
        values = v[:, shared * size : (shared + 1) * size]
        rows = []
        for position in range(len(hidden)):
            scores = rotated_k[: position + 1] @ rotated_q[position] / math.sqrt(size)
            rows.append(torch.softmax(scores, 0) @ values[: position + 1])
        outputs.append(torch.stack(rows))
    return torch.cat(outputs, 1) @ part["attn.attention.out_proj.weight"].T


def _rotate(vectors: Tensor, frequencies: list[float]) -> Tensor:
    """Half-split rotary embedding: component i turns with component i + size/2."""
    turned = vectors.clone()
    half = len(frequencies)
    for position in range(len(vectors)):
        for i, frequency in enumerate(frequencies):
            cos, sin = math.cos(position * frequency), math.sin(position * frequency)
            a, b = float(vectors[position, i]), float(vectors[position, i + half])
            turned[position, i] = a * cos - b * sin
            turned[position, i + half] = b * cos + a * sin
    return turned


def _frequencies(config: Mapping[str, Any], size: int) -> list[float]:
    """Llama 3's scaling: long wavelengths are divided by the factor, short ones kept."""
    plain = [config["rope_theta"] ** (-2 * i / size) for i in range(size // 2)]
    scaling = config["rope_scaling"]
    if scaling is None:
        return plain
    context = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    scaled = []
    for frequency in plain:
        turns = context * frequency / (2 * math.pi)
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        scaled.append((1 - smooth) * frequency / scaling["factor"] + smooth * frequency)
    return scaled
