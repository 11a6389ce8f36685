"""An EXAONE checkpoint in original layout as a bf16 GGUF file for llama.cpp.

    python -m bench.engine.gguf_file FOLDER/original FILE.gguf

Needs the package `gguf`. llama.cpp's architecture `exaone` reads rope as half-split, so that query
and key weights go in unpermuted; without rope scaling only (the benchmark's wide model has none).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file

NAMES = {
    "ln_1": "attn_norm",
    "attn.attention.q_proj": "attn_q",
    "attn.attention.k_proj": "attn_k",
    "attn.attention.v_proj": "attn_v",
    "attn.attention.out_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc_0": "ffn_gate",
    "mlp.c_fc_1": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def convert(folder: Path, path: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(str(path), "exaone")
    _metadata(writer, config)
    _vocabulary(writer, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), config)
    for name, tensor in load_file(folder / "model.safetensors").items():
        _tensor(writer, _renamed(name), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _metadata(writer: Any, config: dict[str, Any]) -> None:
    writer.add_name("bench")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def _vocabulary(writer: Any, stated: dict[str, Any], config: dict[str, Any]) -> None:
    ids = {index: token for token, index in stated["model"]["vocab"].items()}
    special = {t["id"] for t in stated["added_tokens"] if t["special"]}
    added = {t["id"] for t in stated["added_tokens"]} - special
    tokens, kinds = [], []
    for index in range(config["vocab_size"]):
        kind = gguf.TokenType.NORMAL
        if index in special:
            kind = gguf.TokenType.CONTROL
        elif index in added:
            kind = gguf.TokenType.USER_DEFINED
        tokens.append(ids.get(index, f"[UNUSED{index}]"))
        kinds.append(kind if index in ids else gguf.TokenType.UNUSED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in stated["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("exaone")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])


def _renamed(name: str) -> str:
    parts = name.removeprefix("transformer.").removesuffix(".weight")
    if parts == "wte":
        return "token_embd.weight"
    if parts == "ln_f":
        return "output_norm.weight"
    _, layer, rest = parts.split(".", 2)
    return f"blk.{layer}.{NAMES[rest]}.weight"


def _tensor(writer: Any, name: str, tensor: torch.Tensor) -> None:
    if tensor.dim() == 1:
        writer.add_tensor(name, tensor.float().numpy())
        return
    data = tensor.bfloat16().contiguous().view(torch.uint8).numpy()
    writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.BF16)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
