"""Packing: short conversations share a row, and none of them can see another.

Best-fit decreasing: each conversation, longest first, goes into the fullest row that still has
room for it. A row's positions start again at 0 with each conversation, which is what makes
attention masks block-diagonal (transformers' `find_packed_sequence_indices`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

MULTIPLE = 64
"""Batches and products are rounded up to so many tokens: each new shape costs a CPU's library
(oneDNN) a compiled kernel, and a GPU likes even ones."""


def packed(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Rows of numbers of conversations, the lengths in each summing to at most `size`.

    Raises ValueError for a conversation longer than a row.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), sorted
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        length = lengths[number]
        if length > size:
            raise ValueError(f"conversation {number} has {length} tokens; a row has {size}")
        place = bisect_left(room, (length, -1))
        free, row = room.pop(place) if place < len(room) else (size, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(number)
        if free > length:
            insort(room, (free - length, row))
    return rows
