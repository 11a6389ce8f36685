"""Packed steps against the model's own forward, for every architecture that is promised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Exaone4Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    Qwen2Config,
    Qwen3Config,
)

from provider.engine.attention import AttentionPlan, Segment
from provider.engine.cache import CacheShape, KVCache
from provider.engine.fused import FusedRunner, fits
from provider.engine.runner import ModelRunner, Runner, Step, attention_heads
from provider.engine.runners import runner_of
from provider.errors import ConfigurationError
from tests.engine.conftest import exaone_config

SMALL: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "exaone": lambda: exaone_config(vocab_size=160),
    "llama": lambda: LlamaConfig(**SMALL, attention_bias=True),
    "qwen2": lambda: Qwen2Config(**SMALL),
    "qwen3": lambda: Qwen3Config(**SMALL, head_dim=32),
    "exaone4": lambda: Exaone4Config(
        **SMALL, sliding_window=24, sliding_window_pattern=4, pad_token_id=0
    ),
}


def build(name: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(CONFIGS[name]())
    return model.to(dtype).eval()


def rows(count: int, length: int) -> list[list[int]]:
    chance = torch.Generator().manual_seed(count)
    return torch.randint(3, 160, (count, length), generator=chance).tolist()


def packed(runner: Runner, model: Any, tokens: list[list[int]], width: int) -> torch.Tensor:
    """Logits `[rows, length, vocabulary]`, the rows fed side by side, `width` tokens a step."""
    layers, heads, dim = attention_heads(model)
    shape = CacheShape(layers, heads, dim, model.dtype, model.device, 512, 8192)
    cache = KVCache(shape)
    slots = [cache.allocate(140 + 180 * row) for row in range(len(tokens))]
    got: list[list[torch.Tensor]] = [[] for _ in tokens]
    for start in range(0, len(tokens[0]), width):
        step = Step()
        for row, slot in zip(tokens, slots, strict=True):
            assert slot is not None
            part = row[start : start + width]
            offset = len(step.tokens)
            step.tokens += part
            step.positions += range(start, start + len(part))
            step.segments.append(Segment(offset, len(part), start, slot))
            step.wanted += range(offset, offset + len(part))
        logits = iter(runner.forward(step))
        for number, row in enumerate(tokens):
            got[number] += [next(logits) for _ in row[start : start + width]]
    return torch.stack([torch.stack(row) for row in got])


@pytest.mark.parametrize("width", [1, 20, 64])
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_steps_equal_the_models_own_forward(name: str, width: int) -> None:
    model = build(name)
    tokens = rows(3, 64)
    with torch.inference_mode():
        plain = model(input_ids=torch.tensor(tokens), use_cache=False).logits.float()
    assert torch.allclose(packed(ModelRunner(model), model, tokens, width), plain, atol=2e-4)
    assert torch.allclose(packed(runner_of(build(name)), model, tokens, width), plain, atol=2e-4)


@pytest.mark.parametrize("window", [None, 10])
def test_rows_that_attend_together_attend_as_they_do_alone(window: int | None) -> None:
    """What GPUs do, on whatever device the tests run."""
    cpu = torch.device("cpu")
    cache = KVCache(CacheShape(2, 2, 16, torch.float32, cpu, 256, 8192))
    slots = [cache.allocate(100) for _ in range(6)]
    torch.manual_seed(0)
    segments = []
    for slot in slots:
        assert slot is not None
        slot.slab.kv[:, :, slot.index] = torch.randn(2, 2, 256, 2, 16)
    for offset, (number, length) in enumerate([(5, 40), (1, 7), (2, 100), (0, 1)]):
        chosen = slots[number]
        assert chosen is not None
        segments.append(Segment(offset, 1, length - 1, chosen))
    keys, values, query = (torch.randn(4, heads, 16) for heads in (2, 2, 8))
    outputs = []
    for together in (True, False):
        plan = AttentionPlan(segments, cpu, together=together)
        assert bool(plan.groups) == together
        plan.write(1, keys, values)
        outputs.append(plan.attend(1, query, None, window))
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)


@pytest.mark.parametrize("name", ["qwen2", "exaone4"])
def test_a_long_prompt_is_attended_to_in_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mask would take gigabytes; sliding windows too."""
    model, tokens = build(name), rows(2, 60)
    whole = packed(ModelRunner(model), model, tokens, 30)
    monkeypatch.setattr("provider.engine.attention._MASKED", 7 * 2 * 60)
    assert torch.allclose(packed(ModelRunner(model), model, tokens, 30), whole, atol=2e-4)


