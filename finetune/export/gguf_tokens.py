"""A byte-level BPE tokenizer as llama.cpp reads it: tokens, kinds, merges and how text is split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from provider.engine.chat import ChatTokenizer, declared_eos
from provider.engine.exaone import CHAT_TEMPLATE
from provider.engine.model_card import read_json
from provider.errors import ConfigurationError

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_SPLITS = {
    ("digits", "bytes and words"): "exaone",
    (r"\p{N}", "bytes and words"): "exaone",
    ("bytes and words",): "gpt-2",
    (_LLAMA3, "bytes"): "llama-bpe",
    (_QWEN2, "bytes"): "qwen2",
}
"""How text is split before merges, and llama.cpp's name for it."""


@dataclass(frozen=True)
class Vocabulary:
    """`ids` are bos, eos, eot, pad and unk, as far as the model has them."""

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    split: str
    ids: Mapping[str, int]
    adds_bos: bool
    chat_template: str
    stops: tuple[str, ...]

    @property
    def is_exaone(self) -> bool:
        return {"[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"} <= set(self.tokens)


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The tokenizer in `folder`, filled up to the model's `size` with unused tokens.

    `ConfigurationError` for a tokenizer that is not byte-level BPE or splits text in a way that
    llama.cpp has no name for: it would read other tokens than the model was trained on.
    """
    stated = read_json(folder / "tokenizer.json")
    tokenizer = ChatTokenizer.load(folder, declared_eos(folder), CHAT_TEMPLATE)
    model = stated["model"]
    if model.get("type") != "BPE":
        raise _unknown(folder, f"is of type {model.get('type')}")
    split = _SPLITS.get(tuple(_steps(stated.get("pre_tokenizer"))))
    if split is None:
        raise _unknown(folder, f"splits text by {_steps(stated.get('pre_tokenizer'))}")
    tokens, kinds = _tokens(stated, size)
    hf = tokenizer.hf
    ends = [hf.convert_ids_to_tokens(index) for index in sorted(tokenizer.eos_ids)]
    return Vocabulary(
        tokens,
        kinds,
        [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        split,
        _ids(folder, tokenizer),
        bool(hf.bos_token) and hf("a")["input_ids"][:1] == [hf.bos_token_id],
        tokenizer.chat_template,
        tuple(str(token) for token in ends if token),
    )


def _unknown(folder: Path, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The tokenizer in {folder} {what}; expected byte-level BPE as EXAONE-3.x, Llama 3 or "
        "Qwen have it; use llama.cpp's own converter for another family."
    )


def _steps(stated: Any) -> list[str]:
    """A pre-tokenizer's steps in words of `_SPLITS`."""
    if not isinstance(stated, dict):
        return []
    kind = stated.get("type")
    if kind == "Sequence":
        return [step for part in stated["pretokenizers"] for step in _steps(part)]
    if kind == "Digits" and stated.get("individual_digits"):
        return ["digits"]
    if kind == "Split" and stated.get("behavior") == "Isolated" and not stated.get("invert"):
        pattern = stated["pattern"]
        return [str(pattern.get("Regex") or pattern.get("String"))]
    if kind == "ByteLevel" and not stated.get("add_prefix_space"):
        return ["bytes and words" if stated.get("use_regex", True) else "bytes"]
    return [str(kind)]


def _tokens(stated: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    by_id = {index: token for token, index in stated["model"]["vocab"].items()}
    added = {token["id"]: token for token in stated["added_tokens"]}
    by_id |= {index: token["content"] for index, token in added.items()}
    if max(by_id) >= size:
        raise ConfigurationError(
            f"The tokenizer has a token of id {max(by_id)}, the model {size} of them; expected "
            "both from one model; put the model's own tokenizer into the folder."
        )
    kinds = []
    for index in range(size):
        kind = gguf.TokenType.NORMAL if index in by_id else gguf.TokenType.UNUSED
        if index in added:
            special = added[index]["special"]
            kind = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
        kinds.append(int(kind))
    return [by_id.get(index, f"[PAD{index}]") for index in range(size)], kinds


def _ids(folder: Path, tokenizer: ChatTokenizer) -> dict[str, int]:
    hf = tokenizer.hf
    declared = [*declared_eos(folder), hf.eos_token_id]
    ends = tokenizer.eos_ids - set(declared)
    found = {
        "bos": hf.bos_token_id,
        "eos": next((index for index in declared if index is not None), None),
        "eot": min(ends) if ends else hf.eos_token_id,
        "pad": hf.pad_token_id,
        "unk": hf.unk_token_id,
    }
    return {name: int(index) for name, index in found.items() if index is not None}
