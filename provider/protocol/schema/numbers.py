"""Sets of numbers: an interval, perhaps whole numbers only, perhaps multiples only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor, inf, lcm, nextafter
from typing import Any

from provider.protocol.schema.regular import algebra, numerals
from provider.protocol.schema.regular.algebra import EMPTY, Re, both

_LISTED = 512
_STEP = 1000
"""llguidance explores a state per remainder: large steps take it minutes."""


class NotRegular(Exception):
    """A set of numbers whose texts we cannot write as a regular language."""


def exact(value: int | float) -> Fraction:
    """The decimal number that a JSON text denotes, not its binary approximation."""
    return Fraction(value) if isinstance(value, int) else Fraction(Decimal(repr(value)))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers x with low <= x <= high (`<` where open); None is unbounded.

    `whole`: True whole numbers only, False others only, None both. `multiple`: x is a multiple of
    it. `not_multiples`: x is a multiple of none of these.
    """

    low: Fraction | None = None
    high: Fraction | None = None
    low_open: bool = False
    high_open: bool = False
    whole: bool | None = None
    multiple: Fraction | None = None
    not_multiples: tuple[Fraction, ...] = ()

    def intersect(self, other: Numbers) -> Numbers | None:
        """What is in both; None when that is plainly nothing."""
        low, low_open = _tighter((self.low, self.low_open), (other.low, other.low_open), 1)
        high, high_open = _tighter((self.high, self.high_open), (other.high, other.high_open), -1)
        if self.whole is not None and other.whole is not None and self.whole != other.whole:
            return None
        return Numbers(
            low,
            high,
            low_open,
            high_open,
            self.whole if self.whole is not None else other.whole,
            _common_multiple(self.multiple, other.multiple),
            tuple(dict.fromkeys(self.not_multiples + other.not_multiples)),
        ).normal()

    def normal(self) -> Numbers | None:
        """The same set in its simplest terms; None when it is empty."""
        found = self
        if found.multiple is not None and (found.multiple.denominator == 1 or found.whole):
            if found.whole is False:
                return None
            step = _common_multiple(found.multiple, Fraction(1))
            found = replace(found, whole=True, multiple=None if step == 1 else step)
        if found.whole:
            found = found._closed()
        low, high = found.low, found.high
        if low is not None and high is not None:
            if low > high or (low == high and (found.low_open or found.high_open)):
                return None
            if low == high and found.whole is False and low.denominator == 1:
                return None
        return found

    def _closed(self) -> Numbers:
        """Whole numbers have closed, whole bounds, multiples of the step where there is one."""
        step = self.multiple or Fraction(1)
        low, high = self.low, self.high
        if low is not None:
            low = ceil(low / step) * step + (step if self.low_open and low % step == 0 else 0)
        if high is not None:
            high = floor(high / step) * step - (step if self.high_open and high % step == 0 else 0)
        return replace(self, low=low, high=high, low_open=False, high_open=False)

    def complement(self) -> list[Numbers]:
        out = []
        if self.low is not None:
            out.append(Numbers(high=self.low, high_open=not self.low_open))
        if self.high is not None:
            out.append(Numbers(low=self.high, low_open=not self.high_open))
        if self.whole is not None:
            out.append(Numbers(whole=not self.whole))
        if self.multiple is not None:
            out.append(Numbers(not_multiples=(self.multiple,)))
        out += [Numbers(multiple=m) for m in self.not_multiples]
        return [n for n in (o.normal() for o in out) if n is not None]

    def without(self, other: Numbers) -> list[Numbers]:
        return [n for o in other.complement() if (n := self.intersect(o)) is not None]

    def values(self, limit: int) -> list[Fraction] | None:
        """All members, or None when there are more than `limit` (or infinitely many)."""
        if self.low is None or self.high is None:
            return None
        if self.low == self.high:
            found = [self.low]
        else:
            step = self.multiple or (Fraction(1) if self.whole else None)
            if step is None or (self.high - self.low) / step >= limit:
                return None
            first, last = ceil(self.low / step), floor(self.high / step)
            found = [n * step for n in range(first, last + 1)]
        return [v for v in found if self._has(v)]

    def _has(self, v: Fraction) -> bool:
        return not (
            (v == self.low and self.low_open)
            or (v == self.high and self.high_open)
            or (self.whole is not None and self.whole != (v.denominator == 1))
            or (self.multiple is not None and (v / self.multiple).denominator != 1)
            or any((v / m).denominator == 1 for m in self.not_multiples)
        )

    def texts(self) -> Re:
        """The decimal texts of the members. Raises `NotRegular`."""
        listed = self.values(_LISTED) if self._irregular() or self.low == self.high else None
        if listed is not None:
            return algebra.literals(t for v in listed for t in _texts(v, self.whole))
        if self.not_multiples:
            raise NotRegular
        if self.whole:
            first, last = (None if b is None else int(b) for b in (self.low, self.high))
            found = numerals.integers(first, last)
            return found if self.multiple is None else both(found, _multiples(self.multiple))
        low, low_open = _closed_bound(self.low, self.low_open, inf)
        high, high_open = _closed_bound(self.high, self.high_open, -inf)
        found = numerals.decimals(low, low_open, high, high_open)
        if self.whole is False:
            found = both(found, numerals.NOT_WHOLE)
        return found if self.multiple is None else both(found, _multiples(self.multiple))

    def bounded(self) -> bool:
        """Whether there may be only so many members."""
        few = self.whole or self.multiple is not None or self.low == self.high
        return self.low is not None and self.high is not None and bool(few)

    def _irregular(self) -> bool:
        return bool(self.not_multiples) or self.multiple is not None

    def as_schema(self) -> dict[str, Any]:
        """A JSON Schema of the same set, for a step that only llguidance itself can count."""
        bounds = [b for b in (self.low, self.high) if b is not None]
        if self.not_multiples or self.whole is False or self.multiple is None:
            raise NotRegular
        if any(abs(b) >= 2**53 or exact(float(b)) != b for b in bounds):
            raise NotRegular
        if exact(float(self.multiple)) != self.multiple or self.multiple.numerator > _STEP:
            raise NotRegular
        found: dict[str, Any] = {"type": "integer" if self.whole else "number"}
        if self.low is not None:
            found["exclusiveMinimum" if self.low_open else "minimum"] = _number(self.low)
        if self.high is not None:
            found["exclusiveMaximum" if self.high_open else "maximum"] = _number(self.high)
        return {**found, "multipleOf": _number(self.multiple)}


