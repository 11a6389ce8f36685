"""GGUF files read back: every tensor against the checkpoint, rope, tokens, template, Modelfile."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from finetune.export import modelfile
from finetune.export.cli import export as command
from finetune.export.formats import export
from finetune.export.gguf_file import permuted, read_source
from finetune.export.rope import llama3_factors, read_rope
from provider.engine.chat import ChatTokenizer
from provider.engine.convert import convert
from provider.errors import ConfigurationError
from tests.finetune.exporting import DEMO, write_model
from tests.finetune.families import LLAMA3, QWEN2, SIZES, small

NAMES = {
    "attn_q": "attn.attention.q_proj", "attn_k": "attn.attention.k_proj",
    "attn_v": "attn.attention.v_proj", "attn_output": "attn.attention.out_proj",
    "attn_norm": "ln_1", "ffn_norm": "ln_2", "ffn_gate": "mlp.c_fc_0", "ffn_up": "mlp.c_fc_1",
    "ffn_down": "mlp.c_proj",
}  # fmt: skip


def original(name: str) -> str:
    top = {"token_embd": "transformer.wte", "output_norm": "transformer.ln_f", "output": "lm_head"}
    bare = name.removesuffix(".weight")
    if bare in top:
        return f"{top[bare]}.weight"
    _, layer, rest = bare.split(".")
    return f"transformer.h.{layer}.{NAMES[rest]}.weight"


def values(tensor: Any) -> NDArray[np.float32]:
    found: NDArray[np.float32] = dequantize(tensor.data, tensor.tensor_type)
    return found


def field(path: Path, name: str) -> Any:
    return gguf.GGUFReader(path).fields[name].contents()


def file_of(folder: Path) -> Path:
    (found,) = folder.glob("*.gguf")
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo in both layouts, and a tiny model with llama3 rope scaling and an untied head."""
    root = tmp_path_factory.mktemp("models")
    scaled = write_model(root / "scaled", tie_word_embeddings=False, max_shard_size="200KB")
    return {
        "original": DEMO,
        "llama": convert(DEMO, root / "llama", "llama", progress=False),
        "scaled": scaled,
    }


@pytest.mark.parametrize("layout", ["original", "llama", "scaled"])
@pytest.mark.parametrize(("kind", "step"), [("f32", 0.0), ("bf16", 0.0), ("f16", 1e-3)])
def test_every_tensor_is_there_and_equal(
    models: dict[str, Path], tmp_path: Path, layout: str, kind: str, step: float
) -> None:
    done = export(models[layout], tmp_path / "e", "gguf", kind)
    stored = read_source(models["scaled" if layout == "scaled" else "original"]).base.tensors
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(done.file).tensors}
    factors = found.pop("rope_freqs.weight", None)
    assert (factors is not None) == (layout == "scaled")
    assert {original(name) for name in found} == stored.keys()
    for name, tensor in found.items():
        wanted = stored[original(name)].read().float().numpy()
        np.testing.assert_allclose(values(tensor), wanted, rtol=step, atol=step * 1e-3)
    assert field(done.file, "general.architecture") == "exaone"


def test_q8_0_is_within_half_a_step_of_each_block(models: dict[str, Path], tmp_path: Path) -> None:
    done = export(DEMO, tmp_path / "e", "gguf", "q8_0")
    stored = load_file(DEMO / "model.safetensors")
    assert done.kinds == {"Q8_0": 43, "F32": 13}
    for tensor in gguf.GGUFReader(done.file).tensors:
        wanted = stored[original(tensor.name)].float().numpy()
        if wanted.ndim == 1:
            np.testing.assert_array_equal(values(tensor), wanted)
            continue
        blocks = wanted.reshape(-1, 32)
        steps = np.abs(blocks).max(-1, keepdims=True) / 127
        assert (
            np.abs(values(tensor).reshape(-1, 32) - blocks) <= 0.5 * steps + 1e-3 * np.abs(blocks)
        ).all()


def test_rows_that_blocks_do_not_divide_stay_f16(tmp_path: Path) -> None:
    write_model(tmp_path / "m", intermediate_size=80)
    done = export(tmp_path / "m", tmp_path / "e", "gguf", "q8_0")
    assert done.kinds == {"Q8_0": 19, "F16": 3, "F32": 8}


