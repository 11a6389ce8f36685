"""Draws with and without replacement, and that rejected tokens leave the distribution exact."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from provider.engine.native.kernels import Kernels, kernels
from provider.engine.request import Sampling
from provider.engine.sampling import RowSampler
from provider.engine.urn import Urn

OWN = [None, *([found] if (found := kernels()) is not None else [])]
DRAWS = 4_000


def row(tokens: int = 40) -> torch.Tensor:
    return 1.5 * torch.randn(tokens, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_a_draw_is_the_inverse_of_the_cumulated_weights(
    own: Kernels | None, temperature: float
) -> None:
    values = row(1000)
    urn = Urn(values, temperature, own)
    ends = torch.softmax(values.double() / temperature, -1).cumsum(0)
    for step in range(200):
        token = urn.draw(step / 200)
        assert token is not None
        below = float(ends[token - 1]) if token else 0.0
        assert below - 1e-6 <= step / 200 <= float(ends[token]) + 1e-6


@pytest.mark.parametrize("own", OWN)
def test_without_replacement_every_token_of_any_weight_comes_once(own: Kernels | None) -> None:
    values = row(600)
    values[::3] = -torch.inf
    urn = Urn(values, 1.0, own)
    drawn = []
    chance = np.random.default_rng(0)
    while (token := urn.draw(chance.choice([0.0, 1 - 2**-53, chance.random()]))) is not None:
        drawn.append(token)
        urn.remove(token)
    assert sorted(drawn) == [token for token in range(600) if token % 3]


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_values_that_are_not_numbers_are_an_error(own: Kernels | None, bad: float) -> None:
    values = row(300)
    values[299] = bad
    with pytest.raises(ValueError, match="not numbers"):
        Urn(values, 1.0, own).draw(0.5)


def bits(allowed: set[int], size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.packbits(
        [token in allowed for token in range(-(-size // 32) * 32)], bitorder="little"
    )


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize(("temperature", "share"), [(0.7, 0.9), (1.0, 0.5), (1.3, 0.1)])
def test_asking_gives_the_masked_distribution(
    own: Kernels | None, temperature: float, share: float
) -> None:
    """The likeliest token is a forbidden one; where few are allowed masks end the search."""
    sampling = Sampling(temperature=temperature, seed=11, logit_bias=((2, 1.0),))
    sampler = RowSampler(sampling, 0, own)
    values = row()
    allowed = set(values.argsort(descending=True).tolist()[1 :: round(1 / share)])
    found: Counter[int] = Counter()
    masked = 0
    for position in range(DRAWS):
        token = sampler.choose_permitted(values, position, allowed.__contains__)
        if token is None:
            masked += 1
            token = sampler.choose(values, position, bits(allowed, values.shape[0]))
        found[token] += 1
    assert set(found) <= allowed
    assert (masked > DRAWS / 20) == (share < 0.2)
    values[2] += 1.0
    ids = sorted(allowed)
    expected = DRAWS * torch.softmax(values[ids].double() / temperature, -1).numpy()
    counts = np.array([found[token] for token in ids])
    # Pearson's statistic has the mean and half the variance of its degrees of freedom.
    freedom = len(ids) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert statistic < freedom + 3 * (2 * freedom) ** 0.5


def test_the_likeliest_token_may_be_forbidden() -> None:
    sampler = RowSampler(Sampling(seed=0), 0)
    values = torch.zeros(5000)
    values[7] = 40.0
    drawn = {sampler.choose_permitted(values, position, lambda t: t != 7) for position in range(99)}
    assert 7 not in drawn
    assert len(drawn - {None}) > 90