def _number(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def _closed_bound(
    bound: Fraction | None, open_: bool, towards: float
) -> tuple[Fraction | None, bool]:
    """An open bound as the next double, which is included.

    Readers round to doubles: 0.0999999999999999999999 < 0.1 is read as 0.1. Next to zero the
    digits would be hundreds, and such texts are not written by accident: zero stays as it is.
    """
    if not open_ or not bound or exact(float(bound)) != bound:
        return bound, open_
    return exact(nextafter(float(bound), towards)), False


def _tighter(
    a: tuple[Fraction | None, bool], b: tuple[Fraction | None, bool], sign: int
) -> tuple[Fraction | None, bool]:
    if a[0] is None or b[0] is None:
        return b if a[0] is None else a
    if a[0] == b[0]:
        return a[0], a[1] or b[1]
    return a if (a[0] - b[0]) * sign > 0 else b


def _common_multiple(a: Fraction | None, b: Fraction | None) -> Fraction | None:
    if a is None or b is None:
        return b if a is None else a
    scale = lcm(a.denominator, b.denominator)
    return Fraction(lcm(int(a * scale), int(b * scale)), scale)


def _texts(value: Fraction, whole: bool | None) -> list[str]:
    """The texts of one number: its shortest decimal, and `5.0` for 5 where fractions may be."""
    sign = "-" if value < 0 else ""
    number, digits = numerals.split(abs(value))
    if digits:
        return [f"{sign}{number}.{digits}"]
    return [f"{sign}{number}"] if whole else [f"{sign}{number}", f"{sign}{number}.0"]


def _multiples(step: Fraction) -> Re:
    """Texts of the multiples of a step that divides a power of ten (50, 0.25, 0.01)."""
    for places in range(20):
        power = 10**places
        whole = step.denominator == 1
        unit = step if whole else step * power
        if unit.denominator != 1 or power % unit.numerator:
            continue
        if unit != 1 and power // unit.numerator > _LISTED * 4:
            break
        write = numerals.multiples_of_whole if whole else numerals.multiples_of_fraction
        return write(unit.numerator, places)
    raise NotRegular


NONE: tuple[Numbers, ...] = ()
ALL: tuple[Numbers, ...] = (Numbers(),)
__all__ = ["ALL", "EMPTY", "NONE", "NotRegular", "Numbers", "exact"]
