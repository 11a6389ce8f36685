"""A packed row is its conversations by themselves; the loss is cross-entropy; TRL agrees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from finetune.train import attention
from finetune.train.base import add_adapter, load_base, remove_adapter, target_modules
from finetune.train.config import TrainConfig, parse_config
from finetune.train.head_loss import PIECE, add_head_loss, head_loss
from finetune.train.packing import packed
from finetune.train.rows import collate
from provider.errors import ConfigurationError
from tests import tiny

# PEFT reads names that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`.*gradient_checkpointing.*:FutureWarning")

ROWS = [
    {"input_ids": list(range(10, 31)), "labels": [-100] * 9 + list(range(19, 31)), "lengths": [21]},
    {"input_ids": list(range(40, 57)), "labels": [-100] * 4 + list(range(44, 57)), "lengths": [17]},
]


def config(**changes: Any) -> TrainConfig:
    return parse_config(
        {
            "base": str(tiny.llm_folder()),
            "data": "d",
            "output": "o",
            "method": "lora",
            "device": "cpu",
            "precision": "fp32",
            "dropout": 0.0,
            **changes,
        }
    )


def adapted(**changes: Any) -> Any:
    settled = config(**changes)
    model: Any = add_adapter(load_base(settled, progress=False).model, settled)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    add_head_loss(model.get_base_model())
    return model


def gradients(model: Any, *batches: dict[str, Any]) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        asked = {name: value for name, value in batch.items() if name != "labels"}
        loss = model(**asked, head_loss=True).loss
        loss.backward()
        total += float(loss.detach())
    return total, [p.grad.clone() for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("implementation", ["packed", "sdpa", "eager"])
def test_no_conversation_of_a_row_sees_another(implementation: str) -> None:
    model = adapted(attention=implementation)
    together, packed_gradient = gradients(model, collate(ROWS))
    alone, gradient = gradients(model, *(collate([row]) for row in ROWS))
    assert together == pytest.approx(alone, rel=1e-5)
    for one, other in zip(packed_gradient, gradient, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_models_own() -> None:
    model = adapted()
    batch = collate(ROWS[:1])
    ours, gradient = gradients(model, batch)
    model.zero_grad()
    ids = torch.tensor([ROWS[0]["input_ids"]])
    logits = model(input_ids=ids).logits[0, :-1]
    labels = torch.tensor(ROWS[0]["labels"][1:])
    theirs = nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    theirs.backward()
    assert ours == pytest.approx(float(theirs.detach()), rel=1e-5)
    expected = [p.grad for p in model.parameters() if p.requires_grad]
    for one, other in zip(gradient, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2 * PIECE + 3), st.booleans(), st.integers(0, 99))
def test_the_head_in_pieces_is_cross_entropy(tokens: int, biased: bool, seed: int) -> None:
    torch.manual_seed(seed)
    weight, labels = torch.randn(37, 8), torch.randint(37, (tokens,))
    bias = torch.randn(37) if biased else None
    hidden = torch.randn(tokens, 8, requires_grad=True)
    loss, correct = head_loss(hidden, weight, bias, labels)
    (loss * 0.5).backward()
    mine, hidden.grad = hidden.grad, None
    logits = nn.functional.linear(hidden, weight, bias)
    (nn.functional.cross_entropy(logits, labels, reduction="sum") * 0.5).backward()
    torch.testing.assert_close(mine, hidden.grad, rtol=1e-4, atol=1e-5)
    assert int(correct) == int((logits.argmax(-1) == labels).sum())


def test_a_row_without_anything_to_learn_has_a_loss_of_zero() -> None:
    hidden = torch.randn(0, 8, requires_grad=True)
    loss, _ = head_loss(hidden, torch.randn(5, 8), None, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_packed_attention_refuses_masks_and_keeps_windows() -> None:
    query = torch.randn(1, 4, 9, 8)
    key = torch.randn(1, 2, 9, 8)
    module = nn.Module()
    with pytest.raises(ValueError, match="mask"):
        attention.packed_attention(module, query, key, key, torch.ones(9, 9))
    narrow, _ = attention.packed_attention(module, query, key, key, None, sliding_window=1)
    values = key.repeat_interleave(2, 1).transpose(1, 2)
    torch.testing.assert_close(narrow, values)  # a window of one sees itself alone


@given(st.lists(st.integers(1, 50), max_size=80))
def test_packing_keeps_every_conversation_once_within_a_row(lengths: list[int]) -> None:
    rows = packed(lengths, 50)
    assert sorted(n for row in rows for n in row) == list(range(len(lengths)))
    assert all(sum(lengths[n] for n in row) <= 50 for row in rows)
    halves = [row for row in rows if sum(lengths[n] for n in row) <= 25]
    assert len(halves) <= 1  # two half-empty rows would have become one


def test_target_modules_follow_the_layout_and_unknown_ones_are_named() -> None:
    model = load_base(config(), progress=False).model
    assert target_modules(model, ["all"]) == sorted(
        ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc_0", "c_fc_1", "c_proj"]
    )
    with pytest.raises(ConfigurationError, match=r"'gate_proj'.*c_fc_0"):
        target_modules(model, ["q_proj", "gate_proj"])


def test_only_the_adapter_learns_and_the_base_comes_back_as_it_was() -> None:
    settled = config()
    base = load_base(settled, progress=False).model
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model: Any = add_adapter(base, settled)
    add_head_loss(model.get_base_model())
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    again = remove_adapter(model)
    assert dict.fromkeys(again.state_dict(), True) == dict.fromkeys(before, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in again.state_dict().items())
    assert "forward" not in again.__dict__


def test_the_start_follows_from_the_seed() -> None:
    first, second = adapted(seed=3), adapted(seed=3)
    other = adapted(seed=4)
    pick = "base_model.model.transformer.h.0.mlp.c_proj.lora_A.default.weight"
    a, b, c = (dict(model.named_parameters())[pick] for model in (first, second, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
