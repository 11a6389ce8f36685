"""Several sources in one file, by ratio: 6:2:2 means six of ten from the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from finetune.data.load import Loaded
from provider.errors import ConfigurationError


@dataclass(frozen=True)
class Source:
    """A source by name, its part in the ratio, and what it has."""

    name: str
    part: float
    rows: Sequence[Loaded]


def mix(
    sources: Sequence[Source], total: int | None, seed: int, repeat: bool = False
) -> list[Loaded]:
    """Rows of all sources, shuffled. Without `total`, as many as the ratio gives unrepeated.

    A row is used again only with `repeat`, and only after all others of its source. Raises
    `ConfigurationError` for a source that is too small, saying what it has and what would fit.
    """
    most = _most(sources)
    counts = _counts(sources, most if total is None else total)
    random = Random(seed)
    mixed: list[Loaded] = []
    for source, count in zip(sources, counts, strict=True):
        if count > len(source.rows) and not (repeat and source.rows):
            raise ConfigurationError(
                f"{source.name} has {len(source.rows):,} conversations; {count:,} are needed for "
                f"{total:,} in all. {most:,} in all are possible, or more with --repeat."
            )
        mixed += _drawn(source.rows, count, random)
    random.shuffle(mixed)
    return mixed


def ratio(text: str, sources: int) -> list[float]:
    """`6:2:2` as numbers, one for each source. Raises `ConfigurationError`."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) != sources or not all(0 < part < float("inf") for part in parts):
        raise ConfigurationError(
            f"--ratio {text}: expected {sources} positive numbers with colons between them, one "
            "for each source, as in 6:2:2."
        )
    return parts


def _most(sources: Sequence[Source]) -> int:
    """The largest total for which no source has to repeat."""
    whole = sum(source.part for source in sources)
    most = int(min(len(source.rows) * whole / source.part for source in sources) + 1e-9)
    while most and any(
        count > len(source.rows)
        for count, source in zip(_counts(sources, most), sources, strict=True)
    ):
        most -= 1
    return most


def _counts(sources: Sequence[Source], total: int) -> list[int]:
    """Whole numbers in the ratio that sum to `total` (largest remainders)."""
    whole = sum(source.part for source in sources)
    exact = [total * source.part / whole for source in sources]
    counts = [int(value + 1e-9) for value in exact]
    by_rest = sorted(range(len(exact)), key=lambda n: counts[n] - exact[n])
    for place in by_rest[: total - sum(counts)]:
        counts[place] += 1
    return counts


def _drawn(rows: Sequence[Loaded], count: int, random: Random) -> list[Loaded]:
    drawn: list[Loaded] = []
    while len(drawn) < count:
        drawn += random.sample(list(rows), min(len(rows), count - len(drawn)))
    return drawn
