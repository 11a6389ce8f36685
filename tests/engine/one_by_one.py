"""The slow way: one answer, one token, one whole forward pass of the plain model at a time.

It shares the definition of a draw (`RowSampler`), of text (`TextAssembler`) and of a grammar with
the engine, and nothing of batching, caching, packing, drafting or scheduling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from provider.engine.constraint import ConstraintState, GrammarCache
from provider.engine.detokenize import TextAssembler
from provider.engine.request import GenerationRequest
from provider.engine.sampling import RowSampler, _allowed
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
            mask = state.mask if state else None
            drawn = None
            if mask is not None and force:
                drawn = sampler.choose_permitted(logits, len(tokens), _bit(mask))
            token = sampler.choose(logits, len(tokens), mask) if drawn is None else drawn
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


def _bit(mask: NDArray[np.uint8]) -> Callable[[int], bool]:
    """Whether a token is allowed, asked of the mask."""
    return lambda token: _allowed(mask, token)


@torch.inference_mode()
def next_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([tokens]), use_cache=False).logits
    return logits[0, -1].float()
