"""Draws from the likely end of a distribution: `min_p`, then `top_k`, then `top_p`.

In vLLM's order: `min_p` and `top_k` look at the distribution at the request's temperature, `top_p`
at what they have left, renormalised.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from provider.engine.request import Sampling

_TOP = 256


def truncates(sampling: Sampling) -> bool:
    """Whether a draw must not come from the whole distribution."""
    return sampling.top_p < 1 or sampling.top_k > 0 or sampling.min_p > 0


def drawn(scaled: Tensor, sampling: Sampling, uniform: float) -> int:
    """The token that `uniform`, in [0, 1), picks; `scaled` are logits over temperature.

    Raises ValueError for logits that are not numbers.
    """
    probabilities = torch.softmax(scaled, -1)
    if sampling.top_k or sampling.min_p:
        values, ids = _cut(probabilities, sampling)
        values = values / values.sum()
    else:
        values, ids = _likeliest(probabilities, sampling.top_p)
    below = values.double().cumsum(0)
    kept = int((below < sampling.top_p).sum()) + 1 if sampling.top_p < 1 else values.shape[0]
    return int(ids[_inverse(values[:kept], uniform)])


def _cut(probabilities: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """What `min_p` and `top_k` leave, the most likely first, and its ids."""
    most = float(probabilities.max())
    if math.isnan(most):
        raise ValueError("the model's logits are not numbers")
    kept = (probabilities >= sampling.min_p * most).nonzero().squeeze(-1)
    left = probabilities[kept]
    values, order = left.topk(min(sampling.top_k or left.shape[0], left.shape[0]))
    return values, kept[order]


def _likeliest(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The most likely tokens, in order, enough of them to reach `top_p`."""
    size = min(_TOP, probabilities.shape[0])
    while True:
        values, ids = probabilities.topk(size)
        if float(values.double().sum()) >= top_p or size == probabilities.shape[0]:
            return values, ids
        size = min(size * 8, probabilities.shape[0])


def _inverse(weights: Tensor, uniform: float) -> int:
    """The index at which the cumulated weights pass `uniform` of their sum."""
    sums = weights.double().cumsum(0)
    if math.isnan(sums[-1]):
        raise ValueError("the model's logits are not numbers")
    at = int(torch.searchsorted(sums, sums[-1] * uniform, right=True))
    return min(at, weights.shape[0] - 1)
