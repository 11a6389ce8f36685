"""Near-duplicate texts: MinHash signatures, banded, and confirmed on the real sets of 5-grams.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec et al.,
"Mining of Massive Datasets", chapter 3. Twelve bands of five find a pair of resemblance 0.85 with
probability 0.999. Among many texts that share a band (templates), each is compared with the first
16 (256 across a split) that differ, not with all.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint32]

GRAM = 5
_BANDS, _ROWS = 12, 5
_CHUNK = 8192
_REPRESENTATIVES, _MATCHED = 16, 256
_SLACK = 0.2
"""A signature of 60 values is off by 0.2 about once in a thousand pairs."""

_draw = np.random.Generator(np.random.PCG64(1997))
_MULTIPLY = (_draw.integers(0, 2**32, _BANDS * _ROWS, np.uint32) | np.uint32(1))[:, None]
_ADD = _draw.integers(0, 2**32, _BANDS * _ROWS, np.uint32)[:, None]


@dataclass(frozen=True, slots=True)
class Pair:
    """Text `later` resembles text `first`, which comes before it, to this degree (0 to 1)."""

    first: int
    later: int
    resemblance: float


def normal(text: str) -> str:
    """The text as it is compared: compatibility forms, case and white space do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def resemblance(one: str, other: str) -> float:
    """Shared 5-grams of two normal texts, as a share of all that either has."""
    return _jaccard(np.unique(_grams(one)), np.unique(_grams(other)))


def near_duplicates(texts: Sequence[str], threshold: float) -> list[Pair]:
    """One pair for each text that resembles an earlier one, in the order of the later ones.

    `texts` are normal already. Texts shorter than one 5-gram only resemble equal ones.
    """
    signatures = _signatures(texts)
    found: dict[int, Pair] = {}
    for members in _buckets(signatures):
        kept = members[:1]
        for member in members[1:]:
            if member in found:
                continue
            for first in _alike(signatures, kept, member, threshold)[:1]:
                if (close := resemblance(texts[first], texts[member])) >= threshold:
                    found[member] = Pair(first, member, close)
            if member not in found and len(kept) < _REPRESENTATIVES:
                kept.append(member)
    return [found[member] for member in sorted(found)]


def near_matches(texts: Sequence[str], against: Sequence[str], threshold: float) -> list[Pair]:
    """One pair for each of `texts` (`later`) that resembles one of `against` (`first`)."""
    signatures = _signatures([*against, *texts])
    found: dict[int, Pair] = {}
    for members in _buckets(signatures):
        known = [member for member in members if member < len(against)][:_MATCHED]
        for member in members if known else ():
            later = member - len(against)
            if later < 0 or later in found:
                continue
            for first in _alike(signatures, known, member, threshold)[:_REPRESENTATIVES]:
                if (close := resemblance(against[first], texts[later])) >= threshold:
                    found[later] = Pair(first, later, close)
                    break
    return [found[later] for later in sorted(found)]


def near_groups(texts: Sequence[str], threshold: float) -> list[int]:
    """For each text the number of its group; texts that resemble each other are in one group."""
    signatures = _signatures(texts)
    groups = Groups(len(texts))
    for members in _buckets(signatures):
        kept: list[int] = []
        for member in members:
            for other in _alike(signatures, kept, member, threshold):
                if groups.of(other) != groups.of(member) and (
                    resemblance(texts[other], texts[member]) >= threshold
                ):
                    groups.join(other, member)
            if len(kept) < _MATCHED:
                kept.append(member)
    return [groups.of(index) for index in range(len(texts))]


class Seen:
    """Texts that come one after the other; each is kept unless it resembles one that was kept."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._texts: set[str] = set()
        self._bands: dict[bytes, list[str]] = defaultdict(list)

    def add(self, text: str) -> bool:
        """Whether the (normal) text is new, and therefore kept. A threshold of 0 compares nothing
        but equality."""
        if text in self._texts:
            return False
        signature = _signature(_grams(text))
        keys = [
            bytes([band]) + signature[band * _ROWS : (band + 1) * _ROWS].tobytes()
            for band in range(_BANDS)
        ]
        if self._threshold:
            near = {other for key in keys for other in self._bands[key][:_MATCHED]}
            if any(resemblance(text, other) >= self._threshold for other in near):
                return False
        self._texts.add(text)
        for key in keys:
            self._bands[key].append(text)
        return True


class Groups:
    """Things that belong together, by number; a group is known by its smallest member."""

    def __init__(self, size: int) -> None:
        self._above = list(range(size))

    def of(self, member: int) -> int:
        while (above := self._above[member]) != member:
            self._above[member] = self._above[above]
            member = above
        return member

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.of(one), self.of(other)))
        self._above[high] = low


def _buckets(signatures: Codes) -> Iterator[list[int]]:
    """Texts that share all values of a band, in their order."""
    for band in range(_BANDS):
        part = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for index, key in enumerate(part):
            buckets[key.tobytes()].append(index)
        yield from (members for members in buckets.values() if len(members) > 1)


def _alike(signatures: Codes, others: list[int], member: int, threshold: float) -> list[int]:
    """Those of `others` whose signatures agree nearly to the threshold, the nearest first."""
    if not others:
        return []
    agree = (signatures[others] == signatures[member]).mean(axis=1)
    order = np.argsort(-agree, kind="stable")
    return [others[place] for place in order if agree[place] >= threshold - _SLACK]


def _signatures(texts: Sequence[str]) -> Codes:
    if not texts:
        return np.empty((0, _BANDS * _ROWS), np.uint32)
    return np.stack([_signature(_grams(text)) for text in texts])


def _grams(text: str) -> Codes:
    """A 32-bit hash for each 5-gram; the whole text's for one that is shorter."""
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    if codes.size < GRAM:
        codes = np.pad(codes, (0, GRAM - codes.size))
    mixed = np.zeros(codes.size - GRAM + 1, np.uint32)
    for offset in range(GRAM):
        mixed = _mix(mixed ^ codes[offset : codes.size - GRAM + 1 + offset])
    return mixed


def _mix(values: Codes) -> Codes:
    """The finaliser of MurmurHash3: each bit of the input moves each bit of the output."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))


def _signature(grams: Codes) -> Codes:
    least = np.full(_BANDS * _ROWS, 2**32 - 1, np.uint32)
    for start in range(0, grams.size, _CHUNK):
        permuted = grams[None, start : start + _CHUNK] * _MULTIPLY + _ADD
        least = np.minimum(least, permuted.min(axis=1))
    return least


def _jaccard(one: Codes, other: Codes) -> float:
    shared = np.intersect1d(one, other, assume_unique=True).size
    return shared / (one.size + other.size - shared)
