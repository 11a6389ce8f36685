"""What bytes a token stands for.

Byte-level BPE (EXAONE, Llama 3, Qwen, Kanana) writes each byte as one printable character (GPT-2's
`bytes_to_unicode` table); SentencePiece-style BPE writes spaces as `▁` and unknown bytes as
`<0xE9>`. Added tokens are their own text. A Hangul syllable is three bytes and is often split over
tokens, so tokens have bytes, not characters.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tokenizers import Tokenizer

from provider.errors import ConfigurationError

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 stands for itself, the rest is moved above U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + index): byte for index, byte in enumerate(moved)}


class TokenBytes:
    """Bytes by token id; empty for ids outside the vocabulary.

    `ConfigurationError` for a tokenizer that is neither byte-level nor SentencePiece-style.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder()
        read = _reader(json.loads(tokenizer.to_str()))
        self._bytes = {
            token: text.encode() if token in added else read(text)
            for text, token in tokenizer.get_vocab(with_added_tokens=True).items()
        }

    def __getitem__(self, token: int) -> bytes:
        return self._bytes.get(token, b"")


def _reader(source: dict[str, Any]) -> Any:
    kinds = set(_kinds(source.get("decoder"))) | set(_kinds(source.get("pre_tokenizer")))
    if "ByteLevel" in kinds:
        return _read_byte_level
    if kinds & {"ByteFallback", "Metaspace"}:
        return _read_sentencepiece
    raise ConfigurationError(
        f"The tokenizer's decoder is {sorted(kinds) or None}; expected a byte-level or "
        "SentencePiece-style BPE tokenizer; choose a model with one."
    )


def _kinds(node: Any) -> list[str]:
    """The types of a component and of all that it is composed of."""
    if isinstance(node, list):
        return [kind for part in node for kind in _kinds(part)]
    if not isinstance(node, dict):
        return []
    parts = [_kinds(node.get(key)) for key in ("decoders", "pretokenizers")]
    return [str(node.get("type")), *parts[0], *parts[1]]


_ALPHABET = _byte_alphabet()


def _read_byte_level(text: str) -> bytes:
    if all(character in _ALPHABET for character in text):
        return bytes(_ALPHABET[character] for character in text)
    return text.encode()


def _read_sentencepiece(text: str) -> bytes:
    fallback = _BYTE_FALLBACK.fullmatch(text)
    return bytes([int(fallback[1], 16)]) if fallback else text.replace("▁", " ").encode()
