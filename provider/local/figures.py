"""The engine's and the embedding queue's figures as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from provider.base import Sample

if TYPE_CHECKING:
    from provider.engine.embed_queue import QueueStats

_COUNTERS = {
    "requests": "Requests taken by the engine.",
    "refused": "Requests refused because the queue was full.",
    "failed": "Requests that failed.",
    "cancelled": "Requests cancelled by their clients.",
    "finished": "Answers completed.",
    "steps": "Steps of the engine.",
    "prompt_tokens": "Prompt tokens of all requests.",
    "cached_tokens": "Prompt tokens that were taken from the prefix cache.",
    "prefilled_tokens": "Prompt tokens that were computed.",
    "generated_tokens": "Tokens generated, forced ones included.",
    "forced_tokens": "Tokens that a grammar forced, which cost no draw.",
    "forward_rows": "Draws: rows whose next token was taken from a forward pass.",
    "draft_tokens": "Draft tokens that were tried.",
    "draft_accepted": "Draft tokens that held.",
    "preemptions": "Answers set back to make room.",
    "deaths": "Failures of the engine's thread.",
    "graph_steps": "Steps replayed from CUDA graphs; absent where graphs are off.",
}
_GAUGES = {
    "running": "Answers being generated.",
    "waiting": "Requests that wait.",
    "kv_tokens": "Tokens in the KV cache.",
    "kv_budget": "Tokens that the KV cache may hold.",
    "kv_bytes": "Bytes of the KV cache.",
    "prefixes": "Prefixes kept for reuse.",
    "adapters": "LoRA adapters in memory.",
    "tokens_per_second": "Tokens generated per second, lately.",
    "tokens_per_forward": "Tokens generated per row of a forward pass, since the start.",
    "batch_size": "Rows per forward pass, since the start.",
    "graphs": "CUDA graphs captured; absent where graphs are off.",
    "graph_bytes": "Device memory that CUDA graphs have taken.",
    "alive": "1 while the engine serves requests.",
}


def of_engine(stats: Mapping[str, float], model: str) -> Iterator[Sample]:
    """`sllm_engine_*` of one engine; figures without a help text here are left out."""
    labels = (("model", model),)
    for name, text in _COUNTERS.items():
        if name in stats:
            yield Sample(f"sllm_engine_{name}_total", "counter", text, labels, stats[name])
    for name, text in _GAUGES.items():
        if name in stats:
            yield Sample(f"sllm_engine_{name}", "gauge", text, labels, stats[name])


_EMBEDDINGS = {
    "requests": ("_total", "counter", "Embedding requests answered."),
    "texts": ("_total", "counter", "Texts embedded."),
    "batches": ("_total", "counter", "Forward passes of the embedding model."),
    "waiting": ("", "gauge", "Texts that wait to be embedded."),
}


def of_embeddings(stats: QueueStats, model: str) -> Iterator[Sample]:
    """`sllm_embedding_*` of one queue."""
    values = asdict(stats)
    for name, (suffix, kind, text) in _EMBEDDINGS.items():
        metric = f"sllm_embedding_{name}{suffix}"
        yield Sample(metric, kind, text, (("model", model),), float(values[name]))
