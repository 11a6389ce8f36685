"""A draw depends on its own logits, seed, answer and position, and on nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from provider.engine.request import Sampling
from provider.engine.sampling import RowSampler, logprob

LOGITS = torch.log(torch.tensor([0.5, 0.25, 0.15, 0.1]))


def drawn(count: int, mask: Any = None, **sampling: Any) -> Counter[int]:
    sampler = RowSampler(Sampling(seed=7, **sampling), 0)
    return Counter(sampler.choose(LOGITS, position, mask) for position in range(count))


def bits(*tokens: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.packbits([token in tokens for token in range(32)], bitorder="little")


def test_frequencies_follow_the_distribution() -> None:
    counts = drawn(4000)
    for token, share in enumerate([0.5, 0.25, 0.15, 0.1]):
        assert counts[token] / 4000 == pytest.approx(share, abs=0.03)


def test_temperature_sharpens_and_zero_is_greedy() -> None:
    assert drawn(50, temperature=0) == {0: 50}
    assert drawn(2000, temperature=0.25)[0] > 1800


@pytest.mark.parametrize("temperature", [1e-5, 1e-6, 2e-89, 5e-324])
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_a_temperature_that_float32_cannot_divide_by_is_greedy(
    temperature: float, top_p: float
) -> None:
    assert drawn(20, temperature=temperature, top_p=top_p) == {0: 20}


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, {0}), (0.7, {0, 1}), (0.9, {0, 1, 2})])
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, kept: set[int]) -> None:
    assert set(drawn(600, top_p=top_p)) == kept


def test_top_p_looks_beyond_the_first_tokens_of_a_flat_distribution() -> None:
    sampler = RowSampler(Sampling(seed=1, top_p=0.9), 0)
    flat = torch.zeros(3000)
    assert len({sampler.choose(flat, position, None) for position in range(2000)}) > 1000


def test_a_mask_renormalises_what_it_allows() -> None:
    counts = drawn(4000, mask=bits(1, 3))
    assert set(counts) == {1, 3}
    assert counts[1] / 4000 == pytest.approx(0.25 / 0.35, abs=0.03)
    assert drawn(5, mask=bits(2), temperature=0) == {2: 5}
    assert drawn(5, mask=bits(0, 3), temperature=0) == {0: 5}


def test_wide_and_narrow_masks_draw_alike() -> None:
    values = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    allowed = torch.rand(40_000, generator=torch.Generator().manual_seed(1)) < 0.4
    wide = np.packbits(allowed.numpy(), bitorder="little")
    for sampling in (Sampling(0.0), Sampling(seed=2), Sampling(seed=3, top_p=0.5)):
        sampler = RowSampler(sampling, 0)
        narrowed = torch.where(allowed, values, -torch.inf)
        for position in range(20):
            drawn = sampler.choose(values, position, wide)
            assert allowed[drawn]
            assert drawn == sampler.choose(narrowed, position, None)


def test_a_mask_that_allows_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no token"):
        drawn(1, mask=bits())


def test_equal_seeds_draw_equally_and_answers_differ() -> None:
    def sequence(seed: int | None, index: int) -> list[int]:
        sampler = RowSampler(Sampling(seed=seed), index)
        return [sampler.choose(torch.zeros(1000), position, None) for position in range(20)]

    assert sequence(1, 0) == sequence(1, 0)
    assert sequence(1, 0) != sequence(1, 1)
    assert sequence(1, 0) != sequence(2, 0)
    assert sequence(None, 0) != sequence(None, 0)


def test_penalties_and_bias_change_the_draw_but_not_the_logits() -> None:
    sampler = RowSampler(Sampling(temperature=0, presence_penalty=1.0), 0)
    before = LOGITS.clone()
    assert sampler.choose(LOGITS, 0, None) == 0
    sampler.accept(0)
    assert sampler.choose(LOGITS, 1, None) == 1
    frequent = RowSampler(Sampling(temperature=0, frequency_penalty=0.4), 0)
    frequent.accept(0)
    assert frequent.choose(LOGITS, 1, None) == 0
    frequent.accept(0)
    assert frequent.choose(LOGITS, 2, None) == 1
    biased = RowSampler(Sampling(temperature=0, logit_bias=((3, 100.0), (0, -100.0))), 0)
    assert biased.choose(LOGITS, 0, None) == 3
    assert torch.equal(LOGITS, before)


def test_logprobs_are_natural_logarithms_with_the_best_first() -> None:
    score = logprob(LOGITS + 3, 2, 2, [b"a", b"b", b"c", b"d"])
    assert score.logprob == pytest.approx(np.log(0.15))
    assert [(token, data) for token, data, _ in score.top] == [(0, b"a"), (1, b"b")]
    assert logprob(LOGITS, 2, 0, [b""] * 4).top == ()
