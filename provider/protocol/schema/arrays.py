"""Sets of arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

from provider.protocol.schema.formula import FALSE, TRUE, Formula, every


@dataclass(frozen=True, slots=True)
class Count:
    """From `low` to `high` (None: any number) of the items from index `start` on are in `item`."""

    item: Formula
    low: int
    high: int | None
    start: int = 0


@dataclass(frozen=True, slots=True)
class Arrays:
    """Arrays of `low` to `high` items: the first of them in `prefix`, one each, all others in
    `rest`; every count holds; `unique`: no two items are equal."""

    prefix: tuple[Formula, ...] = ()
    rest: Formula = TRUE
    low: int = 0
    high: int | None = None
    counts: tuple[Count, ...] = ()
    unique: bool = False

    def item(self, index: int) -> Formula:
        return self.prefix[index] if index < len(self.prefix) else self.rest

    def intersect(self, other: Arrays) -> Arrays | None:
        width = max(len(self.prefix), len(other.prefix))
        return Arrays(
            tuple(every(self.item(i), other.item(i)) for i in range(width)),
            every(self.rest, other.rest),
            max(self.low, other.low),
            least(self.high, other.high),
            tuple(dict.fromkeys(self.counts + other.counts)),
            self.unique or other.unique,
        ).normal()

    def normal(self) -> Arrays | None:
        high = self.high
        for index, item in enumerate((*self.prefix, self.rest)):
            if item == FALSE:
                high = least(high, index)
                break
        if high is not None and self.low > high:
            return None
        prefix = self.prefix if high is None else self.prefix[:high]
        unique = self.unique and (high is None or high > 1)
        return replace(self, prefix=prefix, high=high, unique=unique)


def least(a: int | None, b: int | None) -> int | None:
    return b if a is None else (a if b is None else min(a, b))


ALL = (Arrays(),)
