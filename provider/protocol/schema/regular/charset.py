"""Sets of Unicode scalar values, as sorted, disjoint, inclusive ranges."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

Range = tuple[int, int]

_LAST = 0x10FFFF
_SURROGATES: Range = (0xD800, 0xDFFF)


class CharSet(NamedTuple):
    """A set of code points; surrogates are never members, because UTF-8 has no text for them."""

    ranges: tuple[Range, ...]

    def has(self, code: int) -> bool:
        at = bisect_right(self.ranges, (code, _LAST + 1)) - 1
        return at >= 0 and self.ranges[at][0] <= code <= self.ranges[at][1]

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def size(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)

    def first(self) -> str:
        """One member, a readable one where there is one."""
        for wanted in (0x61, 0x30, 0x41, 0x20, 0xAC00):
            if self.has(wanted):
                return chr(wanted)
        return chr(self.ranges[0][0])


def of(ranges: Iterable[Range]) -> CharSet:
    """The set of these inclusive ranges, normalised, without surrogates."""
    merged: list[Range] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return _without_surrogates(CharSet(tuple(merged)))


def chars(text: str) -> CharSet:
    return of((ord(c), ord(c)) for c in text)


@lru_cache(maxsize=4096)
def union(a: CharSet, b: CharSet) -> CharSet:
    return of(a.ranges + b.ranges)


@lru_cache(maxsize=4096)
def intersect(a: CharSet, b: CharSet) -> CharSet:
    out: list[Range] = []
    i = j = 0
    while i < len(a.ranges) and j < len(b.ranges):
        low = max(a.ranges[i][0], b.ranges[j][0])
        high = min(a.ranges[i][1], b.ranges[j][1])
        if low <= high:
            out.append((low, high))
        if a.ranges[i][1] < b.ranges[j][1]:
            i += 1
        else:
            j += 1
    return CharSet(tuple(out))


@lru_cache(maxsize=4096)
def complement(a: CharSet) -> CharSet:
    out: list[Range] = []
    at = 0
    for low, high in a.ranges:
        if low > at:
            out.append((at, low - 1))
        at = high + 1
    if at <= _LAST:
        out.append((at, _LAST))
    return _without_surrogates(CharSet(tuple(out)))


def _without_surrogates(a: CharSet) -> CharSet:
    if not any(low <= _SURROGATES[1] and high >= _SURROGATES[0] for low, high in a.ranges):
        return a
    return intersect(a, CharSet(((0, _SURROGATES[0] - 1), (_SURROGATES[1] + 1, _LAST))))


NONE = CharSet(())
ALL = of([(0, _LAST)])
DIGITS = of([(0x30, 0x39)])
WORD = of([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
LINE_ENDS = chars("\n\r\u2028\u2029")
# ECMA-262 WhiteSpace and LineTerminator
SPACE = of([
    (9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
])  # fmt: skip
