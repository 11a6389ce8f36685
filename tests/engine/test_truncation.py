"""`min_p`, `top_k`, `top_p` and the repetition penalty against their definitions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from provider.engine.request import Sampling
from provider.engine.sampling import RowSampler
from provider.engine.truncation import drawn

SHARES = [0.5, 0.25, 0.15, 0.1]
LOGITS = torch.log(torch.tensor(SHARES))


def counted(count: int, mask: Any = None, **sampling: Any) -> Counter[int]:
    sampler = RowSampler(Sampling(seed=7, **sampling), 0)
    return Counter(sampler.choose(LOGITS, position, mask) for position in range(count))


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 3}, {0, 1, 2}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"min_p": 0.5}, {0, 1}),
        ({"min_p": 0.25}, {0, 1, 2}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "min_p": 0.4}, {0, 1}),
        ({"top_k": 2, "top_p": 0.6}, {0}),  # 0.5 of 0.75 is more than 0.6
        ({"top_p": 0.6}, {0, 1}),
        ({"top_k": 3, "temperature": 0}, {0}),
    ],
)
def test_what_is_kept(sampling: dict[str, Any], kept: set[int]) -> None:
    assert set(counted(600, **sampling)) == kept


def test_what_is_kept_keeps_its_proportions() -> None:
    counts = counted(4000, top_k=2)
    assert counts[0] / 4000 == pytest.approx(2 / 3, abs=0.03)


def test_top_k_counts_permitted_tokens() -> None:
    mask = np.packbits([token in {1, 2, 3} for token in range(32)], bitorder="little")
    sampler = RowSampler(Sampling(seed=1, top_k=2), 0)
    assert not sampler.asks  # else it would draw from what is not permitted
    assert {sampler.choose(LOGITS, position, mask) for position in range(200)} == {1, 2}


@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=40),
    st.integers(0, 45),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_a_drawn_token_is_one_of_the_kept(
    logits: list[float], top_k: int, min_p: float, top_p: float, uniform: float
) -> None:
    sampling = Sampling(top_k=top_k, min_p=min_p, top_p=top_p)
    values = torch.tensor(logits)
    token = drawn(values, sampling, uniform)
    probabilities = torch.softmax(values, -1)
    likelier = int((probabilities > probabilities[token]).sum())
    assert not top_k or likelier < top_k
    assert float(probabilities[token]) >= min_p * float(probabilities.max()) * (1 - 1e-6)


def test_logits_that_are_not_numbers_are_refused() -> None:
    for sampling in (Sampling(min_p=0.1), Sampling(top_k=2), Sampling(top_p=0.5)):
        with pytest.raises(ValueError, match="not numbers"):
            drawn(torch.tensor([1.0, float("nan")]), sampling, 0.5)


def test_the_repetition_penalty_counts_prompt_and_answer() -> None:
    logits = torch.tensor([2.0, 1.5, -1.0, -1.2])
    greedy = Sampling(temperature=0, repetition_penalty=2.0)
    sampler = RowSampler(greedy, 0, prompt=[0])
    assert sampler.choose(logits, 0, None) == 1  # 2.0 / 2 < 1.5
    sampler.accept(1)
    assert sampler.choose(logits, 1, None) == 0  # 1.0 against 0.75
    fresh = RowSampler(greedy, 0, prompt=[2])
    negative = torch.tensor([-3.0, -3.0, -1.0, -1.2])
    assert fresh.choose(negative, 0, None) == 3  # -1.0 * 2 < -1.2


def test_no_end_before_min_tokens() -> None:
    sampler = RowSampler(Sampling(temperature=0), 0, ends=[0, 1], min_tokens=2)
    assert [sampler.choose(LOGITS, position, None) for position in range(3)] == [2, 2, 0]
