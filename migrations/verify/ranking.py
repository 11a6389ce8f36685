"""Quality of two spaces on a labelled query set: nDCG and recall, compared query by query. Pure."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider.errors import ConfigurationError

RESAMPLES = 2000


@dataclass(frozen=True)
class Labelled:
    """A query and the gain of each relevant document, by its key as text."""

    query: str
    gains: Mapping[str, float]


def load(path: Path) -> list[Labelled]:
    """One JSON object a line: `{"query": "...", "relevant": [1, 7]}`, or `{"1": 3, "7": 1}` for
    graded relevance.

    Raises `ConfigurationError` naming the line that cannot be used.
    """
    queries: list[Labelled] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            relevant = entry["relevant"]
            gains = relevant if isinstance(relevant, dict) else dict.fromkeys(relevant, 1.0)
            queries.append(
                Labelled(str(entry["query"]), {str(k): float(g) for k, g in gains.items()})
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{path}:{number} cannot be used ({error}); expected "
                '{"query": "text", "relevant": [ids]}.'
            ) from error
    return queries


def ndcg(ranked: Sequence[Any], gains: Mapping[str, float], k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first `k` (Järvelin and Kekäläinen, 2002)."""
    gained = sum(
        gains.get(str(key), 0.0) / math.log2(rank + 2) for rank, key in enumerate(ranked[:k])
    )
    best = sorted(gains.values(), reverse=True)[:k]
    ideal = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(best))
    return gained / ideal if ideal else 0.0


def recall(ranked: Sequence[Any], gains: Mapping[str, float], k: int = 10) -> float:
    """The share of relevant documents among the first `k`."""
    relevant = {key for key, gain in gains.items() if gain > 0}
    found = relevant & {str(key) for key in ranked[:k]}
    return len(found) / len(relevant) if relevant else 0.0


@dataclass(frozen=True)
class Comparison:
    """A metric of the new space and the old one over the same queries."""

    metric: str
    new: float
    old: float
    low: float
    high: float
    """95 % interval of the difference new - old, from a paired bootstrap."""

    @property
    def worse(self) -> bool:
        """Whether the new space is worse beyond chance."""
        return self.high < 0

    def sentence(self) -> str:
        verdict = "worse" if self.worse else "better" if self.low > 0 else "no clear difference"
        return (
            f"{self.metric}: {self.new:.4f} against {self.old:.4f}, difference "
            f"[{self.low:+.4f}, {self.high:+.4f}]: {verdict}"
        )


Metric = Callable[[Sequence[Any], Mapping[str, float]], float]


def compare(
    metric: str,
    measure: Metric,
    queries: Sequence[Labelled],
    new: Sequence[Sequence[Any]],
    old: Sequence[Sequence[Any]],
    seed: int = 0,
) -> Comparison:
    """Both spaces' rankings of the same queries, with a paired bootstrap over the queries."""
    ours = [measure(ranked, q.gains) for q, ranked in zip(queries, new, strict=True)]
    theirs = [measure(ranked, q.gains) for q, ranked in zip(queries, old, strict=True)]
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    generator = random.Random(seed)
    means = sorted(
        statistics.fmean(generator.choices(differences, k=len(differences)))
        for _ in range(RESAMPLES)
    )
    return Comparison(
        metric,
        statistics.fmean(ours),
        statistics.fmean(theirs),
        means[int(0.025 * RESAMPLES)],
        means[int(0.975 * RESAMPLES) - 1],
    )
