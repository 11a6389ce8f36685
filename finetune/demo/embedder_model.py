"""The demo embedder: a one-layer RoBERTa of 768 dimensions, CLS-pooled and normalised.

Written as a sentence-transformers folder, in the form of KoSimCSE-roberta with its pooling stated,
so that it loads wherever a real Korean embedding model does.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

DIMENSIONS = 768
VOCABULARY = 1_600
MAX_TOKENS = 128
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_MODULES = {
    "": "models.Transformer",
    "1_Pooling": "models.Pooling",
    "2_Normalize": "models.Normalize",
}


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with RoBERTa's special tokens; every byte is in it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def build_encoder(vocabulary: int, seed: int) -> RobertaModel:
    """4.3 million parameters; the same seed gives the same weights."""
    torch.manual_seed(seed)
    config = RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=DIMENSIONS,
        num_hidden_layers=1,
        num_attention_heads=12,
        intermediate_size=384,
        max_position_embeddings=MAX_TOKENS + 2,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    return RobertaModel(config, add_pooling_layer=False)


def vectors(
    encoder: RobertaModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> Tensor:
    """Unit vectors [texts, 768]: the first token of the last layer, normalised."""
    batch = tokenizer(
        list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    output = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return nn.functional.normalize(output.last_hidden_state[:, 0].float(), dim=-1)


def save_embedder(encoder: RobertaModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights in float16, and the files that sentence-transformers reads beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    encoder.float()
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}
        for index, (path, kind) in enumerate(_MODULES.items())
    ]
    _write(folder / "modules.json", modules)
    _write(
        folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False}
    )
    pooling = {"word_embedding_dimension": DIMENSIONS, "pooling_mode_cls_token": True}
    _write(folder / "1_Pooling" / "config.json", {**pooling, "pooling_mode_mean_tokens": False})


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
