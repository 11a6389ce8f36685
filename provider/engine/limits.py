"""What an engine may use, and how it divides it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """`memory` counts weights and KV cache in bytes; None means what the device has free.

    `step_tokens` bounds one packed step, so that a long prompt delays the others' next token by no
    more than that; None picks by device. `prefix_share` is the part of the KV budget that finished
    rows may keep. `loop_tokens` is the length at which a constrained answer's loop is ended, 0 is
    never. `native` allows CPU kernels that are compiled for this machine, `graphs` CUDA graphs.
    """

    max_batch: int = 64
    queue: int = 256
    memory: int | None = None
    context_length: int | None = None
    step_tokens: int | None = None
    prefix_share: float = 0.5
    max_adapters: int = 8
    drafts: bool = True
    forced_tokens: bool = True
    loop_tokens: int = 128
    native: bool = True
    graphs: bool = True
