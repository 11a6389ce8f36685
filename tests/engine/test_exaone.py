"""EXAONE-3.x natively: the right numbers, under the original names, in both directions."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from provider.engine.convert import convert
from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM, register
from tests.engine import reference
from tests.engine.conftest import exaone_config

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # read by peft
)
IDS = [3, 77, 120, 401, 9, 9, 300, 5, 255, 31, 6, 490, 12]
ORIGINAL_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc_0", "c_fc_1", "c_proj"]


def read(folder: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, **options)


def run(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([IDS])).logits[0]
    return found


def expected(folder: Path) -> torch.Tensor:
    weights: dict[str, torch.Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        weights |= load_file(shard)
    return reference.logits(weights, json.loads((folder / "config.json").read_text()), IDS)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_logits_are_those_of_an_independent_forward_in_both_layouts(
    write_exaone: Callable[..., Path], tmp_path: Path, tied: bool, scaled: bool
) -> None:
    changes: dict[str, Any] = {} if scaled else {"rope_scaling": None}
    folder = write_exaone(tmp_path / "original", tie_word_embeddings=tied, head_dim=24, **changes)
    convert(folder, tmp_path / "llama", "llama", progress=False)
    wanted = expected(folder)
    for path in (folder, tmp_path / "llama"):
        model = read(path, dtype=torch.float32)
        found = run(model)
        assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
        assert torch.equal(found.argmax(-1), wanted.argmax(-1))
        assert wanted.std() > 0.3


def test_rope_scaling_reaches_beyond_the_original_context(
    write_exaone: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_exaone(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    ids = [i % 500 for i in range(0, 80 * 7, 7)]
    wanted = reference.logits(load_file(folder / "model.safetensors"), config, ids)
    model = read(folder, dtype=torch.float32)
    with torch.no_grad():
        found = model(torch.tensor([ids])).logits[0]
    assert len(ids) > config["rope_scaling"]["original_max_position_embeddings"]
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_saving_writes_what_was_loaded(exaone_folder: Path, tmp_path: Path) -> None:
    model = read(exaone_folder)
    assert isinstance(model, ExaoneForCausalLM)
    model.save_pretrained(tmp_path)
    before, after = (load_file(p / "model.safetensors") for p in (exaone_folder, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((exaone_folder / "config.json").read_text()) == json.loads(
        (tmp_path / "config.json").read_text()
    )


def test_config_keeps_its_own_keys_and_answers_to_llamas() -> None:
    config = exaone_config()
    written = config.to_dict()
    assert written["num_layers"] == config.num_hidden_layers == 3
    assert written["layer_norm_epsilon"] == config.rms_norm_eps
    assert written["activation_function"] == config.hidden_act == "silu"
    assert written["rope_theta"] == 10000.0
    assert written["rope_scaling"]["rope_type"] == "llama3"
    assert not {"num_hidden_layers", "rms_norm_eps", "hidden_act", "rope_parameters"} & set(written)
    assert ExaoneConfig.from_dict(copy.deepcopy(written)).to_dict() == written


def test_published_config_is_understood(tmp_path: Path) -> None:
    published = {
        "activation_function": "silu",
        "architectures": ["ExaoneForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_exaone.ExaoneConfig"},
        "head_dim": 80,
        "hidden_size": 2560,
        "intermediate_size": 7168,
        "layer_norm_epsilon": 1e-05,
        "max_position_embeddings": 32768,
        "model_type": "exaone",
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_layers": 30,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 1000000,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": 102400,
    }
    (tmp_path / "config.json").write_text(json.dumps(published))
    register()
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, ExaoneConfig)
    with torch.device("meta"):
        model = ExaoneForCausalLM(config)
    assert sum(p.numel() for p in model.parameters()) == 2_405_327_360
    written = config.to_dict()
    assert {k: written[k] for k in published if k not in {"torch_dtype", "auto_map"}} == {
        k: v for k, v in published.items() if k not in {"torch_dtype", "auto_map"}
    }


def test_generation_with_a_cache_is_the_models_own_argmax(exaone_folder: Path) -> None:
    model = read(exaone_folder, dtype=torch.float32)
    prompt = torch.tensor([IDS[:5]])
    made = model.generate(prompt, max_new_tokens=6, do_sample=False, eos_token_id=None)[0].tolist()
    ids = IDS[:5]
    for _ in range(6):
        with torch.no_grad():
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
    assert made == ids


def test_a_lora_adapter_in_the_published_names_takes_effect(
    exaone_folder: Path, tmp_path: Path
) -> None:
    model = read(exaone_folder, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=ORIGINAL_TARGETS))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(str(tmp_path))
    weights = load_file(exaone_folder / "model.safetensors")
    deltas = load_file(tmp_path / "adapter_model.safetensors")
    assert len(deltas) == 3 * 7 * 2
    for name in [name for name in deltas if "lora_A" in name]:
        target = name.removeprefix("base_model.model.").replace(".lora_A", "")
        a, b = deltas[name], deltas[name.replace("lora_A", "lora_B")]
        weights[target] = weights[target] + (8 / 4) * b @ a
    config = json.loads((exaone_folder / "config.json").read_text())
    merged = reference.logits(weights, config, IDS)
    again = PeftModel.from_pretrained(read(exaone_folder, dtype=torch.float32), tmp_path)
    assert (run(again) - merged).abs().max() < 1e-4 * merged.abs().max()
    assert (merged - expected(exaone_folder)).abs().max() > 0.1


def test_the_local_class_wins_over_code_in_the_repository(
    write_exaone: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_exaone(tmp_path / "a")
    stated = json.loads((folder / "config.json").read_text())
    stated["auto_map"] = {
        "AutoConfig": "evil.Config",
        "AutoModelForCausalLM": "evil.Model",
    }
    (folder / "config.json").write_text(json.dumps(stated))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    for trust in (False, True):
        model = read(folder, trust_remote_code=trust)
        assert isinstance(model, ExaoneForCausalLM)


def test_registering_mends_auto_tokenizer_for_exaone(
    write_exaone: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_exaone(tmp_path / "a")
    declared = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(declared | {"tokenizer_class": "GPT2Tokenizer"})
    )
    tokens = AutoTokenizer.from_pretrained(folder).tokenize("2024")
    assert tokens == ["2", "0", "2", "4"]


def test_training_steps_run_with_gradient_checkpointing(exaone_folder: Path) -> None:
    model = read(exaone_folder, dtype=torch.float32)
    ids = torch.tensor([IDS])
    model.train()
    plain = model(ids, labels=ids).loss
    plain.backward()
    wanted = model.transformer.h[0].attn.attention.q_proj.weight.grad.clone()
    model.zero_grad()
    model.activation_checkpointing_enable()
    model(ids, labels=ids).loss.backward()
    found = model.transformer.h[0].attn.attention.q_proj.weight.grad
    assert torch.allclose(found, wanted, atol=1e-6)


def test_embeddings_can_be_resized_and_stay_tied(exaone_folder: Path) -> None:
    model = read(exaone_folder)
    model.resize_token_embeddings(520, mean_resizing=False)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.config.vocab_size == model.lm_head.weight.shape[0] == 520


def test_unused_weights_are_reported(exaone_folder: Path, tmp_path: Path) -> None:
    weights = load_file(exaone_folder / "model.safetensors")
    weights["transformer.h.0.mlp.surplus.weight"] = torch.zeros(2)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((exaone_folder / "config.json").read_text())
    _, report = read(tmp_path, output_loading_info=True)
    assert report["unexpected_keys"] == {"transformer.h.0.mlp.surplus.weight"}
