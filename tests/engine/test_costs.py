"""Prices of guesses: learnt by size, never falling, and what is bought for them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from provider.engine.costs import CostModel, allot

STEPS = st.lists(
    st.tuples(st.integers(1, 200), st.integers(0, 40), st.floats(1e-5, 10.0)), max_size=60
)


def learnt(seconds: dict[int, float], drawn: int = 1, rounds: int = 8) -> CostModel:
    costs = CostModel()
    for _ in range(rounds):
        for tokens, spent in seconds.items():
            costs.saw(tokens, drawn, spent)
    return costs


def test_rows_that_cost_nothing_are_free_and_those_that_do_are_not() -> None:
    costs = learnt({1: 0.039, 2: 0.039, 4: 0.039, 8: 0.046, 16: 0.081}, drawn=2)
    assert costs.price(1, 3) < 0.01
    assert 0.1 < costs.price(4, 4) < costs.price(8, 8)
    assert costs.floor(1) < 0.05
    assert costs.floor(8) > 0.15


def test_prices_follow_what_a_token_costs() -> None:
    cheap = learnt({count: 0.030 + 0.0001 * count for count in (1, 2, 4, 8)})
    dear = learnt({count: 0.002 + 0.010 * count for count in (1, 2, 4, 8)})
    assert cheap.floor(1) < 0.05
    assert dear.floor(1) > 0.35


def test_the_likeliest_guesses_are_taken_until_a_step_grows_too_dear() -> None:
    costs = learnt({1: 0.04, 2: 0.04, 4: 0.04, 5: 0.04, 6: 0.4, 8: 0.5})
    assert allot([[0.9, 0.3, 0.2], [0.8, 0.1]], 2, costs) == [2, 1]
    assert allot([[0.9, 0.3, 0.2], [0.8, 0.1]], 5, costs) == [0, 0]
    assert allot([[0.9] * 3, []], 2, costs) == [3, 0]
    assert allot([], 1, costs) == []


def test_a_step_is_not_stopped_by_a_stair_that_the_next_guesses_pay() -> None:
    """The first guess alone would not be worth the stair, eight are."""
    costs = learnt({1: 0.040, 2: 0.200, 16: 0.201}, drawn=1)
    assert allot([[0.95] * 8], 1, costs) == [8]
    assert allot([[0.95]], 1, costs) == [0]


def test_what_was_dear_once_is_tried_again() -> None:
    costs = learnt({1: 0.04, 2: 0.4})
    dear = costs.price(1, 1)
    for _ in range(700):
        costs.saw(1, 1, 0.04)
    assert costs.price(1, 1) < dear / 4


def test_a_step_without_guesses_is_not_taken_for_as_dear_as_those_with_them() -> None:
    """Where every step has carried many guesses, they still have a price."""
    costs = learnt({40: 0.2, 44: 0.22, 48: 0.24}, drawn=20)
    assert costs.price(8, 16) > 5


def test_without_experience_likely_guesses_are_tried() -> None:
    costs = CostModel()
    assert allot([[0.9, 0.5]], 1, costs) == [2]
    assert 0.1 < costs.floor(1) < 0.5


@given(STEPS)
def test_seconds_never_fall(
    steps: list[tuple[int, int, float]],
) -> None:
    costs = CostModel()
    for step in steps:
        costs.saw(*step)
    curve = [costs.seconds(tokens) for tokens in range(1, 210)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(curve))
    if steps:
        assert costs.seconds(1) <= max(seconds for _, _, seconds in steps) * (1 + 1e-9)
        assert 0.02 <= costs.floor(4) <= 0.9


@given(
    st.lists(st.lists(st.floats(0.01, 1.0), max_size=8), max_size=6),
    st.integers(1, 40),
    STEPS,
)
def test_no_other_number_of_the_likeliest_is_worth_more(
    chains: list[list[float]], tokens: int, steps: list[tuple[int, int, float]]
) -> None:
    chains = [sorted(chain, reverse=True) for chain in chains]
    costs = CostModel()
    for step in steps:
        costs.saw(*step)
    counts = allot(chains, tokens, costs)
    flat = sorted((likely for chain in chains for likely in chain), reverse=True)
    worth = [sum(flat[:k]) - costs.price(tokens, k) for k in range(len(flat) + 1)]
    taken = sum(sum(chain[:n]) for chain, n in zip(chains, counts, strict=True))
    assert taken - costs.price(tokens, sum(counts)) >= max(worth) - 1e-6
