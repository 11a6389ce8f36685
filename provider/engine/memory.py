"""How many tokens of keys and values the device has room for."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from provider.engine.cache import CacheShape
from provider.engine.device import free_memory
from provider.engine.limits import Limits
from provider.engine.runner import attention_heads
from provider.errors import ConfigurationError


def cache_shape(
    model: PreTrainedModel, limits: Limits, weights: int, reserve: int = 0
) -> CacheShape:
    """The KV cache that fits: by the model's context, the limit, and what the device has left.

    `weights` are the bytes that the model takes already, `reserve` those that something else will.

    Raises ConfigurationError if not even one slot fits.
    """
    layers, kv_heads, head_dim = attention_heads(model)
    config: Any = model.config
    context = int(config.get_text_config().max_position_embeddings)
    context = min(context, limits.context_length or context)
    per_token = 2 * layers * kv_heads * head_dim * model.dtype.itemsize
    budget = cache_budget(model, limits, weights, reserve) // per_token
    if budget < min(256, context):
        raise ConfigurationError(
            f"LOCAL_LLM_MEMORY={limits.memory} leaves room for {max(budget, 0)} tokens of KV cache "
            f"({per_token} bytes each) beside the weights, at least 256 are needed; raise it, or "
            "load a smaller or quantised model."
        )
    most = limits.max_batch * context * 2
    return CacheShape(
        layers=layers,
        kv_heads=kv_heads,
        head_dim=head_dim,
        dtype=model.dtype,
        device=model.device,
        capacity=min(context, budget),
        budget=min(budget, most),
    )


def cache_budget(model: PreTrainedModel, limits: Limits, weights: int, reserve: int = 0) -> int:
    """Bytes for the KV cache: `limits.memory` less the weights, or most of what is free."""
    free = free_memory(model.device) - reserve
    if limits.memory is None:
        return int(free * 0.8)
    return min(limits.memory - weights - reserve, int(free * 0.9))
