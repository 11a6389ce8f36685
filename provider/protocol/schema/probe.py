"""Whether llguidance takes a grammar: it is built once, over single bytes, and asked for a mask.

Its own `validate_grammar` does not see all of its limits (65,525 symbols, 2,000 items in a row);
exceeding them would only show in the middle of an answer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLTokenizer


class _Bytes:
    """The least vocabulary: every byte, and an end of text."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([b]) for b in range(256)), b"<|end|>")
    special_token_ids = (256,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


@lru_cache(maxsize=1)
def byte_tokenizer() -> LLTokenizer:
    """A tokenizer whose tokens are the 256 bytes; 256 ends the text."""
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Bytes()))


def problem(grammar: str) -> str:
    """Why llguidance does not take the grammar, in one line; empty when it does."""
    from llguidance import LLMatcher

    matcher = LLMatcher(byte_tokenizer(), grammar, log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()
    return str(matcher.get_error()).split("\n")[0][:300] if matcher.is_error() else ""
