"""The adapter store: names, room, replacement; and an adapter under the general runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from provider.engine.adapters import Adapter, AdapterStore, LoraPair
from provider.engine.attention import Segment
from provider.engine.cache import CacheShape, KVCache
from provider.engine.runner import Step, attention_heads
from provider.engine.runners import runner_of
from provider.errors import ConfigurationError, InvalidRequest, ModelNotFound


class Shelf:
    """A store whose folders hold nothing, and what it was told."""

    def __init__(self, limit: int) -> None:
        self.read: list[str] = []
        self.ready: list[int] = []
        self.gone: list[int] = []
        self.broken = False
        self.store = AdapterStore(
            self._pairs, limit, lambda a: self.ready.append(a.key), self.gone.append
        )

    def _pairs(self, path: Path) -> Any:
        if self.broken:
            raise ConfigurationError("another base model")
        self.read.append(path.name)
        return {}


def test_the_least_recently_used_adapter_makes_room_and_is_read_again() -> None:
    shelf = Shelf(2)
    for name in ("a", "b"):
        shelf.store.load(name, Path(name))
    shelf.store.get("a")
    shelf.store.load("c", Path("c"))
    assert shelf.store.names() == ["a", "b", "c"]
    assert shelf.store.resident == 2
    assert (shelf.store.holds("a"), shelf.store.holds("b")) == (True, False)
    again = shelf.store.get("b")
    assert shelf.read == ["a", "b", "c", "b"]
    assert again.key in shelf.ready
    assert shelf.store.resident == 2


def test_a_reload_is_another_adapter_and_the_old_one_is_forgotten() -> None:
    shelf = Shelf(4)
    old = shelf.store.load("exaone:plan", Path("one"))
    new = shelf.store.load("exaone:plan", Path("two"))
    assert old.key != new.key
    assert shelf.gone == [old.key]
    assert shelf.store.get("exaone:plan") is new


def test_a_reload_that_fails_leaves_the_old_one() -> None:
    shelf = Shelf(4)
    old = shelf.store.load("a", Path("one"))
    shelf.broken = True
    with pytest.raises(ConfigurationError):
        shelf.store.load("a", Path("two"))
    assert shelf.store.get("a") is old
    assert shelf.gone == []


def test_unknown_names_and_no_room_at_all() -> None:
    shelf = Shelf(1)
    for call in (shelf.store.get, shelf.store.unload):
        with pytest.raises(ModelNotFound):
            call("nobody")
    with pytest.raises(InvalidRequest, match="LOCAL_LLM_MAX_ADAPTERS"):
        Shelf(0).store.load("a", Path("a"))


def test_adapters_apply_to_their_rows_only_in_any_architecture() -> None:
    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.2,
    )
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    plain_state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = [n for n, m in model.named_modules() if type(m) is torch.nn.Linear and n != "lm_head"]
    pairs = {
        model.get_submodule(name): LoraPair(
            0.3 * torch.randn(model.get_submodule(name).in_features, 4),
            0.3 * torch.randn(4, model.get_submodule(name).out_features),
        )
        for name in names
    }
    tokens = list(range(5, 25))

    def alone(adapted: bool) -> torch.Tensor:
        twin: Any = AutoModelForCausalLM.from_config(config).eval()
        twin.load_state_dict(plain_state)
        for name in names if adapted else []:
            pair = pairs[model.get_submodule(name)]
            twin.get_submodule(name).weight.data += (pair.down @ pair.up).T
        with torch.inference_mode():
            logits: torch.Tensor = twin(input_ids=torch.tensor([tokens])).logits[0]
        return logits

    expected = [alone(False), alone(True), alone(False)]
    runner = runner_of(model)
    adapter = Adapter("a", 1, pairs)
    runner.attach(adapter)
    layers, heads, dim = attention_heads(model)
    cpu = torch.device("cpu")
    cache = KVCache(CacheShape(layers, heads, dim, torch.float32, cpu, 256, 2048))
    step = Step(tokens=tokens * 3, positions=list(range(20)) * 3, wanted=list(range(60)))
    for row in range(3):
        slot = cache.allocate(20)
        assert slot is not None
        step.segments.append(Segment(20 * row, 20, 0, slot))
    step.adapters.append((adapter, 20, 40))
    for got, wanted in zip(runner.forward(step).split(20), expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-4)
