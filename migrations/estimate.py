"""What a backfill will cost before it starts, and the limit that it must not pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from provider.errors import ConfigurationError
from provider.vectors.embedding import Embedder, embed
from provider.vectors.source import Source
from provider.vectors.spaces import Space

DOLLARS_PER_MILLION_TOKENS = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}
"""https://platform.openai.com/docs/pricing, November 2026."""
_SAMPLE = 200
_TIMED = 32


def tokens_of(text: str) -> float:
    """About how many tokens a text has: 4 ASCII characters make one, and so does 1.2 of others.

    An estimate that errs upwards for Korean; no tokenizer is needed.
    """
    ascii_characters = sum(1 for character in text if character.isascii())
    return ascii_characters / 4 + (len(text) - ascii_characters) / 1.2


def dollars(space: Space, tokens: float) -> float | None:
    """The price of embedding so many tokens; 0 for a local model, None when it is not known."""
    if space.provider == "local":
        return 0.0
    price = DOLLARS_PER_MILLION_TOKENS.get(space.model)
    return None if price is None else tokens * price / 1e6


class Budget:
    """Dollars that one run may spend. Safe to use from several threads."""

    def __init__(self, space: Space | None = None, limit: float | None = None) -> None:
        self._space = space
        self._limit = limit
        self._lock = threading.Lock()
        self.spent = 0.0
        self.spent_up = False
        if limit is not None and space is not None and dollars(space, 1.0) is None:
            raise ConfigurationError(
                f"EMBEDDING_BUDGET_USD={limit} cannot be kept: the price of {space.model!r} is not "
                "known. Unset it to run without a limit."
            )

    def spend(self, texts: Sequence[str]) -> None:
        """Count texts that are about to be embedded.

        Raises `ConfigurationError` before the limit is passed.
        """
        if self._limit is None or self._space is None:
            return
        price = dollars(self._space, sum(map(tokens_of, texts))) or 0.0
        with self._lock:
            if self.spent + price > self._limit:
                self.spent_up = True
                raise ConfigurationError(
                    f"EMBEDDING_BUDGET_USD={self._limit} is spent (about {self.spent:.4f} so far). "
                    "What was embedded is kept; raise the limit and run again to go on."
                )
            self.spent += price


@dataclass(frozen=True)
class Estimate:
    """What is left to do for a space."""

    space: str
    rows: int
    tokens: int
    dollars: float | None
    rows_per_second: float | None
    """Measured on a sample with the local embedder; None for a hosted one, which is not called."""
    side_bytes: int
    index_bytes: int

    @property
    def seconds(self) -> float | None:
        return self.rows / self.rows_per_second if self.rows_per_second else None

    def lines(self) -> list[str]:
        """For people."""
        cost = "unknown price" if self.dollars is None else f"${self.dollars:,.4f}"
        speed = "hosted: not measured, nothing was sent"
        if self.rows_per_second and self.seconds is not None:
            speed = f"{self.rows_per_second:,.0f} texts/s, {self.seconds / 60:,.1f} minutes"
        return [
            f"space   {self.space}",
            f"rows    {self.rows:,} to embed, about {self.tokens:,} tokens",
            f"cost    {cost}",
            f"time    {speed}",
            f"disk    {self.side_bytes / 2**20:,.0f} MiB of vectors, "
            f"{self.index_bytes / 2**20:,.0f} MiB of index",
        ]


def estimate(
    connection: psycopg.Connection[Any], source: Source, space: Space, embedder: Embedder
) -> Estimate:
    """Count the missing rows, sample their texts, and time a local embedder on a few."""
    row = connection.execute(
        sql.SQL("select {}(%s)").format(source.own("missing")), [space.name]
    ).fetchone()
    rows = int(row[0]) if row else 0
    statement = sql.SQL("select {} from {} d where {} <> '' limit {}").format(
        source.text("d"), source.relation, source.text("d"), sql.Literal(_SAMPLE)
    )
    sample = [str(found[0]) for found in connection.execute(statement)]
    mean = sum(map(tokens_of, sample)) / len(sample) if sample else 0.0
    width = 4 if space.element == "vector" else 2
    return Estimate(
        space.name,
        rows,
        round(rows * mean),
        dollars(space, rows * mean),
        _speed(space, embedder, sample),
        rows * (space.dimensions * width + 100),
        rows * (space.dimensions * width + 1000),
    )


def _speed(space: Space, embedder: Embedder, sample: Sequence[str]) -> float | None:
    if space.provider != "local" or not sample:
        return None
    texts = list(sample[:_TIMED])
    embed(embedder, space, texts[:1])
    started = time.monotonic()
    embed(embedder, space, texts)
    return len(texts) / max(time.monotonic() - started, 1e-6)
