"""What a model takes is computed as it is counted, and EXAONE-3.5-2.4B fits where it is said to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from provider.engine.cache import CacheShape
from provider.engine.exaone import ExaoneConfig
from provider.engine.footprint import footprint
from tests.engine.conftest import exaone_config


@pytest.mark.parametrize("tied", [True, False])
def test_the_terms_are_those_of_the_loaded_model(tied: bool) -> None:
    config = exaone_config(tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    found = footprint(config, torch.bfloat16, None, tokens=100)
    assert found.linear + found.rest == sum(p.nbytes for p in model.parameters())
    shape = CacheShape(3, 2, 16, torch.bfloat16, torch.device("cpu"), 256, 256)
    assert found.cache == 100 * shape.bytes_per_token
    assert found.total == sum(
        getattr(found, name)
        for name in ("linear", "rest", "cache", "activations", "logits", "runtime")
    )


def test_exaone_in_four_bits_with_4096_tokens_fits_in_6_gb() -> None:
    shape: dict[str, Any] = {
        "vocab_size": 102_400,
        "hidden_size": 2560,
        "intermediate_size": 7168,
        "num_layers": 30,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": True,
    }
    config = ExaoneConfig(**shape)
    plain = footprint(config, torch.bfloat16, None, tokens=4096)
    assert (plain.linear + plain.rest) / 2 == pytest.approx(2.405e9, rel=0.01)
    narrow = footprint(config, torch.bfloat16, "nf4", tokens=4096)
    assert narrow.cache == 4096 * 76_800
    assert narrow.total < 6e9
    eight = footprint(config, torch.bfloat16, "nf4", tokens=8 * 4096)
    assert eight.total < 8e9
