"""A constraint on one answer: which tokens may come next, and which must.

llguidance does the parsing. A grammar is compiled once and kept (`GrammarCache`); every answer gets
a matcher of its own. What the grammar forces is taken as it is, in the tokens in which the
tokenizer would write it, without asking the model.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from provider.engine.native.kernels import BLOCK
from provider.errors import InvalidRequest, ServerError
from provider.protocol.schema.constraint import parser_limits

if TYPE_CHECKING:
    from provider.protocol.schema.constraint import Matcher

Blocks = NDArray[np.int64]
"""Numbers of blocks of 64 tokens, rising."""


class Grammar(Protocol):
    """What the engine needs of `provider.protocol.schema.Constraint`."""

    @property
    def grammar(self) -> str:
        """llguidance grammar text."""

    @property
    def key(self) -> str:
        """Equal keys mean equal grammars."""

    def guard(self, matcher: LLMatcher, tokenizer: LLTokenizer) -> Matcher:
        """The matcher with what the grammar alone cannot tell (equal items)."""


class GrammarCache:
    """Compiled grammars, the least recently used ones forgotten. Safe to call from any thread."""

    def __init__(self, tokenizer: LLTokenizer, limit: int = 128) -> None:
        self._tokenizer = tokenizer
        self._limit = limit
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def holds(self, constraint: Grammar) -> bool:
        """Whether `matcher` has nothing to compile."""
        return constraint.key in self._compiled

    def matcher(self, constraint: Grammar) -> Matcher:
        """A fresh matcher. Raises InvalidRequest for a grammar that llguidance does not take."""
        return constraint.guard(self._fresh(constraint), self._tokenizer)

    def _fresh(self, constraint: Grammar) -> LLMatcher:
        with self._lock:
            if (found := self._compiled.get(constraint.key)) is not None:
                self._compiled.move_to_end(constraint.key)
                self.hits += 1
                return found.deep_copy()
        compiled = LLMatcher(
            self._tokenizer, constraint.grammar, log_level=0, limits=parser_limits()
        )
        if compiled.is_error():
            raise InvalidRequest(
                f"The output format cannot be enforced: {compiled.get_error()}",
                param="response_format",
            )
        with self._lock:
            self.misses += 1
            self._compiled[constraint.key] = compiled
            while len(self._compiled) > self._limit:
                self._compiled.popitem(last=False)
            return compiled.deep_copy()


class ConstraintState:
    """The constraint of one answer, as far as it has been written.

    `mask` has one bit per token of the tokenizer, lowest first; it is one buffer for the answer's
    whole life. Logits beyond it belong to no token and are never allowed.
    """

    def __init__(self, matcher: Matcher, tokenizer: LLTokenizer) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer
        blocks = np.zeros(-(-tokenizer.vocab_size // BLOCK), dtype=np.uint64)
        self._blocks = blocks
        self._words = blocks.view(np.int32)[: -(-tokenizer.vocab_size // 32)]
        self.mask: NDArray[np.uint8] = self._words.view(np.uint8)

    @property
    def complete(self) -> bool:
        """Whether nothing may follow but the end."""
        return bool(self._matcher.is_stopped())

    def accept(self, token: int) -> None:
        """Takes a token that the mask allowed. Raises ServerError if the grammar does not."""
        if not self._matcher.consume_token(token):
            raise ServerError(f"The output format failed: {self._matcher.get_error()}")

    def forced(self) -> list[int]:
        """Tokens that must come next; they are accepted by this call."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens and not self._matcher.consume_tokens(tokens):
            raise ServerError(f"The output format failed: {self._matcher.get_error()}")
        return tokens

    def likely(self) -> list[int]:
        """Tokens of the text that must come next; the last ones might still be written otherwise
        (a longer token may begin with them), so they are a guess."""
        text: bytes = self._matcher.compute_ff_bytes()
        return self._tokenizer.tokenize_bytes(text) if text else []

    def allows(self, tokens: list[int]) -> int:
        """How many first tokens of `tokens` may come next."""
        return int(self._matcher.validate_tokens(tokens)) if tokens else 0

    def permits(self, token: int) -> bool:
        """What the mask's bit for one token would be, at a hundredth of the mask's cost."""
        if token >= self._tokenizer.vocab_size:
            return False  # llguidance would call it an error of the grammar
        return bool(self._matcher.validate_tokens([token]))

    def blocks_ahead(self, tokens: Sequence[int], most: int) -> list[Blocks | None]:
        """In which blocks of 64 tokens those lie that may come next: now, and after each of
        `tokens`, which the grammar allows. None where it is all or more than `most` of them.
        Overwrites `mask`.
        """
        found: list[Blocks | None] = [self._few_blocks(most)]
        taken = 0
        for token in tokens:
            if not self._matcher.consume_token(token):
                break
            taken += 1
            if self._matcher.is_stopped():
                break
            found.append(self._few_blocks(most))
        if taken and not self._matcher.rollback(taken):
            raise ServerError(f"The output format failed: {self._matcher.get_error()}")
        return found + [None] * (1 + len(tokens) - len(found))

    def _few_blocks(self, most: int) -> Blocks | None:
        self.compute_mask()
        blocks = np.flatnonzero(self._blocks)
        return blocks if 0 < blocks.shape[0] <= most else None

    def compute_mask(self) -> None:
        """Fills `mask` for the next token. Runs without the interpreter's lock."""
        self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        if self._matcher.is_error():
            raise ServerError(f"The output format failed: {self._matcher.get_error()}")
