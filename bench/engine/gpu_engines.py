"""What `bench.engine.gpu` compares: this engine and transformers' `generate`, on one model.

Each answers an `Ask` with the number of tokens that were generated; `close` gives its memory back.
"""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from provider.engine.checkpoint import Checkpoint
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import Done, GenerationRequest, Sampling
from provider.protocol.schema import compile

_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
_PATIENCE = 180.0
"""Seconds without any answer after which a run is given up."""


@dataclass(frozen=True)
class Ask:
    """Prompts of one length, how many tokens each is continued by, under which schema (None: free
    text), and adapters that take turns."""

    prompts: list[list[int]]
    tokens: int
    schema: Any = None
    adapters: Sequence[str | None] = (None,)


class Runs(Protocol):
    """One engine."""

    def run(self, ask: Ask) -> int: ...

    def note(self) -> str:
        """What a figure should be read with."""

    def close(self) -> None: ...


class Ours:
    """This engine, with or without graphs."""

    def __init__(self, checkpoint: Checkpoint, limits: Limits, graphs: bool) -> None:
        self._graphs = graphs
        self._compiled: dict[str, Any] = {}
        self.engine = Engine(checkpoint, Limits(**{**vars(limits), "graphs": graphs}))
        self.engine.start()

    def load_adapters(self, folders: dict[str, Path]) -> None:
        for name, folder in folders.items():
            self.engine.load_adapter(name, folder)

    def run(self, ask: Ask) -> int:
        constraint = None
        if ask.schema is not None:
            key = json.dumps(ask.schema)
            constraint = self._compiled.setdefault(key, compile(ask.schema))
        requests = [
            GenerationRequest(
                tuple(prompt),
                Sampling(temperature=0),
                ask.tokens,
                constraint=constraint,
                adapter=ask.adapters[number % len(ask.adapters)],
            )
            for number, prompt in enumerate(ask.prompts)
        ]
        return _answered(self.engine, requests)

    def note(self) -> str:
        """Whether graphs ran: a figure "with graphs" must not be one without."""
        stats = self.engine.stats()
        if not self._graphs:
            return "graphs not asked for"
        if "graphs" not in stats:
            return "graphs were off"
        taken = f"{stats['graph_bytes'] / 1e6:.0f} MB, {stats['graph_steps']:.0f} steps"
        adapters = f", adapters {stats['adapter_bytes'] / 1e6:.0f} MB"
        return f"{stats['graphs']:.0f} graphs, {taken} of {stats['steps']:.0f}{adapters}"

    def close(self) -> None:
        self.engine.close()
        gc.collect()


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

    tickets = [
        engine.submit(request, listen(event)) for request, event in zip(requests, over, strict=True)
    ]
    for event in over:
        if not event.wait(_PATIENCE):
            for ticket in tickets:
                ticket.cancel()
            raise TimeoutError(f"no answer in {_PATIENCE:.0f} s")
    if failed:
        raise failed[0]
    return tokens[0]


class Generate:
    """transformers' `generate`, greedy; under a schema through Outlines with llguidance."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._backend: Any = None

    @torch.inference_mode()
    def run(self, ask: Ask) -> int:
        model: Any = self._checkpoint.model
        ids = torch.tensor(ask.prompts, device=model.device)
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=ask.tokens,
            do_sample=False,
            pad_token_id=0,
            logits_processor=[] if ask.schema is None else [self._processor(ask.schema)],
        )
        return int((out[:, ids.shape[1] :] != 0).sum())

    def _processor(self, schema: Any) -> Any:
        if self._backend is None:
            from outlines.backends.llguidance import LLGuidanceBackend
            from outlines.models import Transformers

            tokenizer: Any = self._checkpoint.tokenizer.hf
            self._backend = LLGuidanceBackend(Transformers(self._checkpoint.model, tokenizer))
        stated = json.dumps(schema | {"x-guidance": _COMPACT})
        return self._backend.get_json_schema_logits_processor(stated)

    def note(self) -> str:
        return f"attention {self._checkpoint.model.config._attn_implementation}"

    def close(self) -> None:
        self._backend = None
        gc.collect()
