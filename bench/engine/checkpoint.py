"""A benchmark checkpoint: EXAONE-3.5's shape at 0.45 B parameters, random weights, 102,400 tokens.

    python -m bench.engine.checkpoint FOLDER           # FOLDER/original and FOLDER/llama

Speed does not depend on what the weights are, text quality does: nothing that this model writes
means anything. The tokenizer is a byte-level BPE trained on the floor-plan task's text and filled
up to EXAONE's vocabulary size with random merges, so that masks and logits have their true width.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from finetune.demo.corpus import training_samples
from provider.engine.convert import convert
from provider.engine.exaone import CHAT_TEMPLATE, ExaoneConfig, ExaoneForCausalLM

VOCABULARY = 102_400
SPECIALS = ["[PAD]", "[BOS]", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"]
SHAPE: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 3584,
    "num_layers": 18,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
}
ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def make_tokenizer(vocabulary: int = VOCABULARY, seed: int = 0) -> PreTrainedTokenizerFast:
    """EXAONE's special tokens, digit splitting and byte-level BPE, `vocabulary` tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        show_progress=False,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = (
        json.dumps(s.messages, ensure_ascii=False) + s.answer for s in training_samples(0, 400)
    )
    backend.train_from_iterator(texts, trainer)
    filled = Tokenizer.from_str(_fill(backend.to_str(), vocabulary, random.Random(seed)))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=filled, pad_token="[PAD]", bos_token="[BOS]", eos_token="[|endofturn|]"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _fill(text: str, size: int, chance: random.Random) -> str:
    """Adds merges of random token pairs until the vocabulary has `size` tokens."""
    stated = json.loads(text)
    vocabulary: dict[str, int] = stated["model"]["vocab"]
    special = {token["content"] for token in stated["added_tokens"]}
    tokens = [token for token in vocabulary if token not in special]
    letters = [token for token in tokens if not any(c.isdigit() or c in '"{}[]:,' for c in token)]
    while len(vocabulary) < size:
        left, right = chance.choice(letters), chance.choice(letters)
        merged = left + right
        if len(merged) <= 12 and merged not in vocabulary and "Ġ" not in right:
            vocabulary[merged] = len(vocabulary)
            stated["model"]["merges"].append([left, right])
            letters.append(merged)
    return json.dumps(stated, ensure_ascii=False)


def make_model(vocabulary: int = VOCABULARY, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    stated: dict[str, Any] = {
        "vocab_size": vocabulary,
        "max_position_embeddings": 32_768,
        "activation_function": "silu",
        "layer_norm_epsilon": 1e-5,
        "rope_theta": 1e6,
        "rope_scaling": ROPE,
        "tie_word_embeddings": True,
        "eos_token_id": SPECIALS.index("[|endofturn|]"),
    }
    model: Any = ExaoneForCausalLM(ExaoneConfig(**stated, **SHAPE))
    return model.to(torch.bfloat16)


def make(folder: Path) -> None:
    """Writes the checkpoint in both layouts; peers read the Llama one."""
    original = folder / "original"
    make_model().save_pretrained(original)
    make_tokenizer().save_pretrained(original)
    convert(original, folder / "llama", "llama", progress=False)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
