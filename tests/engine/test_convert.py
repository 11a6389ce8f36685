"""From one layout into the other and back: the same bytes under other names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from provider.engine.cli import model as command
from provider.engine.convert import convert, rename_safetensors
from provider.engine.layout import UnknownName, layout_of, rename, rename_fragment
from provider.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # read by peft
)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def config(folder: Path) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return stated


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["5GB", "100KB"])
def test_there_and_back_is_bit_exact(
    write_exaone: Callable[..., Path], tmp_path: Path, tied: bool, shard: str
) -> None:
    first = write_exaone(tmp_path / "a", max_shard_size=shard, tie_word_embeddings=tied)
    second = convert(first, tmp_path / "b", "llama", progress=False)
    third = convert(second, tmp_path / "c", "original", progress=False)
    before, middle, after = tensors(first), tensors(second), tensors(third)
    assert (len(list(first.glob("*.safetensors"))) > 1) == (shard == "100KB")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name])
        assert torch.equal(tensor, middle[rename(name, "llama")])
        assert tensor.dtype == middle[rename(name, "llama")].dtype
    assert config(first) == config(third)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (first / name).read_bytes() == (third / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_every_dtype_is_carried_as_bytes(tmp_path: Path) -> None:
    raw = torch.arange(256, dtype=torch.uint8)
    stored = {
        "transformer.wte.weight": raw.view(torch.bfloat16),
        "transformer.ln_f.weight": raw.clone().view(torch.float16),
        "lm_head.weight": raw.clone().view(torch.float8_e4m3fn),
    }
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(stored, source, metadata={"format": "pt"})
    names = {name: rename(name, "llama") for name in stored}
    rename_safetensors(source, target, names, lambda _: None)
    found = load_file(target)
    for name, tensor in stored.items():
        assert torch.equal(found[names[name]].view(torch.uint8), tensor.view(torch.uint8))
    with safe_open(target, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_defaults_are_written_out(write_exaone: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_exaone(tmp_path / "a")
    stated = config(folder)
    del stated["layer_norm_epsilon"]
    (folder / "config.json").write_text(json.dumps(stated))
    converted = config(convert(folder, tmp_path / "b", "llama", progress=False))
    assert converted["rms_norm_eps"] == 1e-5
    assert converted["model_type"] == "llama"
    assert converted["architectures"] == ["LlamaForCausalLM"]
    assert converted["rope_theta"] == 10000.0
    assert "auto_map" not in converted


def test_a_llama_checkpoint_gets_the_original_layout(tmp_path: Path) -> None:
    torch.manual_seed(1)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=3e-6,
        )
    )  # fmt: skip
    llama.save_pretrained(tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", "original", progress=False)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    assert type(again).__name__ == "ExaoneForCausalLM"
    ids = torch.tensor([[1, 5, 9, 33]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, llama.eval()(ids).logits)


@pytest.mark.parametrize("targets", [["q_proj", "out_proj", "c_fc_0", "c_proj"], r".*c_fc_[01]"])
def test_lora_adapters_convert_and_act_alike(
    exaone_folder: Path, tmp_path: Path, targets: list[str] | str
) -> None:
    torch.manual_seed(2)
    base = AutoModelForCausalLM.from_pretrained(exaone_folder, dtype=torch.float32)
    settings = LoraConfig(r=2, target_modules=targets, rank_pattern={"c_fc_0": 3})
    adapted = get_peft_model(base, settings)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    (tmp_path / "adapter" / "manifest.json").write_text(
        json.dumps({"layout": "original", "target_modules": targets, "data_sha256": "x"})
    )
    convert(exaone_folder, tmp_path / "llama", "llama", progress=False)
    convert(tmp_path / "adapter", tmp_path / "llama-adapter", "llama", progress=False)
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "llama", dtype=torch.float32),
        tmp_path / "llama-adapter",
    )
    ids = torch.tensor([[1, 50, 90, 330]])
    with torch.no_grad():
        assert (again(ids).logits - adapted.eval()(ids).logits).abs().max() < 1e-4
    manifest = json.loads((tmp_path / "llama-adapter" / "manifest.json").read_text())
    assert manifest["layout"] == "llama"
    back = convert(tmp_path / "llama-adapter", tmp_path / "back", "original", progress=False)
    before, after = tensors(tmp_path / "adapter"), tensors(back)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_tokenizer_declared_as_gpt2_still_splits_digits_in_the_llama_layout(
    write_exaone: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_exaone(tmp_path / "a")
    declared = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(declared | {"tokenizer_class": "GPT2Tokenizer"})
    )
    converted = convert(folder, tmp_path / "b", "llama", progress=False)
    assert AutoTokenizer.from_pretrained(converted).tokenize("2024") == ["2", "0", "2", "4"]


def test_code_and_pickles_are_left_behind(
    write_exaone: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_exaone(tmp_path / "a")
    for name in ("modeling_exaone.py", "pytorch_model.bin"):
        (folder / name).write_text("x")
    (folder / "LICENSE").write_text("EXAONE AI Model License Agreement 1.1 - NC")
    names = {path.name for path in convert(folder, tmp_path / "b", "llama").iterdir()}
    assert "LICENSE" in names
    assert not {"modeling_exaone.py", "pytorch_model.bin"} & names


def test_refusals_leave_nothing_behind(write_exaone: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_exaone(tmp_path / "a")
    (tmp_path / "taken").mkdir()
    cases: list[tuple[Path, Path, Any, str]] = [
        (folder, tmp_path / "taken", "llama", "exists"),
        (folder, tmp_path / "b", "original", "already"),
        (tmp_path / "taken", tmp_path / "b", "llama", "config.json|no weights"),
    ]
    for source, destination, to, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            convert(source, destination, to, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "taken"]


def test_a_damaged_or_foreign_checkpoint_is_refused_before_writing(
    write_exaone: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_exaone(tmp_path / "a")
    weights = tensors(folder)
    save_file(weights | {"transformer.h.0.surplus": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ConfigurationError, match=r"transformer\.h\.0\.surplus is no name"):
        convert(folder, tmp_path / "b", "llama", progress=False)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigurationError, match="truncated or damaged"):
        convert(folder, tmp_path / "b", "llama", progress=False)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigurationError, match="'gpt2'; expected exaone"):
        convert(folder, tmp_path / "b", "llama", progress=False)
    assert not (tmp_path / "b").exists()


def test_a_failure_half_way_leaves_no_partial_result(
    write_exaone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_exaone(tmp_path / "a", max_shard_size="100KB")
    done = []

    def fail(source: Path, *rest: Any) -> None:
        done.append(source)
        if len(done) == 2:
            raise KeyboardInterrupt
        rename_safetensors(source, *rest)

    monkeypatch.setattr("provider.engine.convert.rename_safetensors", fail)
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "b", "llama", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_names_of_both_layouts() -> None:
    assert rename("transformer.h.12.mlp.c_fc_0.lora_A.weight", "llama") == (
        "model.layers.12.mlp.gate_proj.lora_A.weight"
    )
    assert rename("model.norm.weight", "original") == "transformer.ln_f.weight"
    assert rename_fragment("out_proj", "llama") == "o_proj"
    assert rename_fragment("layers.3.mlp.up_proj", "original") == "h.3.mlp.c_fc_1"
    assert rename_fragment("mlp.c_proj", "llama") == "mlp.down_proj"
    assert layout_of(["lm_head.weight"]) is None
    for foreign in ("transformer.h.1.mlp.c_fc_9.weight", "model.layers.1.mlp.gate_proj", "x"):
        with pytest.raises(UnknownName, match=re.escape(foreign)):
            rename(foreign, "llama")


def test_the_command(exaone_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "llama"
    done = CliRunner().invoke(
        command, ["convert", str(exaone_folder), str(target), "--to", "llama"]
    )
    assert done.exit_code == 0, done.output
    assert "in the llama layout" in done.output
    shown = CliRunner().invoke(command, ["show", str(target)])
    assert "LlamaForCausalLM, llama layout, 0.13 M parameters, F32" in shown.output
    again = CliRunner().invoke(
        command, ["convert", str(exaone_folder), str(target), "--to", "llama"]
    )
    assert again.exit_code == 1
    assert "exists" in again.output
