"""Sets of arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

from provider.protocol.schema.formula import FALSE, TRUE, Formula, every, negate


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

    def complement(self) -> list[Arrays] | None:
        """The other arrays; None where that cannot be said (`unique`)."""
        if self.unique:
            return None
        out = []
        if self.low > 0:
            out.append(Arrays(high=self.low - 1))
        if self.high is not None:
            out.append(Arrays(low=self.high + 1))
        for index, item in enumerate(self.prefix):
            if item != TRUE:
                out.append(Arrays(prefix=(TRUE,) * index + (negate(item),), low=index + 1))
        if self.rest != TRUE:
            stray = Count(negate(self.rest), 1, None, len(self.prefix))
            out.append(Arrays(counts=(stray,), low=len(self.prefix) + 1))
        for count in self.counts:
            if count.low > 0:
                out.append(Arrays(counts=(replace(count, low=0, high=count.low - 1),)))
            if count.high is not None:
                out.append(Arrays(counts=(replace(count, low=count.high + 1, high=None),)))
        return [a for a in (o.normal() for o in out) if a is not None]


def least(a: int | None, b: int | None) -> int | None:
    return b if a is None else (a if b is None else min(a, b))


ALL = (Arrays(),)
