"""Adapter files: every tensor used, every module filled, every mismatch said at once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from provider.engine.checkpoint import Checkpoint, load
from provider.engine.convert import convert
from provider.engine.lora import AdapterRefused, LoraAdapter, read_adapter

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # read by peft
)
ORIGINAL = ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc_0", "c_fc_1", "c_proj"]
IDS = torch.tensor([[3, 77, 120, 401, 9, 300]])


@pytest.fixture(scope="module")
def checkpoint(exaone_folder: Path) -> Checkpoint:
    return load(exaone_folder, device="cpu", dtype="fp32", progress=False)


@pytest.fixture(scope="module")
def llama_checkpoint(exaone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("llama") / "exaone-tiny"
    convert(exaone_folder, folder, "llama", progress=False)
    return load(folder, device="cpu", dtype="fp32", progress=False)


@pytest.fixture(scope="module")
def trained(exaone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`trained(**options)`: an adapter in the published names, saved by PEFT itself."""

    def make(**options: Any) -> Path:
        torch.manual_seed(4)
        base = AutoModelForCausalLM.from_pretrained(exaone_folder, dtype=torch.float32)
        chosen: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": ORIGINAL} | options
        settings = LoraConfig(**chosen)
        adapted = get_peft_model(base, settings)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        folder = tmp_path_factory.mktemp("adapter")
        adapted.save_pretrained(str(folder))
        return folder

    return make


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def merged_logits(checkpoint: Checkpoint, adapter: LoraAdapter) -> torch.Tensor:
    """Logits with the adapter merged by hand into a copy of the weights."""
    state = {name: tensor.clone() for name, tensor in checkpoint.model.named_parameters()}
    for name, module in adapter.modules.items():
        state[f"{name}.weight"] += module.scaling * (module.b @ module.a)
    with torch.no_grad():
        found: torch.Tensor = torch.func.functional_call(checkpoint.model, state, (IDS,)).logits
    return found


def peft_logits(exaone_folder: Path, adapter: Path) -> torch.Tensor:
    base = AutoModelForCausalLM.from_pretrained(exaone_folder, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(base, adapter).eval())


def restate(folder: Path, name: str = "adapter_config.json", **changes: Any) -> None:
    path = folder / name
    stated = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(stated | changes))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"c_fc_0": 2}, "alpha_pattern": {r"h\.1\.mlp\.c_proj": 3}},
        {"layers_to_transform": [0, 2], "layers_pattern": "h"},
        {"target_modules": r".*h\.[01]\.mlp\.c_fc_[01]"},
        {"target_modules": "all-linear", "exclude_modules": ["out_proj"]},
    ],
)
def test_reading_gives_what_peft_computes(
    checkpoint: Checkpoint,
    llama_checkpoint: Checkpoint,
    exaone_folder: Path,
    trained: Callable[..., Path],
    options: dict[str, Any],
) -> None:
    folder = trained(**options)
    wanted = peft_logits(exaone_folder, folder)
    for loaded in (checkpoint, llama_checkpoint):
        found = merged_logits(loaded, read_adapter(folder, loaded))
        assert (found - wanted).abs().max() < 1e-4
        assert (found - logits(loaded.model)).abs().max() > 0.05


def test_modules_are_keyed_by_the_loaded_models_paths(
    checkpoint: Checkpoint, llama_checkpoint: Checkpoint, trained: Callable[..., Path]
) -> None:
    folder = trained(use_rslora=True)
    original, llama = (read_adapter(folder, loaded) for loaded in (checkpoint, llama_checkpoint))
    assert "transformer.h.2.attn.attention.out_proj" in original.modules
    module = llama.modules["model.layers.2.self_attn.o_proj"]
    assert module.rank == llama.rank == 4
    assert module.scaling == 6 / math.sqrt(4)
    assert llama.bytes == original.bytes > 0


