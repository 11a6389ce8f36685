"""What is done to a row's logits before temperature: bias, penalties, tokens that may not come.

`logit_bias`, then `repetition_penalty` over prompt and answer (https://arxiv.org/abs/1909.05858),
then OpenAI's two penalties over the answer alone, then the ends that `min_tokens` holds back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from provider.engine.request import Sampling


class Adjustments:
    """The state of one answer. `ends` may not be drawn before `min_tokens` tokens have been."""

    def __init__(
        self, sampling: Sampling, prompt: Iterable[int], ends: Iterable[int], min_tokens: int
    ) -> None:
        self._sampling = sampling
        self._bias = dict(sampling.logit_bias)
        self._repeats = sampling.repetition_penalty != 1
        self._counts_tokens = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self._seen = set(prompt) if self._repeats else set()
        self._counts: Counter[int] = Counter()
        self._ends = sorted(ends) if min_tokens else []
        self._min_tokens = min_tokens
        self.none = not (self._bias or self._repeats or self._counts_tokens or self._ends)
        """Whether the logits are used as they are, all the time."""

    def accept(self, token: int) -> None:
        """Takes note of a generated token (sampled or forced)."""
        if self._counts_tokens:
            self._counts[token] += 1
        if self._repeats:
            self._seen.add(token)

    def apply(self, values: Tensor, position: int) -> Tensor:
        """The logits for the token at `position` of the answer, changed in place."""
        if self._bias:
            ids = torch.tensor(list(self._bias), device=values.device)
            values[ids] += torch.tensor(list(self._bias.values()), device=values.device)
        if self._seen:
            self._discourage(values)
        if self._counts:
            ids = torch.tensor(list(self._counts), device=values.device)
            counts = torch.tensor(list(self._counts.values()), device=values.device)
            sampling = self._sampling
            values[ids] -= counts * sampling.frequency_penalty + sampling.presence_penalty
        if position < self._min_tokens and self._ends:
            values[torch.tensor(self._ends, device=values.device)] = -torch.inf
        return values

    def _discourage(self, values: Tensor) -> None:
        penalty = self._sampling.repetition_penalty
        ids = torch.tensor(list(self._seen), device=values.device)
        said = values[ids]
        values[ids] = torch.where(said > 0, said / penalty, said * penalty)
