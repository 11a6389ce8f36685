"""Ends a constrained answer's loops: a string, number or list that repeats itself for ever.

A small model under a grammar can fall into a cycle that the grammar allows without end. The guard
watches an answer's tokens. Where the last `limit` of them are one cycle inside a string (or a
number), or twice as many nearly are (a sampled token breaks the cycle now and then, and the model
falls back into it), only tokens that close it are left from there on, as soon as the grammar allows
one; where the last `4 * limit` are one cycle of items, the list or object that repeats is closed.
What is left is always part of what the grammar allows, so the answer stays valid. Every loop that
was ended halves the limit for the rest of the answer, down to `SMALLEST`; after `ENOUGH` of them
every list and object ends as soon as it may.

The guard sees tokens of its own answer only: what it does depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from provider.engine.json_place import JsonPlace

SMALLEST = 32
REPEATS = 4
"""A cycle is one whose text has come at least this often."""

NEARLY = 0.9
"""The share of tokens that repeat what came one period before, in what nearly is a cycle."""

ENOUGH = 16

_EVERY = 16
_ANY_DEPTH = 1 << 30
_NUMBER = b"0123456789.eE+-"
_STRUCTURE = frozenset(b'"[]{},:')

Mask = NDArray[np.uint8]


class TokenClasses:
    """Sets of tokens by how they are written, as masks; made once per vocabulary."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        first = [data[:1] for data in token_bytes]
        self.quote = _mask([b == b'"' for b in first])
        self.close = _mask([b in (b"]", b"}") for b in first])
        self.no_digit = _mask([bool(b) and b not in _NUMBER for b in first])
        self.single = _mask([bool(d) and not _STRUCTURE & set(d[:-1]) for d in token_bytes])
        self.newline = _mask([d == b"\n" for d in token_bytes])


Classes = Callable[[], TokenClasses]


class LoopGuard:
    """One answer's guard. `limit` is in tokens; 0 never interferes."""

    def __init__(self, limit: int, token_bytes: Sequence[bytes], classes: Classes) -> None:
        self._limit = limit
        self._token_bytes = token_bytes
        self._classes = classes
        self._place = JsonPlace()
        self._checked = 0
        self._ended = 0
        self._scalar: Literal["string", "number"] | None = None
        self._depth = 0

    def idle(self, tokens: Sequence[int], start: int) -> bool:
        """Whether `narrow` would leave every mask as it is, after `tokens[start:]`."""
        count = len(tokens) - start
        if self._limit and count - self._checked >= _EVERY and count >= self._limit:
            self._checked = count
            self._look(tokens, start)
        return self._scalar is None and not self._depth

    def narrow(self, mask: Mask, tokens: Sequence[int], start: int) -> Mask:
        """`mask`, or the part of it that ends the loop which `tokens[start:]` have run into."""
        if self.idle(tokens, start):
            return mask
        self._read(tokens, start)
        self._notice_ends()
        wanted = self._wanted(self._classes())
        return mask if wanted is None else _common(mask, wanted, self._classes())

    def _look(self, tokens: Sequence[int], start: int) -> None:
        """Finds the loop that the answer is in, if any."""
        long = max(REPEATS * self._limit, 2 * REPEATS * SMALLEST)
        tail = list(tokens[max(start, len(tokens) - long) :])
        short = _cycle(tail[-self._limit :])
        cycle = _cycle(tail) if len(tail) == long else None
        length = self._limit
        if short is None and nearly_cycles(tail[-2 * self._limit :]):
            length = 2 * self._limit
        elif short is None and cycle is None:
            return
        self._read(tokens, start)
        place = self._place
        scalar = short is not None or length > self._limit
        if scalar and place.tokens - place.string_since >= length:
            self._scalar = "string"
        elif scalar and place.in_number_since(length):
            self._scalar = "number"
        elif cycle is not None and not self._depth:
            self._depth = min(place.depths[-cycle:])

    def _read(self, tokens: Sequence[int], start: int) -> None:
        for token in tokens[start + self._place.tokens :]:
            self._place.feed(self._token_bytes[token])

    def _notice_ends(self) -> None:
        """Forgets loops that have been closed."""
        place = self._place
        inside = place.in_string if self._scalar == "string" else place.in_number
        if self._scalar is not None and not inside:
            self._scalar = None
            self._count_end()
        if self._depth and place.depths[-1] < self._depth and self._ended < ENOUGH:
            self._depth = 0
            self._count_end()

    def _count_end(self) -> None:
        self._checked = self._place.tokens
        self._limit = max(SMALLEST, self._limit // 2)
        self._ended += 1
        if self._ended >= ENOUGH:
            self._depth = _ANY_DEPTH

    def _wanted(self, classes: TokenClasses) -> Mask | None:
        """What may be written now so that the loop ends; None lets the grammar go on."""
        place = self._place
        if self._scalar == "string":
            return None if place.escaped else classes.quote
        if self._scalar == "number":
            return classes.no_digit
        if not self._depth:
            return None
        at_end = place.after_value and place.depths[-1] <= self._depth
        return classes.close if at_end else classes.single


def _cycle(tokens: Sequence[int]) -> int | None:
    """The period of tokens that repeat at least `REPEATS` times."""
    found = period(tokens)
    return found if found is not None and found * REPEATS <= len(tokens) else None


def nearly_cycles(tokens: Sequence[int]) -> bool:
    """Whether nearly all tokens repeat those one period before: the same for all of them, and
    short enough to have come eight times. The last two have to, so that few periods are tried."""
    row = np.asarray(tokens)
    most = row.size // 8
    if most < 1:
        return False
    again = (row[-1 - most : -1] == row[-1]) & (row[-2 - most : -2] == row[-2])
    periods = most - np.flatnonzero(again)
    return any(np.mean(row[p:] == row[:-p]) >= NEARLY for p in periods)


def period(tokens: Sequence[int]) -> int | None:
    """The smallest p with tokens[i] == tokens[i + p] throughout; None if only the whole length."""
    count = len(tokens)
    border = [0] * count
    length = 0
    for at in range(1, count):
        while length and tokens[at] != tokens[length]:
            length = border[length - 1]
        if tokens[at] == tokens[length]:
            length += 1
        border[at] = length
    return count - length if length else None


def _common(mask: Mask, wanted: Mask, classes: TokenClasses) -> Mask:
    """Both; `mask` itself where nothing is left, and where raw newlines show that it is no JSON."""
    size = min(mask.shape[0], wanted.shape[0])
    if (mask[: classes.newline.shape[0]] & classes.newline[: mask.shape[0]]).any():
        return mask
    both = np.zeros_like(mask)
    both[:size] = mask[:size] & wanted[:size]
    return both if both.any() else mask


def _mask(members: Sequence[bool]) -> Mask:
    """One bit per token, lowest first, in whole 32-bit words."""
    bits = np.packbits(np.asarray(members, dtype=np.bool_), bitorder="little")
    return np.pad(bits, (0, -bits.shape[0] % 4))
