"""What a step costs by how many tokens it carries, and which guesses are worth that.

A step is seldom a straight line: a CPU reads its weights once whether one or five rows are
multiplied, a graph has the size of the next larger one. So seconds are learnt for each size by
itself, made monotone over all sizes (isotonic regression: neighbours that contradict are pooled),
and sizes that were not seen lie on a line between those that were. What was not seen for long is
forgotten, so that a size that was dear once is tried again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 112, 128)
"""Tokens of a step that are told apart."""

_KEPT, _FADING, _FORGOTTEN = 0.9, 0.99, 0.05
"""What the mean of a size keeps at a further step of it, its weight at any step, and the weight at
which it is forgotten (after some 500 steps)."""

_UNKNOWN = 0.05
"""Share of a step that a token is taken to add beyond the sizes that have been seen."""

_UNSURE = 0.3
"""How likely a guess must be while no step has been seen."""


class Size(NamedTuple):
    """Steps of about one size: what they weigh, their mean tokens and seconds."""

    weight: float
    tokens: float
    seconds: float


class CostModel:
    """Seconds of a step by its tokens, and the rate at which tokens have come lately."""

    def __init__(self) -> None:
        self._sizes: dict[int, Size] = {}
        self._knots: list[tuple[float, float]] = []
        self._rate = 0.0

    def saw(self, tokens: int, drawn: int, seconds: float) -> None:
        """A step of `tokens` tokens gave `drawn` tokens in `seconds`."""
        at = min(bisect_left(SIZES, tokens), len(SIZES) - 1)
        weight, mean, spent = self._sizes.pop(at, Size(0.0, 0.0, 0.0))
        for other, size in list(self._sizes.items()):
            self._sizes[other] = size._replace(weight=size.weight * _FADING)
            if size.weight < _FORGOTTEN:
                del self._sizes[other]
        weight = weight * _KEPT + 1
        mean += (tokens - mean) / weight
        spent += (seconds - spent) / weight
        self._sizes[at] = Size(weight, mean, spent)
        self._knots = _monotone([self._sizes[at] for at in sorted(self._sizes)])
        rate = drawn / seconds if seconds > 0 else self._rate
        self._rate += 0.1 * (rate - self._rate) if self._rate else rate

    def seconds(self, tokens: int) -> float:
        """Of a step of `tokens` tokens; 0 before any has been seen."""
        knots = self._knots
        if not knots:
            return 0.0
        (x, y), (z, w) = knots[0], knots[-1]
        if tokens <= x:
            return max(y - (x - tokens) * self._slope(y), y * tokens / x)
        if tokens > z:
            return w + (tokens - z) * self._slope(w)
        at = bisect_left(knots, (float(tokens), 0.0))
        (x, y), (z, w) = knots[at - 1], knots[at]
        return y + (w - y) * (tokens - x) / (z - x)

    def price(self, tokens: int, further: int) -> float:
        """How many tokens come at the present rate in the time that `further` tokens add to a step
        of `tokens`."""
        return self._rate * (self.seconds(tokens + further) - self.seconds(tokens))

    def floor(self, tokens: int) -> float:
        """How likely a guess must be at the least to be worth its price in some step."""
        if not self._knots:
            return _UNSURE
        cheapest = min(self.price(tokens, count) / count for count in (1, 2, 4, 8, 16))
        return min(max(cheapest, 0.02), 0.9)

    def _slope(self, seconds: float) -> float:
        """Seconds of a token smaller or larger than what was seen, near a step of `seconds`."""
        (x, y), (z, w) = self._knots[0], self._knots[-1]
        return max((w - y) / (z - x) if z > x else 0.0, _UNKNOWN * seconds)


def allot(chains: Sequence[Sequence[float]], tokens: int, costs: CostModel) -> list[int]:
    """How many guesses of each answer a step of `tokens` other tokens should carry.

    `chains` has for each answer how likely each guess is together with those before it. The
    likeliest of all answers are taken, as many as bring most beyond their price.
    """
    ranked = sorted(
        (-likely, place, answer)
        for answer, chain in enumerate(chains)
        for place, likely in enumerate(chain)
    )
    gain = best = 0.0
    taken = 0
    for count, (unlikely, _, _) in enumerate(ranked, 1):
        gain -= unlikely
        worth = gain - costs.price(tokens, count)
        if worth > best:
            best, taken = worth, count
    counts = [0] * len(chains)
    for _, _, answer in ranked[:taken]:
        counts[answer] += 1
    return counts


def _monotone(sizes: Sequence[Size]) -> list[tuple[float, float]]:
    """(tokens, seconds) that never fall: neighbours that contradict get their common mean."""
    pools: list[list[Size]] = []
    for size in sizes:
        pools.append([size])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return [(size.tokens, _mean(pool)) for pool in pools for size in pool]


def _mean(pool: Sequence[Size]) -> float:
    total = sum(size.weight for size in pool)
    return sum(size.weight * size.seconds for size in pool) / total
