"""What adapters add to the rows of a step: by ranges of rows, or all adapters at once.

A CPU adds each adapter to the packed rows that asked for it (`Ranges`). On other devices, where
launches cost and a CUDA graph needs shapes that do not change, the matrices of all adapters lie
side by side (`LoraBank`): `x` is multiplied by the `down` of all of them, what does not belong to
a row's own adapter is set to zero, and the rest goes through the `up` of all of them. Which
columns a row may use is a comparison of two vectors on the device, so one graph serves every
mixture. For few rows this reads each resident adapter once a step, however many rows ask for it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from provider.engine.adapters import Adapter
from provider.engine.products import FusedLinear
from provider.errors import ConfigurationError

NOBODY = -1
"""Owner of a column that no adapter has; rows without an adapter are owned by 0."""


class Adapting(Protocol):
    """What a step's adapters add to a product."""

    def add(self, product: FusedLinear, x: Tensor, y: Tensor) -> None:
        """Adds to `y` `[T, out]` what the adapters of its rows make of `x` `[T, in]`."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Adapters with the packed rows (start, stop) that each applies to."""

    ranges: list[tuple[Adapter, int, int]]

    def add(self, product: FusedLinear, x: Tensor, y: Tensor) -> None:
        for adapter, start, stop in self.ranges:
            for part in product.parts:
                pair = adapter.pairs.get(part.module)
                if pair is not None:
                    y[start:stop, part.start : part.stop] += pair(x[start:stop])


@dataclass(frozen=True, slots=True)
class Table:
    """One fused product's matrices: `down` `[in, n * columns]` for `n` parts that some adapter
    has, and `up` `[columns, out]` of each by the columns of the product that it makes."""

    down: Tensor
    ups: list[tuple[int, int, Tensor]]


@dataclass(frozen=True, slots=True)
class Tables:
    """All adapters' matrices at fixed addresses. `owners` `[columns]`: the number of the adapter
    that each column belongs to. A graph that holds them keeps them alive."""

    version: int
    columns: int
    owners: Tensor
    tables: dict[FusedLinear, Table]
    places: dict[nn.Module, tuple[Tensor, Tensor]]
    """Where a module's `down` `[in, columns]` and `up` lie."""

    @property
    def nbytes(self) -> int:
        return sum(down.nbytes + up.nbytes for down, up in self.places.values())


class Masked:
    """Every row's own columns of the tables; `owners` `[T]` are the numbers of the rows'
    adapters, 0 for none."""

    def __init__(self, tables: Tables, owners: Tensor) -> None:
        self._tables = tables.tables
        foreign = owners.unsqueeze(1) != tables.owners.unsqueeze(0)
        most = max((len(table.ups) for table in tables.tables.values()), default=0)
        self._foreign = [foreign.repeat(1, parts) for parts in range(1, most + 1)]
        self._columns = tables.columns

    def add(self, product: FusedLinear, x: Tensor, y: Tensor) -> None:
        table = self._tables.get(product)
        if table is None:
            return
        # Selected, not multiplied by zero: an adapter whose numbers overflow harms its rows only.
        narrow = (x @ table.down).masked_fill_(self._foreign[len(table.ups) - 1], 0)
        for number, (start, stop, up) in enumerate(table.ups):
            own = narrow[:, number * self._columns : (number + 1) * self._columns]
            y[:, start:stop].addmm_(own, up)


@dataclass(slots=True)
class _Held:
    """An adapter's columns."""

    number: int
    first: int
    rank: int
    modules: set[nn.Module] = field(default_factory=set)


