"""The order of the rows: a function of seed and epoch alone, so that a resume finds it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Row numbers of one epoch. `epoch` is set by the trainer before it iterates.

    With `group` rows (those of one optimiser step), each group has rows of similar length, longest
    first within it; which group comes when is random. Without, the order is random.
    """

    def __init__(self, lengths: Sequence[int], seed: int, group: int | None = None) -> None:
        self.epoch = 0
        self._lengths = lengths
        self._seed = seed
        self._group = group

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(self.epoch))

    def order(self, epoch: int) -> list[int]:
        """The rows of an epoch, each once."""
        random = Random(f"{self._seed}/{epoch}")
        rows = list(range(len(self._lengths)))
        random.shuffle(rows)
        return rows if self._group is None else self._grouped(rows, self._group, random)

    def _grouped(self, rows: list[int], group: int, random: Random) -> list[int]:
        """Sorted within random pools of fifty groups, as length grouping is usually done."""
        ordered: list[int] = []
        for start in range(0, len(rows), group * 50):
            pool = rows[start : start + group * 50]
            ordered += sorted(pool, key=lambda row: -self._lengths[row])
        whole = len(ordered) // group * group
        groups = [ordered[start : start + group] for start in range(0, whole, group)]
        random.shuffle(groups)
        return [row for each in groups for row in each] + ordered[whole:]
