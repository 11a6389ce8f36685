"""The arena: ranges never overlap, join again, and slots lie in it."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from provider.engine.arena import PAGE, Arena
from provider.engine.cache import CacheShape, KVCache


def shape(budget: int, capacity: int = 4096) -> CacheShape:
    return CacheShape(1, 1, 1, torch.float32, torch.device("cpu"), capacity, budget)


@given(st.lists(st.integers(1, 6), max_size=40), st.randoms(use_true_random=False))
def test_ranges_do_not_overlap_and_join_again(sizes: list[int], chance: object) -> None:
    arena = Arena(shape(20 * PAGE))
    held: list[tuple[int, int]] = []
    for pages in sizes:
        place = arena.allocate(pages * PAGE)
        if place is None:
            assert arena.largest < pages * PAGE
            if held:
                arena.free(*held.pop(chance.randrange(len(held))))  # type: ignore[attr-defined]
            continue
        held.append((place, pages * PAGE))
        taken = sorted(held)
        assert all(a + n <= b for (a, n), (b, _) in pairwise(taken))
        assert taken[-1][0] + taken[-1][1] <= arena.spare
    for place, tokens in held:
        arena.free(place, tokens)
    assert arena.largest == 20 * PAGE


def test_slots_are_parts_of_the_arena_and_give_it_back() -> None:
    arena = Arena(shape(24 * PAGE))
    cache = KVCache(arena.shape, arena)
    slots = [cache.allocate(tokens) for tokens in (100, 300, 700)]
    for number, slot in enumerate(slots, start=1):
        assert slot is not None
        keys, _ = slot.views(1)
        keys[0].fill_(number)
        place = slot.slab.origin + slot.first
        assert place % PAGE == 0
        assert float(arena.keys[0][place]) == number
    for slot in slots:
        assert slot is not None
        cache.free(slot)
    assert (arena.largest, cache.allocated) == (24 * PAGE, 0)


def test_a_budget_that_is_no_whole_number_of_pages_is_rounded_down() -> None:
    arena = Arena(shape(1000, capacity=1000))
    assert (arena.shape.budget, arena.shape.capacity) == (768, 768)
    cache = KVCache(arena.shape, arena)
    slot = cache.allocate(700)
    assert slot is not None
    assert slot.capacity == 768
    assert cache.allocate(1) is None
    cache.free(slot)
    assert cache.allocate(1) is not None


def test_a_slab_of_earlier_rows_is_empty_for_the_next() -> None:
    arena = Arena(shape(2 * PAGE))
    cache = KVCache(arena.shape, arena)
    slot = cache.allocate(10)
    assert slot is not None
    slot.slab.kv.fill_(float("nan"))
    cache.free(slot)
    again = cache.allocate(10)
    assert again is not None
    assert bool(torch.isfinite(again.slab.kv).all())