class Wrong(FusedRunner):
    """Forgets to rotate, as a device would on which some operation is broken."""

    def _angles(self, x: torch.Tensor, positions: torch.Tensor) -> Any:
        cos, sin = super()._angles(x, positions)
        return torch.ones_like(cos), torch.zeros_like(sin)


@pytest.mark.parametrize("kind", [Wrong, FusedRunner])
def test_where_the_tests_never_ran_the_fused_pass_is_checked_first(
    kind: type[FusedRunner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("provider.engine.runners.tested_on", lambda _: False)
    monkeypatch.setattr("provider.engine.runners.FusedRunner", kind)
    model, tokens = build("exaone"), rows(2, 40)
    with torch.inference_mode():
        plain = model(input_ids=torch.tensor(tokens), use_cache=False).logits
    runner = runner_of(model)
    assert type(runner) is (ModelRunner if kind is Wrong else FusedRunner)
    assert ("its own modules" in caplog.text) == (kind is Wrong)
    assert torch.allclose(packed(runner, model, tokens, 8), plain, atol=2e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_steps_equal_the_models_own_forward_on_a_gpu(name: str) -> None:
    model = build(name).cuda()
    tokens = rows(3, 64)
    with torch.inference_mode():
        plain = model(input_ids=torch.tensor(tokens).cuda(), use_cache=False).logits.float()
    for width in (1, 20):
        got = packed(runner_of(model), model, tokens, width)
        assert torch.allclose(got, plain, atol=5e-3)


def test_llama_arithmetic_runs_fused_and_bit_equal_in_bfloat16() -> None:
    for name in ("exaone", "llama"):
        model = build(name, torch.bfloat16)
        assert fits(model)
        tokens = rows(2, 40)
        generic = packed(ModelRunner(build(name, torch.bfloat16)), model, tokens, 8)
        assert torch.equal(packed(FusedRunner(model), model, tokens, 8), generic)


def test_other_architectures_take_the_general_way() -> None:
    assert not fits(build("qwen3"))
    assert not fits(build("exaone4"))


def test_the_model_can_still_be_called_after_its_weights_were_laid_out_anew() -> None:
    for name in ("exaone", "qwen3"):
        model = build(name)
        ids = torch.tensor(rows(2, 10))
        with torch.inference_mode():
            before = model(input_ids=ids).logits
            runner_of(model)
            assert torch.allclose(model(input_ids=ids).logits, before, atol=1e-4)


def test_one_runner_per_model() -> None:
    model = build("exaone")
    assert runner_of(model) is runner_of(model)


def test_attention_that_the_engine_does_not_reproduce_is_refused() -> None:
    config = GPT2Config(
        vocab_size=160,
        n_embd=64,
        n_layer=2,
        n_head=4,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    for block in model.transformer.h:
        block.attn.layer_idx = 0  # both layers would read and write the same keys
    with pytest.raises(ConfigurationError, match="GPT2LMHeadModel"):
        runner_of(model)


def test_a_model_without_attention_is_refused_in_a_sentence() -> None:
    config = MambaConfig(vocab_size=160, hidden_size=64, num_hidden_layers=2)
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ConfigurationError, match="MambaForCausalLM"):
        runner_of(model)
