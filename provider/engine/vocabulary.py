"""What the engine must know of a tokenizer: bytes of a token, end tokens, llguidance's view."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from provider.engine.loops import TokenClasses

if TYPE_CHECKING:
    from llguidance import LLTokenizer
    from transformers import PreTrainedTokenizerFast


class Tokenizer(Protocol):
    """What is needed of `provider.engine.chat.ChatTokenizer`."""

    @property
    def hf(self) -> PreTrainedTokenizerFast: ...
    @property
    def eos_ids(self) -> frozenset[int]: ...
    @property
    def special_ids(self) -> frozenset[int]: ...
    @property
    def vocab_size(self) -> int: ...
    def token_bytes(self, token: int) -> bytes: ...


class Vocabulary:
    """A tokenizer as the engine sees it. `size` is the number of logits, often more than tokens."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._grammar: LLTokenizer | None = None
        self.size = size
        self.known = min(size, tokenizer.vocab_size)
        self.eos = tokenizer.eos_ids

    @property
    def grammar(self) -> LLTokenizer:
        """llguidance's tokenizer, made once (about a second for 100,000 tokens).

        It is the one of Outlines' llguidance backend, which would rebuild it for every generator.
        """
        with self._lock:
            if self._grammar is None:
                self._grammar = self._make_grammar()
            return self._grammar

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """Bytes of each token; control tokens and ids without a token have none."""
        hidden = self._tokenizer.special_ids | self.eos
        return [
            b"" if i in hidden or i >= self.known else self._tokenizer.token_bytes(i)
            for i in range(self.size)
        ]

    @cached_property
    def token_classes(self) -> TokenClasses:
        """Tokens by how they close JSON, for the loop guard; made when a first answer loops."""
        return TokenClasses(self.token_bytes)

    def _make_grammar(self) -> LLTokenizer:
        hf = self._tokenizer.hf
        if self.eos != {hf.eos_token_id}:
            from llguidance.hf import from_tokenizer

            return from_tokenizer(hf, eos_token=sorted(self.eos))
        from outlines.backends.llguidance import LLGuidanceBackend
        from outlines.models import Transformers

        steerable = Transformers.__new__(Transformers)
        steerable.hf_tokenizer = hf  # type: ignore[assignment]
        steerable.tensor_library_name = "torch"
        return LLGuidanceBackend(steerable).llg_tokenizer  # type: ignore[no-any-return]
