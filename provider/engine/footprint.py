"""What a model takes on its device, term by term, told from its config alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from provider.engine.runner import attention_heads

_QUANTISED = {"nf4": 0.5 + 4 / 64, "int8": 1.0}
_FP32, _RUNTIME = 4, 500 << 20


@dataclass(frozen=True)
class Footprint:
    """Bytes. `linear` are the layers that a quantisation narrows, scales included; `rest` the
    embedding, head and norms; `cache` keys and values; `activations` those of one step; `logits`
    in float32; `runtime` what CUDA takes for itself (an allowance, not a measurement)."""

    linear: int
    rest: int
    cache: int
    activations: int
    logits: int
    runtime: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def lines(self) -> list[str]:
        """The terms and their sum, in GB."""
        terms = {**asdict(self), "total": self.total}
        return [f"{name:12} {size / 1e9:7.3f} GB" for name, size in terms.items()]


def footprint(
    config: Any,
    dtype: torch.dtype,
    quantization: str | None,
    *,
    tokens: int,
    step_tokens: int = 2048,
    drawn: int = 64,
    runtime: int = _RUNTIME,
) -> Footprint:
    """What `tokens` tokens in the cache take beside the weights, in steps of `step_tokens`, of
    which `drawn` have their logits computed."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    head = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    elements = {id(p): p.numel() for p in model.parameters()}
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and id(module.weight) not in head
    )
    layers, kv_heads, head_dim = attention_heads(model)
    text = config.get_text_config()
    # Residual twice, queries, keys, values and output, gate, up and their product.
    wide = 2 * text.hidden_size + 2 * (text.num_attention_heads + kv_heads) * head_dim
    wide += 3 * text.intermediate_size
    width = _QUANTISED.get(quantization or "", dtype.itemsize)
    largest = max(text.intermediate_size * text.hidden_size, 0) if quantization else 0
    return Footprint(
        linear=int(linear * width),
        rest=(sum(elements.values()) - linear) * dtype.itemsize,
        cache=tokens * 2 * layers * kv_heads * head_dim * dtype.itemsize,
        activations=(min(step_tokens, tokens) * wide + largest) * dtype.itemsize,
        logits=2 * drawn * text.vocab_size * _FP32,
        runtime=runtime,
    )
