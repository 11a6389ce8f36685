"""What `bench.engine.gpu` compares: this engine and transformers' `generate`, on one model.

Each is a function from an `Ask` to the number of tokens that were generated; an ask without prompts
ends it and gives its memory back.
"""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from provider.engine.checkpoint import Checkpoint
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import Done, GenerationRequest, Sampling
from provider.protocol.schema import compile

_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


@dataclass(frozen=True)
class Ask:
    """Prompts of one length, and how many tokens each is continued by."""

    prompts: list[list[int]]
    tokens: int


def ours(checkpoint: Checkpoint, schema: Any, limits: Limits, graphs: bool) -> Callable[[Ask], int]:
    """This engine; it is made by the first ask."""
    constraint = None if schema is None else compile(schema)
    held: list[Engine] = []

    def run(ask: Ask) -> int:
        if not ask.prompts:
            while held:
                _report(held[-1], graphs)
                held.pop().close()
            gc.collect()
            return 0
        if not held:
            stated = {**vars(limits), "graphs": graphs}
            held.append(Engine(checkpoint, Limits(**stated)))
            held[0].start()
        requests = [
            GenerationRequest(
                tuple(prompt), Sampling(temperature=0), ask.tokens, constraint=constraint
            )
            for prompt in ask.prompts
        ]
        return _answered(held[0], requests)

    return run


def _report(engine: Engine, graphs: bool) -> None:
    """Says on the side whether graphs ran: a figure "with graphs" must not be one without."""
    stats = engine.stats()
    if graphs and "graphs" not in stats:
        print("<!-- graphs were off -->")
    elif graphs:
        taken = f"{stats['graph_bytes'] / 1e6:.0f} MB, {stats['graph_steps']:.0f} steps"
        print(f"<!-- {stats['graphs']:.0f} graphs, {taken} of {stats['steps']:.0f} -->")


def _answered(engine: Engine, requests: list[GenerationRequest]) -> int:
    """Generated tokens of all requests, when the last has ended."""
    tokens, failed = [0], []
    over = [threading.Event() for _ in requests]

    def listen(event: threading.Event) -> Callable[[Any], None]:
        def on_event(said: Any) -> None:
            if isinstance(said, Done):
                tokens[0] += said.usage.completion
            if isinstance(said, Exception):
                failed.append(said)
            if isinstance(said, Done | Exception):
                event.set()

        return on_event

    for request, event in zip(requests, over, strict=True):
        engine.submit(request, listen(event))
    for event in over:
        event.wait()
    if failed:
        raise failed[0]
    return tokens[0]


def generate(checkpoint: Checkpoint, schema: Any) -> Callable[[Ask], int]:
    """transformers' `generate`, greedy; under a schema through Outlines with llguidance."""
    model: Any = checkpoint.model
    backend = _outlines(checkpoint) if schema is not None else None

    @torch.inference_mode()
    def run(ask: Ask) -> int:
        if not ask.prompts:
            return 0
        ids = torch.tensor(ask.prompts, device=model.device)
        processors = []
        if backend is not None:
            stated = json.dumps(schema | {"x-guidance": _COMPACT})
            processors.append(backend.get_json_schema_logits_processor(stated))
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=ask.tokens,
            do_sample=False,
            pad_token_id=0,
            logits_processor=processors,
        )
        return int((out[:, ids.shape[1] :] != 0).sum())

    return run


def _outlines(checkpoint: Checkpoint) -> Any:
    from outlines.backends.llguidance import LLGuidanceBackend
    from outlines.models import Transformers

    tokenizer: Any = checkpoint.tokenizer.hf
    return LLGuidanceBackend(Transformers(checkpoint.model, tokenizer))
