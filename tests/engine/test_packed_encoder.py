"""Encoders without padding give what transformers' own model gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from provider.engine import packed_layer
from provider.engine.packed_encoder import PackedEncoder, can_pack
from provider.engine.padded_encoder import PaddedEncoder

PAD = 1
SHAPE: dict[str, Any] = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 80, "initializer_range": 0.2,
}  # fmt: skip
MODELS: dict[str, tuple[Any, Any, int]] = {
    "roberta": (RobertaModel, RobertaConfig, PAD),
    "bert": (BertModel, BertConfig, 0),
}


def made(name: str, **more: Any) -> Any:
    torch.manual_seed(3)
    of, config, padding = MODELS[name]
    model = of(config(**SHAPE, pad_token_id=padding, **more)).eval().requires_grad_(False)
    for parameter in model.parameters():  # biases and norms are 0 and 1 otherwise
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def ids(lengths: list[int]) -> list[list[int]]:
    choose = np.random.default_rng(0)
    return [choose.integers(2, 90, length).tolist() for length in lengths]


@torch.inference_mode()
def last(encoder: Any, texts: list[list[int]]) -> dict[str, torch.Tensor]:
    *steps, found = encoder.steps(texts)
    assert all(step is None for step in steps)
    return dict(found)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_new"])
def test_every_row_is_the_models_own(name: str, activation: str) -> None:
    model, texts = made(name, hidden_act=activation), ids([7, 1, 60, 7, 33])
    wanted = last(PaddedEncoder(model, torch.float32, PAD), texts)
    found = last(PackedEncoder(model, torch.float32, first_only=False), texts)
    assert torch.equal(found["attention_mask"], wanted["attention_mask"])
    for index, text in enumerate(texts):
        rows = [encoded["token_embeddings"][index, : len(text)] for encoded in (found, wanted)]
        torch.testing.assert_close(*rows, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_first_rows_without_the_others_are_the_same(name: str) -> None:
    model, texts = made(name), ids([9, 2, 70, 1])
    wanted = last(PaddedEncoder(model, torch.float32, PAD), texts)["token_embeddings"][:, :1]
    found = last(PackedEncoder(model, torch.float32, first_only=True), texts)["token_embeddings"]
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("first_only", [True, False])
def test_steps_do_not_change_a_text(first_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = made("roberta"), ids([70, 5])
    encoder = PackedEncoder(model, torch.float32, first_only=first_only)
    wanted = last(encoder, texts)["token_embeddings"]
    monkeypatch.setattr(packed_layer, "STEP", 8)
    with torch.inference_mode():
        *steps, found = encoder.steps(texts)
    assert len(steps) > 40
    assert found is not None
    torch.testing.assert_close(found["token_embeddings"], wanted, atol=2e-5, rtol=1e-5)


def test_a_padding_token_that_is_part_of_a_text_has_the_position_that_roberta_gives_it() -> None:
    model, texts = made("roberta"), [[5, PAD, 7, 8], [4, 9, PAD]]
    wanted = last(PaddedEncoder(model, torch.float32, PAD), texts)["token_embeddings"]
    found = last(PackedEncoder(model, torch.float32, first_only=False), texts)["token_embeddings"]
    torch.testing.assert_close(found[0], wanted[0], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found[1, :3], wanted[1, :3], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("first_only", [True, False])
def test_neighbours_do_not_change_a_text(first_only: bool) -> None:
    encoder = PackedEncoder(made("roberta"), torch.float32, first_only=first_only)
    texts = ids([3, 50, 20, 20])
    together = last(encoder, texts)["token_embeddings"]
    for index, text in enumerate(texts):
        alone = last(encoder, [text])["token_embeddings"][0]
        torch.testing.assert_close(together[index, : len(alone)], alone, atol=2e-5, rtol=1e-5)


def test_other_architectures_are_not_taken() -> None:
    assert can_pack(made("bert"))
    assert not can_pack(made("bert", is_decoder=True))
    decoder = type("OtherModel", (BertModel,), {})
    assert not can_pack(decoder(BertConfig(**SHAPE)))
