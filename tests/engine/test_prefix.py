"""Slots and kept prefixes: bounded, given back, never mixed up between adapters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from provider.engine.cache import CacheShape, KVCache, Slot
from provider.engine.prefix import PrefixCache


def cache(budget: int = 4096, capacity: int = 2048) -> KVCache:
    cpu = torch.device("cpu")
    return KVCache(CacheShape(2, 1, 4, torch.float32, cpu, capacity, budget))


def slot(cache: KVCache, tokens: int) -> Slot:
    found = cache.allocate(tokens)
    assert found is not None
    return found


def test_slots_grow_in_powers_of_two_up_to_the_context() -> None:
    kv = cache(capacity=1500)
    assert [kv.slot_size(n) for n in (1, 256, 257, 1000, 1400)] == [256, 256, 512, 1024, 1500]


def test_the_budget_holds_and_everything_comes_back() -> None:
    kv = cache(budget=2048)
    held = [slot(kv, 200) for _ in range(8)]
    assert kv.allocated == 2048
    assert kv.allocate(200) is None
    for each in held:
        kv.free(each)
    assert kv.allocated == 0
    assert slot(kv, 2000).capacity == 2048


def test_copying_a_slot_moves_keys_and_values() -> None:
    kv = cache()
    small, large = slot(kv, 10), slot(kv, 300)
    small.slab.kv[:, :, small.index, :10] = torch.arange(2.0 * 2 * 10 * 4).view(2, 2, 10, 1, 4)
    large.copy_from(small, 10)
    for ours, theirs in zip(large.views(10), small.views(10), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_longest_common_beginning_is_found() -> None:
    kv = cache()
    kept = PrefixCache(kv, 4096)
    short, long = slot(kv, 40), slot(kv, 80)
    kept.keep(list(range(100, 140)), short, 0)
    kept.keep([*range(100, 120), *range(60)], long, 0)
    assert kept.find([*range(100, 120), *range(30), 9], 0) == (long, 50)
    assert kept.find(range(100, 139), 0) == (short, 39)
    assert kept.find([*range(100, 110), 1], 0) is None
    assert kept.find(range(100, 140), 1) is None


def test_what_another_kept_prefix_covers_is_not_kept_twice() -> None:
    kv = cache()
    kept = PrefixCache(kv, 4096)
    kept.keep(list(range(40)), slot(kv, 40), 0)
    kept.keep(list(range(60)), slot(kv, 60), 0)
    kept.keep(list(range(50)), slot(kv, 50), 0)
    assert len(kept) == 1
    kept.keep(list(range(50)), slot(kv, 50), 3)
    assert len(kept) == 2
    kept.forget(3)
    assert len(kept) == 1
    kept.clear()
    assert kv.allocated == 0


def test_the_least_recently_used_goes_first() -> None:
    kv = cache()
    kept = PrefixCache(kv, 512)
    for start in (0, 1000):
        kept.keep(list(range(start, start + 40)), slot(kv, 40), 0)
    assert kept.find(range(40), 0)
    kept.keep(list(range(2000, 2040)), slot(kv, 40), 0)
    assert kept.find(range(1000, 1040), 0) is None
    assert kept.find(range(40), 0)


@pytest.mark.parametrize("share", [0, 255])
def test_a_budget_too_small_keeps_nothing(share: int) -> None:
    kv = cache()
    kept = PrefixCache(kv, share)
    kept.keep(list(range(40)), slot(kv, 40), 0)
    assert len(kept) == 0
    assert kv.allocated == 0


@given(st.lists(st.tuples(st.integers(1, 2048), st.booleans()), max_size=60))
def test_any_order_of_taking_and_giving_stays_within_the_budget(
    moves: list[tuple[int, bool]],
) -> None:
    kv = cache(budget=6000)
    held: list[Slot] = []
    for tokens, give in moves:
        if give and held:
            kv.free(held.pop(tokens % len(held)))
        elif (found := kv.allocate(tokens)) is not None:
            assert found.capacity >= tokens
            assert all((found.slab, found.index) != (s.slab, s.index) for s in held)
            held.append(found)
        assert kv.allocated <= 6000
    for each in held:
        kv.free(each)
    assert kv.allocated == kv.used_slots == 0
