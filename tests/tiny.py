"""Tiny checkpoints with random weights and real tokenizers, for tests of everything around a model.

They are written once per process into a temporary folder: a language model in EXAONE-3.5's own
format and an embedding model of 768 dimensions whose CLS token is the sentence, as KoSimCSE's is.
What they say means nothing; that it is well-formed is the point.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

TEXT = [
    "평면도를 분석하면 거실은 남향이고 채광이 좋습니다. 침실은 세 개, 욕실은 두 개입니다.",
    "The living room faces south and the kitchen has 12 square metres in 2024.",
    '{"rooms":[{"name":"거실","area":24.5,"windows":2},{"name":"주방","area":11.0}]}',
    "You are a helpful assistant. 당신은 친절한 건축 전문가입니다. 123 4567 89",
]
EXAONE_SPECIALS = ["[PAD]", "[BOS]", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"]


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sllm-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def llm_folder() -> Path:
    """A checkpoint in EXAONE-3.5's own names: 3 layers of 64, context 4,096."""
    import torch

    from provider.engine.exaone import CHAT_TEMPLATE, ExaoneConfig, ExaoneForCausalLM

    tokenizer = _tokenizer(
        EXAONE_SPECIALS, pad_token="[PAD]", bos_token="[BOS]", eos_token="[|endofturn|]"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    stated: dict[str, Any] = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "silu",
        "initializer_range": 0.3,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": 5,
    }
    torch.manual_seed(0)
    folder = _folder() / "exaone-tiny"
    ExaoneForCausalLM(ExaoneConfig(**stated)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def embedder_folder() -> Path:
    """A sentence-transformers folder: RoBERTa, one layer, 768 dimensions, CLS pooling."""
    import torch
    from transformers import RobertaConfig, RobertaModel

    tokenizer = _tokenizer(
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        bos_token="<s>",
        cls_token="<s>",
        sep_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=512,
    )
    config = RobertaConfig(
        vocab_size=512,
        hidden_size=768,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.05,
    )
    torch.manual_seed(0)
    folder = _folder() / "roberta-tiny"
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_modules(folder)
    return folder


def _write_modules(folder: Path) -> None:
    """What tells sentence-transformers to take the CLS token, 512 tokens at most."""
    kinds = ("models.Transformer", ""), ("models.Pooling", "1_Pooling")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": 768, "pooling_mode_cls_token": True,
               "pooling_mode_mean_tokens": False}  # fmt: skip
    (folder / "1_Pooling").mkdir()
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False}),
    ):
        (folder / name).write_text(json.dumps(value))


def _tokenizer(specials: list[str], **names: Any) -> Any:
    """A byte-level BPE tokenizer that splits digits; it knows every byte."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import RobertaProcessing
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    digits = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        show_progress=False,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(TEXT * 4, trainer)
    if "cls_token" in names:
        backend.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)
