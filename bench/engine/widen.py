"""The demo model at the size of a real one: the same answers at 0.45 B parameters' cost.

    python -m bench.engine.widen DEMO FOLDER           # FOLDER/original and FOLDER/llama

A model of random weights writes noise, so it cannot show what structure is worth; the demo model
answers, but is so small that only overhead is measured. This checkpoint computes exactly the demo
model's function inside matrices of 0.45 B parameters: the demo's weights in their corners, zeros
elsewhere, further layers that add nothing. A dense kernel does the same work for a zero as for any
other number, so every engine pays the full price. The vocabulary is filled up to 102,400 with
tokens that no text is written with, so that masks and logits have their true width.
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from provider.engine.checkpoint import load
from provider.engine.convert import convert
from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM

VOCABULARY = 102_400
HIDDEN, INNER, LAYERS, GROUPS = 1280, 3584, 18, 10
"""Width, feed-forward width, layers, key/value heads of the wide model."""


def widen(demo: Any) -> Any:
    """A model with the demo's logits (up to rounding) and the shape above."""
    small: Any = demo.config
    head, share = small.head_dim, small.num_attention_heads // small.num_key_value_heads
    stated: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_layers": LAYERS,
        "num_attention_heads": GROUPS * share,
        "num_key_value_heads": GROUPS,
        "head_dim": head,
        "max_position_embeddings": small.max_position_embeddings,
        "layer_norm_epsilon": small.rms_norm_eps * small.hidden_size / HIDDEN,
        "activation_function": small.hidden_act,
        "rope_theta": small.rope_parameters["rope_theta"],
        "tie_word_embeddings": True,
        "pad_token_id": small.pad_token_id,
        "bos_token_id": small.bos_token_id,
        "eos_token_id": small.eos_token_id,
    }
    wide: Any = ExaoneForCausalLM(ExaoneConfig(**stated))
    shrink = math.sqrt(small.hidden_size / HIDDEN)
    weights = dict(demo.named_parameters())
    with torch.no_grad():
        for name, target in wide.named_parameters():
            target.zero_()
            if name in weights:
                scale = shrink if "ln_" in name else 1.0
                _corner(target, weights[name].float() * scale)
    return wide.to(torch.bfloat16)


def _corner(target: Tensor, source: Tensor) -> None:
    target[tuple(slice(0, size) for size in source.shape)] = source


def fill(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokenizer with tokens that no merge makes, up to the vocabulary's size."""
    chance = random.Random(0)
    stated = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary: dict[str, int] = stated["model"]["vocab"]
    special = {token["content"] for token in stated["added_tokens"]}
    vocabulary.update({token["content"]: token["id"] for token in stated["added_tokens"]})
    following = 1 + max(vocabulary.values())
    pieces = [t for t in vocabulary if t not in special and not set(t) & set('"{}[]:,0123456789')]
    while following < VOCABULARY:
        token = "".join(chance.choices(pieces, k=3))
        if token not in vocabulary and len(token) <= 24:
            vocabulary[token] = following
            following += 1
    tokens = {"eos_token": tokenizer.eos_token, "pad_token": tokenizer.pad_token}
    backend = Tokenizer.from_str(json.dumps(stated, ensure_ascii=False))
    filled = PreTrainedTokenizerFast(tokenizer_object=backend, **tokens)
    filled.chat_template = tokenizer.chat_template
    return filled


def make(demo: Path, folder: Path) -> None:
    """Writes the checkpoint in both layouts; peers read the Llama one."""
    loaded = load(demo, device="cpu", dtype="fp32", progress=False)
    widen(loaded.model).save_pretrained(folder / "original")
    fill(loaded.tokenizer.hf).save_pretrained(folder / "original")
    convert(folder / "original", folder / "llama", "llama", progress=False)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
