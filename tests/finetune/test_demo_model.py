"""The demo model: its copy circuit, its attention, and that training starts and repeats."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from finetune.demo import attention
from finetune.demo.architecture import build_model, demo_config
from finetune.demo.batches import Encoded, collate
from finetune.demo.corpus import training_samples
from finetune.demo.decode import decode
from finetune.demo.tokenizer import train_tokenizer
from finetune.demo.train import Recipe, train

VOCABULARY = 1536
MARKS = range(72, 84)


def test_the_circuit_copies_before_any_training() -> None:
    model = build_model(demo_config(VOCABULARY, eos_token_id=7), 0, MARKS)
    torch.manual_seed(0)
    once = torch.randint(10, VOCABULARY, (2, 120))
    with torch.no_grad():
        predicted = model(torch.cat([once, once], dim=1)).logits[:, 120:-1].argmax(-1)
    assert (predicted == once[:, 1:]).float().mean() > 0.9


def test_a_head_knows_the_row_that_a_token_belongs_to() -> None:
    config = demo_config(VOCABULARY, eos_token_id=7)
    config._attn_implementation = "eager"
    model = build_model(config, 0, MARKS)
    ids = torch.tensor([[500, 72, 501, 502, 503, 73, *range(510, 530)]])
    with torch.no_grad():
        attended = model(ids, output_attentions=True).attentions[0][0, 3]
    assert attended[2:5, 1].min() > 0.9
    assert attended[6:, 5].mean() > 0.5


def test_the_same_seed_builds_the_same_weights() -> None:
    config = demo_config(VOCABULARY, eos_token_id=7)
    first, again = (build_model(config, 5, MARKS).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("length", [1, 7, attention.ROWS, 2 * attention.ROWS + 3])
def test_blocked_attention_is_causal_attention(length: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 4, length, 16)
    key, value = torch.randn(2, 2, length, 16), torch.randn(2, 2, length, 16)
    mixed, _ = attention.blocked_attention(torch.nn.Identity(), query, key, value, None, 0.25)
    expected = scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True, scale=0.25
    )
    torch.testing.assert_close(mixed.transpose(1, 2), expected)


def test_blocked_attention_refuses_what_it_does_not_do() -> None:
    states = torch.randn(1, 2, 3, 4)
    mask = torch.zeros(1, 1, 3, 3)
    with pytest.raises(ValueError, match="training only"):
        attention.blocked_attention(torch.nn.Identity(), states, states, states, mask, 1.0)


def test_a_batch_marks_answer_and_text() -> None:
    batch = collate([Encoded([5, 6, 7, 8], prompt=2), Encoded([9, 10], prompt=1)])
    assert batch.ids.tolist() == [[5, 6, 7, 8], [9, 10, 0, 0]]
    assert batch.answer.int().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
    assert batch.text.int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_training_learns_and_repeats_bit_by_bit() -> None:
    recipe = Recipe(steps=12, plan_rows=2, other_rows=2, warm_up=2)
    samples = [Encoded([20 + i, 30, 40, 50, 60, 7], prompt=2) for i in range(40)]
    results = []
    for _ in range(2):
        model = build_model(demo_config(VOCABULARY, eos_token_id=7), 0, MARKS)
        results.append((train(model, samples, samples, recipe), model.state_dict()))
    (loss, first), (_, again) = results
    assert loss < 5.0
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert model.config._attn_implementation != attention.NAME


def test_decoding_a_batch_equals_decoding_one_by_one() -> None:
    tokenizer = train_tokenizer(training_samples(0, 60))
    model = build_model(demo_config(len(tokenizer), tokenizer.eos_token_id), 0, MARKS)
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "yy"]}}, "required": ["a"]}
    prompts = [tokenizer.encode(text) for text in ("거실", "a longer prompt, 123", "y")]
    together = decode(model, tokenizer, prompts, schema, max_new_tokens=12)
    alone = [decode(model, tokenizer, [p], schema, max_new_tokens=12)[0] for p in prompts]
    assert together == alone
