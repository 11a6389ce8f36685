"""One packed step through the model: many rows' tokens in, the logits that are needed out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from provider.engine.attention import NAME, AttentionPlan, Segment, packed_attention
from provider.engine.constraint import Blocks
from provider.engine.native.kernels import Kernels
from provider.engine.transfer import upload

if TYPE_CHECKING:
    from provider.engine.adapters import Adapter


@dataclass(slots=True)
class Step:
    """The rows of one step back to back. `wanted` are the packed places whose logits are needed;
    `adapters` the packed ranges (start, stop) that an adapter applies to, base rows left out;
    `outputs`, if any, names for each place of `wanted` the blocks of logits that will be read, None
    for all."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    adapters: list[tuple[Adapter, int, int]] = field(default_factory=list)
    outputs: list[Blocks | None] = field(default_factory=list)


class Runner(Protocol):
    """Runs steps; not thread-safe. `weight_bytes` is what the weights take on the device,
    `adapters_on` where adapters' own matrices are to lie; `narrows`, whether a step gets faster by
    `outputs`."""

    weight_bytes: int
    narrows: bool
    adapters_on: torch.device

    def attach(self, adapter: Adapter) -> None:
        """Makes an adapter usable in steps."""

    def forget(self, adapter: int) -> None:
        """An adapter's weights (by key) will not be asked for by new requests."""

    def forward(self, step: Step) -> Tensor:
        """Logits `[wanted, vocabulary]` in float32 on the model's device, until the next step.

        Those that the step's `outputs` leave out may be minus infinity."""


class ModelRunner:
    """The model's own forward, whatever its architecture, with our attention function.

    The model is left as it was between steps, so others may use it too.
    """

    def __init__(self, model: PreTrainedModel, kernels: Kernels | None = None) -> None:
        AttentionInterface.register(NAME, packed_attention)
        self._model = model
        self._kernels = kernels
        self.weight_bytes = sum(p.nbytes for p in model.parameters())
        self._step = Step()
        self._hooked: WeakSet[nn.Module] = WeakSet()
        self.device: torch.device = model.device
        self.narrows = False
        self.adapters_on: torch.device = model.device

    def attach(self, adapter: Adapter) -> None:
        for module in adapter.pairs:
            if module not in self._hooked:
                self._hooked.add(module)
                module.register_forward_hook(self._adapt)

    def forget(self, adapter: int) -> None:
        """Nothing is kept of it."""

    @torch.inference_mode()
    def forward(self, step: Step) -> Tensor:
        ids, positions = upload([step.tokens, step.positions], self.device).unsqueeze(1)
        self._step = step
        with _attention(self._model):
            out: Any = self._model(
                input_ids=ids,
                position_ids=positions,
                use_cache=False,
                logits_to_keep=upload(step.wanted, self.device),
                packed=AttentionPlan(step.segments, self.device, kernels=self._kernels),
            )
        self._step = Step()
        logits: Tensor = out.logits[0]
        return logits.float()

    def _adapt(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Adds what the step's adapters do to the rows that asked for them."""
        for adapter, start, stop in self._step.adapters:
            pair = adapter.pairs.get(module)
            if pair is not None:
                output[0, start:stop] += pair(inputs[0][0, start:stop])


@contextmanager
def _attention(model: PreTrainedModel) -> Iterator[None]:
    """Our attention function for the time of one forward pass."""
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def attention_heads(model: nn.Module) -> tuple[int, int, int]:
    """Layers, key/value heads and head width, from the model's config."""
    config: Any = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    return text.num_hidden_layers, kv_heads, head_dim
