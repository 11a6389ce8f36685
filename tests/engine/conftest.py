"""Tiny checkpoints in EXAONE-3.5's own format, with random weights and a real trained tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from provider.engine.exaone import CHAT_TEMPLATE, ExaoneConfig, ExaoneForCausalLM, register
from provider.engine.native.kernels import Kernels, kernels

TEXT = [
    "평면도를 분석하면 거실은 남향이고 채광이 좋습니다. 침실은 세 개, 욕실은 두 개입니다.",
    "The living room faces south and the kitchen has 12 square metres in 2024.",
    '{"rooms":[{"name":"거실","area":24.5,"windows":2},{"name":"주방","area":11.0}]}',
    "You are a helpful assistant. 당신은 친절한 건축 전문가입니다. 123 4567 89",
]
EXAONE_SPECIALS = ["[PAD]", "[BOS]", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"]

torch.set_num_threads(1)
register()


def train_tokenizer(specials: list[str], **names: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that splits digits, as EXAONE's does."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        show_progress=False,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(TEXT * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.fixture(scope="session")
def own() -> Kernels:
    """The C kernels, for tests that `needs_kernels` marks."""
    found = kernels()
    assert found is not None
    return found


@pytest.fixture(scope="session")
def exaone_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(
        EXAONE_SPECIALS, pad_token="[PAD]", bos_token="[BOS]", eos_token="[|endofturn|]"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def exaone_config(**changes: Any) -> ExaoneConfig:
    stated: dict[str, Any] = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "silu",
        "initializer_range": 0.3,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "tie_word_embeddings": True,
        "eos_token_id": 5,
    }
    return ExaoneConfig(**(stated | changes))


@pytest.fixture(scope="session")
def write_exaone(exaone_tokenizer: PreTrainedTokenizerFast) -> Callable[..., Path]:
    """`write_exaone(folder, seed=0, max_shard_size=None, **config)` saves a checkpoint."""

    def write(folder: Path, seed: int = 0, max_shard_size: str = "5GB", **changes: Any) -> Path:
        torch.manual_seed(seed)
        model = ExaoneForCausalLM(exaone_config(**changes))
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        exaone_tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def exaone_folder(
    tmp_path_factory: pytest.TempPathFactory, write_exaone: Callable[..., Path]
) -> Path:
    """A tied checkpoint that tests only read."""
    return write_exaone(tmp_path_factory.mktemp("checkpoints") / "exaone-tiny")