def test_rope_factors_are_transformers_own() -> None:
    """transformers divides its frequencies by them; an independent implementation."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    stated = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "rope_theta": 1e6,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    config = LlamaConfig(
        hidden_size=2560, num_attention_heads=32, head_dim=80, rope_parameters=stated,
        max_position_embeddings=32768,
    )  # fmt: skip
    wanted = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0]
    plain = 1e6 ** -(torch.arange(0, 80, 2, dtype=torch.float64) / 80)
    factors = llama3_factors(stated, 1e6, 80)
    np.testing.assert_allclose(plain.numpy() / factors, wanted.double().numpy(), rtol=1e-5)
    assert (factors[0], factors[-1]) == (1.0, 8.0)
    assert len(set(factors.tolist())) > 3


def test_other_rope_scalings_are_carried_or_refused(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    write_model(tmp_path / "m", rope_scaling=scaling)
    done = export(tmp_path / "m", tmp_path / "e", "gguf", "f16")
    assert field(done.file, "exaone.rope.scaling.type") == "yarn"
    assert field(done.file, "exaone.rope.scaling.factor") == 4.0
    assert field(done.file, "exaone.rope.scaling.original_context_length") == 128
    with pytest.raises(ConfigurationError, match="longrope"):
        read_rope({"rope_type": "longrope", "rope_theta": 1.0}, 64)


def test_tokens_template_and_ends(tmp_path: Path) -> None:
    file = export(DEMO, tmp_path / "e", "gguf", "q8_0").file
    chat = ChatTokenizer.load(DEMO)
    tokens = field(file, "tokenizer.ggml.tokens")
    assert len(tokens) == 1536
    for index in (0, 4, 7, 8, 300, len(chat.hf) - 1):
        assert tokens[index] == chat.hf.convert_ids_to_tokens(index)
    assert tokens[-1] == chat.hf.convert_ids_to_tokens(1535) or tokens[-1] == "[PAD1535]"
    assert field(file, "tokenizer.ggml.pre") == "exaone"
    assert field(file, "tokenizer.ggml.eos_token_id") == 7
    assert field(file, "tokenizer.ggml.add_bos_token") is False
    assert field(file, "tokenizer.chat_template") == chat.chat_template
    assert field(file, "general.license") == "apache-2.0"
    kinds = field(file, "tokenizer.ggml.token_type")
    assert (kinds[7], kinds[300]) == (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL)


def test_llama_has_its_rows_turned(tmp_path: Path) -> None:
    small(LlamaForCausalLM, LlamaConfig(**SIZES), tmp_path / "m", LLAMA3)
    file = export(tmp_path / "m", tmp_path / "e", "gguf", "f32").file
    assert field(file, "general.architecture") == "llama"
    assert field(file, "tokenizer.ggml.pre") == "llama-bpe"
    found = {tensor.name: values(tensor) for tensor in gguf.GGUFReader(file).tensors}
    stored = load_file(tmp_path / "m" / "model.safetensors")
    wanted = stored["model.layers.1.self_attn.k_proj.weight"].float().numpy()
    turned = found["blk.1.attn_k.weight"]
    np.testing.assert_array_equal(turned[[0, 2, 4, 1, 3, 5]], wanted[[0, 1, 2, 8, 9, 10]])
    np.testing.assert_array_equal(turned[16 + 2], wanted[16 + 1])
    assert "TEMPLATE" not in (tmp_path / "e" / "Modelfile").read_text()
    assert torch.equal(permuted(torch.arange(4.0)[:, None], 1)[:, 0], torch.tensor([0.0, 2, 1, 3]))


def test_qwen3_keeps_its_rows_and_its_head_norms(tmp_path: Path) -> None:
    small(Qwen3ForCausalLM, Qwen3Config(**SIZES), tmp_path / "m", QWEN2)
    file = export(tmp_path / "m", tmp_path / "e", "gguf", "bf16").file
    assert field(file, "general.architecture") == "qwen3"
    assert field(file, "tokenizer.ggml.pre") == "qwen2"
    names = {tensor.name for tensor in gguf.GGUFReader(file).tensors}
    assert {"blk.0.attn_q_norm.weight", "blk.1.attn_k_norm.weight"} <= names


def test_what_llama_cpp_cannot_read_the_same_is_refused(tmp_path: Path) -> None:
    small(LlamaForCausalLM, LlamaConfig(**SIZES), tmp_path / "m", r"\w+")
    with pytest.raises(ConfigurationError, match="splits text by"):
        export(tmp_path / "m", tmp_path / "e", "gguf", "f16")
    small(LlamaForCausalLM, LlamaConfig(**SIZES, attention_bias=True), tmp_path / "b", LLAMA3)
    with pytest.raises(ConfigurationError, match="biases"):
        export(tmp_path / "b", tmp_path / "e", "gguf", "f16")
    assert not (tmp_path / "e").exists()


def test_f16_overflow_and_formats_made_elsewhere(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    stored["transformer.h.0.mlp.c_proj.weight"][3, 4] = 1e6
    save_file(stored, tmp_path / "m" / "model.safetensors")
    ran = CliRunner().invoke(command, [str(tmp_path / "m"), str(tmp_path / "e"), "--type", "f16"])
    assert ran.exit_code == 1
    assert "use --type bf16" in ran.output
    for form in ("awq", "gptq"):
        ran = CliRunner().invoke(command, [str(DEMO), str(tmp_path / "e"), "--format", form])
        assert ran.exit_code == 1
        assert "auto-round" in ran.output
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_no_quantiser_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = [str(DEMO), str(tmp_path / "e"), "--type", "q4_k_m"]
    ran = CliRunner().invoke(command, arguments, env={"LLAMA_PYTHON": None})
    assert "pip install llama-cpp-python" in ran.output
    ran = CliRunner().invoke(command, [*arguments, "--llama-python", "/nowhere/python"])
    assert "is no program" in ran.output
    ran = CliRunner().invoke(command, [*arguments, "--llama-python", "/bin/false"])
    assert "did not quantise" in ran.output
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            export(DEMO, tmp_path / "e", "gguf", "f16")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_the_modelfile_names_file_window_and_stops(tmp_path: Path) -> None:
    done = export(DEMO, tmp_path / "e", "gguf", "q8_0")
    text = (tmp_path / "e" / "Modelfile").read_text()
    assert f"FROM ./{done.file.name}\n" in text
    assert 'PARAMETER stop "[|endofturn|]"\n' in text
    assert "PARAMETER num_ctx 4096\n" in text
    assert f'TEMPLATE """{modelfile.EXAONE}"""' in text