class LoraBank:
    """All adapters of one runner. `add` may be called from any thread, `tables` from the engine's.

    An adapter's columns are free again when nothing refers to it any more: neither a name nor a
    request under way. Free columns do not shrink the tables.
    """

    def __init__(
        self, products: Iterable[FusedLinear], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._products = list(products)
        self._device, self._dtype = device, dtype
        self._held: weakref.WeakKeyDictionary[Adapter, _Held] = weakref.WeakKeyDictionary()
        self._left: deque[_Held] = deque()
        self._free: list[tuple[int, int]] = []
        self._numbers = 0
        self._lock = threading.Lock()
        self.tables = self._made(0, 0, set())

    @property
    def nbytes(self) -> int:
        """What the tables take on the device."""
        return self.tables.nbytes

    def add(self, adapter: Adapter) -> int:
        """What the rows of an adapter are marked with. Takes its matrices in if they are not.

        Raises ConfigurationError if there is no room for them.
        """
        held = self._held.get(adapter)
        return self._add(adapter) if held is None else held.number

    @torch.inference_mode()
    def _add(self, adapter: Adapter) -> int:
        with self._lock:
            known = self._held.get(adapter)
            if known is not None:
                return known.number
            rank = max((pair.down.shape[1] for pair in adapter.pairs.values()), default=0)
            self._take_back()
            first = self._room(rank, set(adapter.pairs))
            self._numbers += 1
            held = _Held(self._numbers, first, rank, set(adapter.pairs))
            self._write(adapter, held)
            self._held[adapter] = held
            weakref.finalize(adapter, self._left.append, held).atexit = False
            return held.number

    def _take_back(self) -> None:
        """Frees what adapters that are gone have left; their columns belong to nobody then."""
        while self._left:
            held = self._left.popleft()
            self.tables.owners[held.first : held.first + held.rank] = NOBODY
            self._free.append((held.first, held.rank))
        self._free.sort()
        joined: list[tuple[int, int]] = []
        for first, count in self._free:
            if joined and sum(joined[-1]) == first:
                joined[-1] = (joined[-1][0], joined[-1][1] + count)
            else:
                joined.append((first, count))
        self._free = joined

    def _room(self, rank: int, modules: set[nn.Module]) -> int:
        """The first of `rank` free columns in tables that have all `modules`."""
        found = next((free for free in self._free if free[1] >= rank), None)
        missing = modules - self.tables.places.keys()
        columns = self.tables.columns
        if found is None:
            found = (columns, max(rank, columns))
            columns += found[1]
        if missing or columns > self.tables.columns:
            self._grow(columns, missing)
        if found in self._free:
            self._free.remove(found)
        first, count = found
        if count > rank:
            self._free.append((first + rank, count - rank))
        return first

    def _grow(self, columns: int, modules: set[nn.Module]) -> None:
        old = self.tables
        try:
            new = self._made(old.version + 1, columns, modules | old.places.keys())
        except torch.OutOfMemoryError as error:
            raise ConfigurationError(
                f"{self._device} has no memory left for {columns} columns of LoRA matrices; unload "
                "an adapter, or lower LOCAL_LLM_MAX_ADAPTERS or LOCAL_LLM_MEMORY."
            ) from error
        new.owners[: old.columns] = old.owners
        for module, (down, up) in old.places.items():
            new.places[module][0][:, : old.columns] = down
            new.places[module][1][: old.columns] = up
        self.tables = new

    def _made(self, version: int, columns: int, modules: set[nn.Module]) -> Tables:
        """Empty tables for the parts that `modules` name."""
        owners = torch.full((columns,), NOBODY, dtype=torch.long, device=self._device)
        tables: dict[FusedLinear, Table] = {}
        places: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        for product in self._products:
            parts = [part for part in product.parts if part.module in modules]
            if not parts:
                continue
            down = self._zeros(product.inputs, len(parts) * columns)
            ups = [self._zeros(columns, part.stop - part.start) for part in parts]
            for number, (part, up) in enumerate(zip(parts, ups, strict=True)):
                own = down[:, number * columns : (number + 1) * columns]
                places[part.module] = (own, up)
            where = [(p.start, p.stop, up) for p, up in zip(parts, ups, strict=True)]
            tables[product] = Table(down, where)
        return Tables(version, columns, owners, tables, places)

    def _zeros(self, rows: int, columns: int) -> Tensor:
        return torch.zeros((rows, columns), dtype=self._dtype, device=self._device)

    def _write(self, adapter: Adapter, held: _Held) -> None:
        """An adapter's matrices to its columns, zero where it has none; the owner comes last."""
        columns = slice(held.first, held.first + held.rank)
        for module, (down, up) in self.tables.places.items():
            pair = adapter.pairs.get(module)
            down[:, columns] = 0
            up[columns] = 0
            if pair is not None:
                rank = pair.down.shape[1]
                down[:, held.first : held.first + rank] = self._finite(pair.down)
                up[held.first : held.first + rank] = self._finite(pair.up)
        self.tables.owners[columns] = held.number

    def _finite(self, matrix: Tensor) -> Tensor:
        """The matrix in the tables' type; infinity times another row's zero would be no number."""
        return torch.nan_to_num(matrix.to(self._device, self._dtype))


def owners(ranges: list[tuple[Adapter, int, int]], count: int, bank: LoraBank) -> list[int]:
    """The number of each row's adapter, for `count` rows."""
    numbers = [0] * count
    for adapter, start, stop in ranges:
        numbers[start:stop] = [bank.add(adapter)] * (stop - start)
    return numbers
