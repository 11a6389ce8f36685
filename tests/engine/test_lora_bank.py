"""All adapters side by side add to each row what its own adapter adds, whatever came and went."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from provider.engine.adapters import Adapter, LoraPair
from provider.engine.lora_bank import LoraBank, Masked, Ranges, owners
from provider.engine.products import FusedLinear
from provider.errors import ConfigurationError

CPU = torch.device("cpu")
TORCH = torch.Generator().manual_seed(0)


def products() -> list[FusedLinear]:
    torch.manual_seed(0)
    shapes = [(6, [8, 4, 4]), (8, [6])]
    return [
        FusedLinear([nn.Linear(inputs, width) for width in widths], None)
        for inputs, widths in shapes
    ]


def adapter(held: list[FusedLinear], rank: int, kept: int) -> Adapter:
    """Of the modules whose bit is set in `kept`."""
    pairs: dict[nn.Module, LoraPair] = {}
    for product in held:
        for part in product.parts:
            if kept >> len(pairs) & 1 or not pairs:
                down = torch.randn(product.inputs, rank, generator=TORCH)
                up = torch.randn(rank, part.stop - part.start, generator=TORCH)
                pairs[part.module] = LoraPair(down, up)
    return Adapter("a", 1, pairs)


def added(product: FusedLinear, x: Tensor, adapting: Any) -> Tensor:
    y = torch.zeros(len(x), product.parts[-1].stop)
    adapting.add(product, x, y)
    return y


def agree(bank: LoraBank, held: list[FusedLinear], ranges: list[tuple[Adapter, int, int]]) -> None:
    rows = 9
    numbers = torch.tensor(owners(ranges, rows, bank))
    for product in held:
        x = torch.randn(rows, product.inputs, generator=TORCH)
        with torch.inference_mode():
            got = added(product, x, Masked(bank.tables, numbers))
        assert torch.allclose(got, added(product, x, Ranges(ranges)), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 15)), max_size=12))
def test_rows_get_their_own_adapter_whatever_came_and_went(
    changes: list[tuple[int, int, int]],
) -> None:
    held = products()
    bank = LoraBank(held, CPU, torch.float32)
    places: dict[int, Adapter] = {}
    for place, rank, kept in changes:
        places.pop(place, None)
        gc.collect(0)
        places[place] = adapter(held, rank, kept)
        bank.add(places[place])
        ranges = [(each, 2 * number, 2 * number + 2) for number, each in enumerate(places.values())]
        agree(bank, held, ranges)
    assert bank.tables.columns <= 2 * 4 * 2 * 5


def test_columns_of_adapters_that_are_gone_are_used_again() -> None:
    held = products()
    bank = LoraBank(held, CPU, torch.float32)
    for _ in range(50):
        one = adapter(held, 4, 15)
        bank.add(one)
        agree(bank, held, [(one, 0, 9)])
        del one
    assert bank.tables.columns == 4
    assert bank.nbytes == sum(
        4 * 4 * (product.inputs + part.stop - part.start)
        for product in held
        for part in product.parts
    )


def test_a_row_under_way_keeps_its_weights_when_tables_grow() -> None:
    held = products()
    bank = LoraBank(held, CPU, torch.float32)
    one = adapter(held, 2, 15)
    bank.add(one)
    before = bank.tables
    others = [adapter(held, 3, 15) for _ in range(3)]
    for other in others:
        bank.add(other)
    assert bank.tables.version > before.version
    agree(bank, held, [(one, 0, 4), (others[2], 4, 6), (others[0], 8, 9)])
    numbers = torch.tensor(owners([(one, 0, 9)], 9, bank))
    x = torch.randn(9, 6, generator=TORCH)
    with torch.inference_mode():  # a graph that holds the tables from before
        old = added(held[0], x, Masked(before, numbers))
    assert torch.allclose(old, added(held[0], x, Ranges([(one, 0, 9)])), atol=1e-5)


def test_an_adapter_that_overflows_harms_its_own_rows_only() -> None:
    held = products()
    bank = LoraBank(held, CPU, torch.float16)
    broken, sound = adapter(held, 2, 15), adapter(held, 2, 15)
    for pair in broken.pairs.values():
        pair.down.fill_(6e4)
        pair.up.fill_(float("inf"))
    ranges = [(broken, 0, 3), (sound, 3, 6)]
    numbers = torch.tensor(owners(ranges, 9, bank))
    x = torch.full((9, 6), 8.0, dtype=torch.float16)
    y = torch.zeros(9, 16, dtype=torch.float16)
    with torch.inference_mode():
        Masked(bank.tables, numbers).add(held[0], x, y)
    assert not bool(torch.isfinite(y[:3]).all())
    assert bool(torch.isfinite(y[3:]).all())
    assert bool((y[6:] == 0).all())


def test_without_memory_an_adapter_is_refused_and_the_others_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = products()
    bank = LoraBank(held, CPU, torch.float32)
    one, other = adapter(held, 2, 15), adapter(held, 3, 15)
    bank.add(one)

    def full(*_: Any, **__: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(bank, "_zeros", full)
        with pytest.raises(ConfigurationError, match="LOCAL_LLM_MAX_ADAPTERS"):
            bank.add(other)
    agree(bank, held, [(one, 0, 9)])
    bank.add(other)
    agree(bank, held, [(one, 0, 3), (other, 5, 9)])
