"""Loading: right numbers, honest card, and one clear sentence for whatever is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from provider.engine import device as device_module
from provider.engine.checkpoint import load
from provider.engine.convert import convert
from provider.engine.device import resolve_device, resolve_dtype
from provider.engine.model_card import licence
from provider.engine.repository import resolve
from provider.errors import ConfigurationError

IDS = torch.tensor([[3, 77, 120, 401, 9, 300]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def restate(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(write_exaone: Callable[..., Path], tmp_path: Path) -> Path:
    return write_exaone(tmp_path / "exaone-mini")


def test_original_and_llama_layout_load_alike(exaone_folder: Path, tmp_path: Path) -> None:
    llama_folder = convert(exaone_folder, tmp_path / "exaone-llama", "llama", progress=False)
    original = load(exaone_folder, "cpu", "fp32", progress=False)
    llama = load(str(llama_folder), "cpu", "fp32", progress=False)
    assert torch.equal(logits(original.model), logits(llama.model))
    assert (original.card.layout, llama.card.layout) == ("original", "llama")
    talk = [{"role": "user", "content": "거실 12"}]
    assert original.tokenizer.encode_chat(talk) == llama.tokenizer.encode_chat(talk)
    assert original.tokenizer.eos_ids == llama.tokenizer.eos_ids == {5}
    assert not original.model.training
    assert not any(p.requires_grad for p in original.model.parameters())


def test_card_says_what_is_loaded(folder: Path) -> None:
    (folder / "sllm.json").write_text(
        json.dumps({"demo": True, "name": "exaone-demo", "licence": "apache-2.0"})
    )
    card = load(folder, "cpu", "bf16", progress=False).card
    assert (card.id, card.demo, card.licence) == ("exaone-demo", True, "apache-2.0")
    assert (card.device, card.dtype, card.context_length) == ("cpu", "bf16", 512)
    assert card.parameters == sum(
        t.numel() for t in load_file(folder / "model.safetensors").values()
    )
    assert len(card.chat_template_sha256) == 64
    assert "demo checkpoint, not EXAONE's own weights" in "\n".join(card.lines())


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_other_causal_models_load(
    kind: str, exaone_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shape: dict[str, Any] = {
        "vocab_size": 512, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    model: Any = (
        LlamaForCausalLM(LlamaConfig(**shape))
        if kind == "llama"
        else Qwen3ForCausalLM(Qwen3Config(**shape))
    )
    model.save_pretrained(tmp_path / "m")
    exaone_tokenizer.save_pretrained(tmp_path / "m")
    loaded = load(tmp_path / "m", "cpu", "fp32", progress=False)
    assert torch.equal(logits(loaded.model), logits(model.eval()))
    assert loaded.card.layout == "llama"


def test_a_chat_template_is_exaones_own_when_the_folder_has_none(folder: Path) -> None:
    with_template = load(folder, "cpu", progress=False).card.chat_template_sha256
    (folder / "chat_template.jinja").unlink()
    assert load(folder, "cpu", progress=False).card.chat_template_sha256 == with_template


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantised_weights_stay_close(
    write_exaone: Callable[..., Path], tmp_path: Path, quantization: Any
) -> None:
    folder = write_exaone(tmp_path / "a", intermediate_size=128, initializer_range=0.05)
    plain = load(folder, "cpu", "fp32", progress=False)
    small = load(folder, "cpu", "fp32", quantization, progress=False)
    wanted, found = logits(plain.model), logits(small.model)
    assert (found - wanted).norm() / wanted.norm() < (0.25 if quantization == "nf4" else 0.05)
    assert small.card.parameters == plain.card.parameters
    assert small.card.quantization == quantization


def test_a_missing_bitsandbytes_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any, **__: Any) -> None:
        raise ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", unavailable)
    with pytest.raises(ConfigurationError, match=r"pip install 'sllm-provider\[quantized\]'"):
        load(folder, "cpu", quantization="nf4", progress=False)


def test_nf4_shapes_that_cannot_run_are_refused_at_load(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"columns by 64; set LOCAL_LLM_QUANTIZATION"):
        load(folder, "cpu", quantization="nf4", progress=False)


def test_devices_and_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert resolve_dtype("fp16", cpu) is torch.float16
    monkeypatch.setattr(device_module, "cpu_has_bf16", lambda: False)
    assert resolve_dtype("auto", cpu) is torch.float32
    monkeypatch.setattr(device_module, "cpu_has_bf16", lambda: True)
    assert resolve_dtype("auto", cpu) is torch.bfloat16
    assert resolve_dtype("auto", torch.device("mps")) is torch.float16
    with pytest.raises(ConfigurationError, match="'cuda:99' is not on this machine"):
        resolve_device("cuda:99")
    with pytest.raises(ConfigurationError, match="LOCAL_LLM_DEVICE='quantum' is no device"):
        resolve_device("quantum")


def wrong_path(folder: Path) -> str:
    return str(folder.parent / "nowhere")


def a_file(folder: Path) -> str:
    return str(folder / "config.json")


def no_config(folder: Path) -> str:
    (folder / "config.json").unlink()
    return str(folder)


def config_no_json(folder: Path) -> str:
    (folder / "config.json").write_text("{")
    return str(folder)


def no_weights(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return str(folder)


def pickled_weights(folder: Path) -> str:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return str(folder)


def truncated(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return str(folder)


def garbled_header(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:8] + b"#" + path.read_bytes()[9:])
    return str(folder)


def tensor_missing(folder: Path) -> str:
    return _edit(folder, lambda weights: weights.pop("transformer.h.1.ln_2.weight"))


def tensor_unknown(folder: Path) -> str:
    return _edit(folder, lambda weights: weights.update(surplus=torch.zeros(2)))


def tensor_misshapen(folder: Path) -> str:
    shrunk = torch.zeros(3, 64)
    return _edit(
        folder, lambda weights: weights.update({"transformer.h.0.mlp.c_fc_0.weight": shrunk})
    )


def head_differs(folder: Path) -> str:
    return _edit(folder, lambda weights: weights.update({"lm_head.weight": torch.ones(512, 64)}))


def unknown_model(folder: Path) -> str:
    restate(folder / "config.json", model_type="exaone9")
    return str(folder)


def wrong_head(folder: Path) -> str:
    restate(folder / "config.json", architectures=["ExaoneForSequenceClassification"])
    return str(folder)


def impossible_config(folder: Path) -> str:
    restate(folder / "config.json", hidden_size="wide")
    return str(folder)


def too_many_tokens(folder: Path) -> str:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens([f"token{i}" for i in range(100)])
    tokenizer.save_pretrained(folder)
    return str(folder)


def an_adapter(folder: Path) -> str:
    (folder / "config.json").rename(folder / "adapter_config.json")
    return str(folder)


def _edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> str:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (wrong_path, "LOCAL_LLM_MODEL_PATH=.* does not exist; expected a folder or a hub id"),
        (a_file, "is a file; expected a folder"),
        (no_config, r"has no config\.json"),
        (config_no_json, r"config\.json cannot be read"),
        (no_weights, r"has no weights; expected model\.safetensors"),
        (pickled_weights, r"has its weights in pytorch_model\.bin; expected safetensors"),
        (truncated, "truncated or damaged"),
        (garbled_header, "truncated or damaged"),
        (tensor_missing, r"1 parameters are not in the checkpoint \(transformer\.h\.1\.ln_2"),
        (tensor_unknown, r"1 tensors of the checkpoint belong to no parameter \(surplus\)"),
        (
            tensor_misshapen,
            r"c_fc_0\.weight: stored \(3, 64\), expected \(96, 64\)",
        ),
        (head_differs, "ties the head to the embeddings"),
        (unknown_model, "model_type 'exaone9'; expected a causal language model"),
        (wrong_head, "is a ExaoneForSequenceClassification; expected a causal language model"),
        (impossible_config, r"config\.json cannot be used \(.*hidden_size"),
        (too_many_tokens, "the tokenizer has .* tokens, the model only 512"),
        (an_adapter, "is a LoRA adapter; expected the base model's folder"),
    ],
)
def test_damage_is_one_clear_sentence(
    folder: Path, damage: Callable[[Path], str], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as refusal:
        load(damage(folder), "cpu", progress=False)
    assert len(str(refusal.value).splitlines()) == 1


def test_shards_must_be_complete(write_exaone: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_exaone(tmp_path / "a", max_shard_size="100KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert load(folder, "cpu", progress=False).card.parameters > 0
    whole = shards[1].read_bytes()
    shards[1].unlink()
    with pytest.raises(ConfigurationError, match=rf"lacks {shards[1].name}"):
        load(folder, "cpu", progress=False)
    shards[1].write_bytes(whole)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["transformer.h.7.ln_1.weight"] = shards[0].name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigurationError, match=r"disagree on transformer\.h\.7\.ln_1"):
        load(folder, "cpu", progress=False)


def test_memory_is_checked_before_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="LOCAL_LLM_MEMORY=1000 allows"):
        load(folder, "cpu", memory=1000, progress=False)
    monkeypatch.setattr("provider.engine.checkpoint.free_memory", lambda _: 64 * 2**20 + 10)
    with pytest.raises(ConfigurationError, match=r"but cpu has 0\.00 GiB free"):
        load(folder, "cpu", progress=False)


def test_an_embedding_model_is_sent_to_its_own_setting(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=40, intermediate_size=16, **shape)).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="belongs to LOCAL_EMBEDDING_MODEL"):
        load(tmp_path, "cpu", progress=False)


def test_derived_buffers_of_old_checkpoints_are_no_surplus(folder: Path) -> None:
    name = "transformer.h.0.attn.attention.rotary_emb.inv_freq"
    _edit(folder, lambda weights: weights.update({name: torch.zeros(8)}))
    load(folder, "cpu", progress=False)


def test_licence_is_what_the_folder_states(tmp_path: Path) -> None:
    assert licence(tmp_path) == "unknown"
    (tmp_path / "config.json").write_text('{"license": "mit"}')
    assert licence(tmp_path) == "mit"
    (tmp_path / "LICENSE").write_text("\n  EXAONE AI Model License Agreement 1.1 - NC\n...")
    assert licence(tmp_path) == "EXAONE AI Model License Agreement 1.1 - NC"
    (tmp_path / "README.md").write_text("---\nlicense: [broken\n---\n# prose")
    assert licence(tmp_path) == "EXAONE AI Model License Agreement 1.1 - NC"
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: exaone\n---\n# prose")
    assert licence(tmp_path) == "exaone"
    (tmp_path / "sllm.json").write_text('{"licence": "apache-2.0"}')
    assert licence(tmp_path) == "apache-2.0"


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for gated, unknown and missing things."""

    def do_GET(self) -> None:
        status, code = 404, "RepoNotFound"
        if "gated" in self.path:
            status, code = 403, "GatedRepo"
        elif "revisions" in self.path:
            code = "RevisionNotFound"
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    _use_hub(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def _use_hub(monkeypatch: pytest.MonkeyPatch, cache: Path, url: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("org/gated", "is gated; expected a token with access; accept its terms"),
        ("org/unknown", "is neither a folder here nor a repository on the hub"),
        ("org/revisions", "has no revision 'v9'.*correct LOCAL_LLM_REVISION"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub: None, name: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        resolve(name, "v9")


def test_no_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _use_hub(monkeypatch, tmp_path, "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"cache and the hub cannot be reached"):
        resolve("org/model")
