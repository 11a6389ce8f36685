"""What is drawn on a device is what would be drawn on the host."""

from __future__ import annotations

import pytest
import torch

from provider.engine.draws import BEST, WHOLE, Draws, Plan, rows_of
from provider.engine.request import Sampling
from provider.engine.sampling import RowSampler, logprob

LOGITS = torch.randn(40, 3000, generator=torch.Generator().manual_seed(0)) * 3
SAMPLINGS = [
    Sampling(0.0),
    Sampling(1.0, seed=1),
    Sampling(0.3, seed=2),
    Sampling(4.0, seed=3),
    Sampling(0.8, top_p=0.9, seed=4),
    Sampling(0.8, seed=5, frequency_penalty=1.0),
]


@pytest.mark.parametrize("asked", [False, True])
def test_planned_draws_are_those_of_the_host(asked: bool) -> None:
    samplers = [RowSampler(sampling, 0) for sampling in SAMPLINGS]
    places = [(samplers[row % len(samplers)], row) for row in range(len(LOGITS))]
    draws = Draws(LOGITS, [sampler.plan(row, asked=asked) for sampler, row in places])
    for (sampler, row), drawn in zip(places, draws[:], strict=True):
        if asked:
            permits = lambda token: token % 3 > 0  # noqa: E731
            here = sampler.choose_permitted(drawn, row, permits)
            assert here == sampler.choose_permitted(LOGITS[row], row, permits)
        else:
            assert sampler.choose(drawn, row, None) == sampler.choose(LOGITS[row], row, None)


def test_rows_that_are_read_whole_are_there_for_scores() -> None:
    draws = Draws(LOGITS[:4], [WHOLE, BEST, Plan(False, 1.0, 0.5), WHOLE])
    names = [b"x"] * 3000
    for row, drawn in enumerate(draws[:]):
        assert logprob(drawn, 7, 3, names) == logprob(LOGITS[row], 7, 3, names)
    assert [drawn.token is None for drawn in draws[:]] == [True, False, False, True]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_numbers_fail_their_row_alone(temperature: float, bad: float) -> None:
    logits = LOGITS[:3].clone()
    logits[1, 5] = bad
    sampler = RowSampler(Sampling(temperature, seed=1), 0)
    first, broken, last = Draws(logits, [sampler.plan(0, asked=False)] * 3)[:]
    for row, drawn in ((0, first), (2, last)):
        assert sampler.choose(drawn, 0, None) == sampler.choose(LOGITS[row], 0, None)
    if temperature == 0 and bad == float("inf"):
        assert sampler.choose(broken, 0, None) == 5
    else:
        with pytest.raises(ValueError, match="not numbers"):
            sampler.choose(broken, 0, None)


def test_a_cpu_reads_logits_where_they_are() -> None:
    assert rows_of(LOGITS, [BEST] * 40) is LOGITS
