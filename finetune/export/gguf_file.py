"""A checkpoint as one GGUF file for llama.cpp and Ollama: EXAONE-3.x in both layouts, Llama, Qwen3.

llama.cpp's `exaone` and `qwen3` rotate the halves of a head, as transformers does; its `llama`
rotates neighbours, so that query and key rows change places. EXAONE in Llama's layout is written as
`exaone`: the arithmetic is the same and its tokenizer is known by that name. Tensors pass through
one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from numpy.typing import NDArray
from transformers import AutoConfig

from finetune.export.base import Base, read_base
from finetune.export.gguf_tokens import Vocabulary, read_vocabulary
from finetune.export.rope import Rope, read_rope
from finetune.export.tensors import Stored
from provider.errors import ConfigurationError

Type = gguf.GGMLQuantizationType
TYPES = {
    "f32": (Type.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
_ARCHITECTURES = {"exaone": "exaone", "llama": "llama", "qwen3": "qwen3"}
_IDS = {"bos": "bos", "eos": "eos", "eot": "eot", "pad": "pad", "unk": "unk"}


@dataclass(frozen=True)
class Source:
    """A model that can be written as GGUF."""

    base: Base
    config: Any
    architecture: str
    vocabulary: Vocabulary
    rope: Rope

    @property
    def name(self) -> str:
        return self.base.card.id.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Entry:
    """One tensor of the file; `heads` is set where rows change places."""

    name: str
    shape: tuple[int, ...]
    kind: Any
    stored: Stored | None = None
    heads: int | None = None

    @property
    def size(self) -> int:
        block, each = gguf.GGML_QUANT_SIZES[self.kind]
        return int(np.prod(self.shape)) // block * each


def read_source(folder: str | Path) -> Source:
    """`ConfigurationError` for a damaged folder and for what llama.cpp cannot compute the same."""
    base = read_base(folder)
    config = AutoConfig.from_pretrained(base.folder, local_files_only=True)
    architecture = _ARCHITECTURES.get(config.model_type)
    if architecture is None:
        raise ConfigurationError(
            f"{base.folder} has model_type {config.model_type!r}; expected one of "
            f"{', '.join(_ARCHITECTURES)}; use llama.cpp's own converter for another."
        )
    if config.hidden_act != "silu" or any(name.endswith(".bias") for name in base.tensors):
        raise ConfigurationError(
            f"{base.folder} has activation {config.hidden_act!r} or biases; expected silu and "
            "none, which is what llama.cpp computes for this architecture."
        )
    vocabulary = read_vocabulary(base.folder, config.vocab_size)
    if architecture == "llama" and vocabulary.is_exaone:
        architecture = "exaone"
    rope = read_rope(config.rope_parameters, _head(config))
    return Source(base, config, architecture, vocabulary, rope)


def _head(config: Any) -> int:
    stated = getattr(config, "head_dim", None)
    return int(stated or config.hidden_size // config.num_attention_heads)


def entries(source: Source, wanted: str) -> list[Entry]:
    """Every tensor of the file in its order. Rows that a block does not divide stay in F16, as
    llama.cpp does it; vectors are F32."""
    table = gguf.get_tensor_name_map(_arch(source), source.config.num_hidden_layers)
    found = []
    if source.rope.factors is not None:
        found.append(Entry("rope_freqs.weight", source.rope.factors.shape, Type.F32))
    for name, stored in source.base.tensors.items():
        if name == "lm_head.weight" and source.base.tied:
            continue
        renamed = table.get_name(name, try_suffixes=(".weight",))
        if renamed is None:
            raise ConfigurationError(
                f"{name} has no name in llama.cpp's {source.architecture}; expected a plain model."
            )
        heads = _heads(source, renamed)
        found.append(Entry(renamed, stored.shape, _kind(stored.shape, wanted), stored, heads))
    return found


def _arch(source: Source) -> Any:
    return next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == source.architecture)


def _kind(shape: tuple[int, ...], wanted: str) -> Any:
    kind = TYPES[wanted][0]
    if len(shape) == 1:
        return Type.F32
    return kind if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else Type.F16


def _heads(source: Source, name: str) -> int | None:
    if source.architecture != "llama":
        return None
    if name.endswith("attn_q.weight"):
        return int(source.config.num_attention_heads)
    return int(source.config.num_key_value_heads) if name.endswith("attn_k.weight") else None


def write_gguf(source: Source, path: Path, wanted: str) -> list[Entry]:
    """The file at `path` in one of `TYPES`; gives back what is in it.

    `ConfigurationError` for values that the type cannot hold.
    """
    logging.getLogger("gguf.gguf_writer").setLevel(logging.WARNING)
    listed = entries(source, wanted)
    writer = gguf.GGUFWriter(path, source.architecture)
    _metadata(writer, source)
    writer.add_file_type(TYPES[wanted][1])
    if wanted == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _tokens(writer, source.vocabulary)
    for entry in listed:
        # The shape is that of the values, whatever the type packs them into.
        writer.add_tensor_info(
            entry.name, entry.shape, np.dtype(np.float32), entry.size, entry.kind
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for data in _values(source, listed):
            writer.write_tensor_data(data)
    finally:
        writer.close()
    return listed


def _metadata(writer: Any, source: Source) -> None:
    config, rope, head = source.config, source.rope, _head(source.config)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(source.name)
    writer.add_license(source.base.card.licence)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(rope.theta)
    if rope.kind:
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope.kind))
        writer.add_rope_scaling_factor(rope.factor)
        if rope.original_context:
            writer.add_rope_scaling_orig_ctx_len(rope.original_context)


def _tokens(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    for name, index in vocabulary.ids.items():
        getattr(writer, f"add_{_IDS[name]}_token_id")(index)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_chat_template(vocabulary.chat_template)


def _values(source: Source, listed: list[Entry]) -> Iterator[NDArray[Any]]:
    for entry in listed:
        if entry.stored is None:
            assert source.rope.factors is not None
            yield source.rope.factors
            continue
        value = entry.stored.read()
        if entry.heads:
            value = permuted(value, entry.heads)
        yield encoded(value, entry)


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head from halves to neighbours: [a0 a1 .. b0 b1 ..] to [a0 b0 a1 b1 ..]."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def encoded(value: torch.Tensor, entry: Entry) -> NDArray[Any]:
    """The bytes of one tensor in the entry's type."""
    if entry.kind == Type.BF16:
        raw: NDArray[Any] = value.bfloat16().contiguous().view(torch.int16).numpy()
        return raw
    plain: NDArray[Any] = value.float().contiguous().numpy()
    if entry.kind == Type.F32:
        return plain
    with np.errstate(over="ignore"):
        packed: NDArray[Any] = quantize(plain, entry.kind)
    if entry.kind == Type.F16 and not np.isfinite(packed).all():
        raise ConfigurationError(
            f"{entry.name} holds values that f16 cannot; expected at most 65,504; use --type bf16 "
            "or q8_0."
        )
    return packed


def kinds(listed: list[Entry]) -> Mapping[str, int]:
    """How many tensors there are of each type."""
    found: dict[str, int] = {}
    for entry in listed:
        found[entry.kind.name] = found.get(entry.kind.name, 0) + 1
    return found
