"""The slow way: one answer, one token, one whole forward pass of the plain model at a time.

It shares the definition of a draw (`RowSampler`), of text (`TextAssembler`) and of a grammar with
the engine, and nothing of batching, caching, packing, drafting or scheduling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from provider.engine.constraint import ConstraintState, GrammarCache
from provider.engine.detokenize import TextAssembler
from provider.engine.request import GenerationRequest
from provider.engine.sampling import RowSampler
from provider.engine.vocabulary import Vocabulary


@dataclass(frozen=True)
class Expected:
    text: str
    reason: str
    tokens: tuple[int, ...]


def complete(
    model: Any,
    vocabulary: Vocabulary,
    request: GenerationRequest,
    index: int = 0,
    *,
    force: bool = True,
) -> Expected:
    """What answer `index` of `request` must be; `force` takes forced tokens without a draw."""
    tokens: list[int] = []
    text = TextAssembler(request.stop)
    shown, reason = "", ""
    sampler = RowSampler(request.sampling, index)
    state = None
    if request.constraint is not None:
        matcher = GrammarCache(vocabulary.grammar).matcher(request.constraint)
        state = ConstraintState(matcher, vocabulary.grammar)
    forced = state.forced() if state and force else []
    while not reason:
        if state and state.complete and not forced:
            reason = "stop"
            break
        if forced:
            token = forced.pop(0)
        else:
            if state:
                state.compute_mask()
            logits = next_logits(model, [*request.prompt, *tokens])
            token = sampler.choose(logits, len(tokens), state.mask if state else None)
            if state and token not in vocabulary.eos:
                state.accept(token)
                forced = state.forced() if force else []
        tokens.append(token)
        sampler.accept(token)
        if token in vocabulary.eos:
            reason = "stop"
            break
        shown += text.push(vocabulary.token_bytes[token])
        if text.stopped:
            reason = "stop"
        elif len(tokens) == request.max_tokens:
            reason = "stop" if state and state.complete and not forced else "length"
    if not text.stopped:
        shown += text.flush()
    return Expected(shown, reason, tuple(tokens))


@torch.inference_mode()
def next_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([tokens]), use_cache=False).logits
    return logits[0, -1].float()