def test_manifest_that_agrees_is_taken(
    checkpoint: Checkpoint, trained: Callable[..., Path]
) -> None:
    folder = trained()
    weights = (folder / "adapter_model.safetensors").read_bytes()
    restate(
        folder,
        "manifest.json",
        base_model="LGAI-EXAONE/" + checkpoint.card.id,
        base_revision="abc",
        layout="original",
        target_modules=sorted(ORIGINAL, reverse=True),
        chat_template_sha256=checkpoint.card.chat_template_sha256,
        adapter_sha256=hashlib.sha256(weights).hexdigest(),
        data_sha256="0" * 64,
        licence="apache-2.0",
        metrics={"loss": 0.1},
    )
    assert read_adapter(folder, checkpoint).licence == "apache-2.0"


def test_every_mismatch_is_listed(checkpoint: Checkpoint, trained: Callable[..., Path]) -> None:
    folder = trained()
    restate(
        folder,
        "manifest.json",
        base_model="LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct",
        base_revision="old",
        layout="llama",
        target_modules=["q_proj"],
        chat_template_sha256="0" * 64,
        adapter_sha256="1" * 64,
        data_sha256="short",
    )
    pinned = replace(checkpoint, card=replace(checkpoint.card, revision="new"))
    with pytest.raises(AdapterRefused) as refusal:
        read_adapter(folder, pinned)
    said = " ".join(refusal.value.problems)
    assert len(refusal.value.problems) == 7
    for key in ("base_model", "base_revision", "layout", "target_modules", "chat_template_sha256",
                "adapter_sha256", "data_sha256"):  # fmt: skip
        assert key in said


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_bias": True}, "lora_bias"),
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"a_feature_of_next_year": {"x": 1}}, "a_feature_of_next_year"),
        ({"r": 0}, "r and lora_alpha"),
        ({"target_modules": None}, "target_modules"),
    ],
)
def test_features_that_are_not_served_are_refused_by_name(
    checkpoint: Checkpoint, trained: Callable[..., Path], changes: dict[str, Any], named: str
) -> None:
    folder = trained(target_modules=["q_proj"])
    restate(folder, **changes)
    with pytest.raises(AdapterRefused, match=named):
        read_adapter(folder, checkpoint)


def test_tensors_must_match_the_model_exactly(
    checkpoint: Checkpoint, trained: Callable[..., Path]
) -> None:
    folder = trained()
    tensors = load_file(folder / "adapter_model.safetensors")
    prefix = "base_model.model.transformer.h."
    tensors["base_model.model.transformer.h.9.mlp.c_proj.lora_A.weight"] = torch.zeros(4, 96)
    tensors["base_model.model.transformer.h.0.mlp.c_proj.lora_magnitude"] = torch.zeros(4)
    del tensors[f"{prefix}1.mlp.c_fc_0.lora_A.weight"]
    del tensors[f"{prefix}2.mlp.c_fc_0.lora_A.weight"]
    del tensors[f"{prefix}2.mlp.c_fc_0.lora_B.weight"]
    tensors[f"{prefix}0.mlp.c_fc_1.lora_A.weight"] = torch.zeros(3, 64)
    tensors[f"{prefix}0.mlp.c_fc_1.lora_B.weight"][0, 0] = math.nan
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterRefused) as refusal:
        read_adapter(folder, checkpoint)
    said = "\n".join(refusal.value.problems)
    for part in (
        "h.9.mlp.c_proj.lora_A", "lora_magnitude", "h.1.mlp.c_fc_0 has no lora_A",
        "no tensors for its target modules transformer.h.2.mlp.c_fc_0",
        "h.0.mlp.c_fc_1.lora_A has shape (3, 64); expected (4, 64)", "not finite",
    ):  # fmt: skip
        assert part in said


def test_tensors_beside_the_targets_are_refused(
    checkpoint: Checkpoint, trained: Callable[..., Path]
) -> None:
    folder = trained()
    restate(folder, target_modules=[name for name in ORIGINAL if name != "c_proj"])
    with pytest.raises(AdapterRefused, match="does not target"):
        read_adapter(folder, checkpoint)


def test_missing_and_damaged_files(
    checkpoint: Checkpoint, trained: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(AdapterRefused, match=r"no adapter_config\.json"):
        read_adapter(tmp_path, checkpoint)
    folder = trained(target_modules=["q_proj"])
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(Exception, match="truncated or damaged"):
        read_adapter(folder, checkpoint)
