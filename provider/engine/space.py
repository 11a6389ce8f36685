"""Slots for answers: what they begin with, how they grow, what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence

from provider.engine.answer import Answer
from provider.engine.cache import KVCache, Slot
from provider.engine.prefix import SHORTEST, PrefixCache


class Space:
    """The KV cache as the scheduler uses it, kept prefixes included."""

    def __init__(self, cache: KVCache, prefixes: PrefixCache) -> None:
        self._cache = cache
        self._prefixes = prefixes

    @property
    def tokens(self) -> int:
        """Tokens of all slots that are held, kept prefixes included."""
        return self._cache.allocated

    @property
    def bytes(self) -> int:
        return self._cache.allocated_bytes

    @property
    def prefixes(self) -> int:
        return len(self._prefixes)

    def place(self, answer: Answer, running: Sequence[Answer]) -> bool:
        """Gives an answer a slot with what is known of its tokens; False if there is no room."""
        self._source(answer, running)  # marks the best prefix as used, so that it is evicted last
        slot = self._allocate(len(answer.tokens) + 1)
        if slot is None:
            return False
        answer.slot = slot
        source, length = self._source(answer, running)
        length = min(length, len(answer.tokens) - 1)
        if source is not None and length >= SHORTEST:
            slot.copy_from(source, length)
            answer.computed = length
        return True

    def soon_shared(self, answer: Answer, running: Sequence[Answer], worth: int) -> bool:
        """Whether a running answer is just computing a beginning that this one can then copy, and
        `worth` tokens of it or more cannot be copied yet."""
        rivals = [
            other
            for other in running
            if other.prefilling and other.adapter_key == answer.adapter_key
        ]
        if not rivals:
            return False
        coming = max(other.shared_prompt(answer) for other in rivals)
        return coming >= self._source(answer, running)[1] + worth

    def grow(self, answer: Answer, tokens: int) -> bool:
        """Makes an answer's slot hold `tokens` tokens; False if there is no room."""
        if answer.slot is None:
            return False
        if answer.slot.capacity >= tokens:
            return True
        slot = self._allocate(tokens)
        if slot is None:
            return False
        slot.copy_from(answer.slot, answer.computed)
        self._cache.free(answer.slot)
        answer.slot = slot
        return True

    def retire(self, answer: Answer) -> None:
        """Keeps what an answer has computed for those that begin alike."""
        if answer.slot is not None:
            slot, answer.slot = answer.slot, None
            self._prefixes.keep(answer.tokens[: answer.computed], slot, answer.adapter_key)

    def release(self, answer: Answer) -> None:
        """Takes an answer's slot away; it could start over from its tokens."""
        if answer.slot is not None:
            self._cache.free(answer.slot)
        answer.slot, answer.computed, answer.drafts = None, 0, []

    def forget(self, adapter_key: int) -> None:
        """Drops kept prefixes of an adapter that has gone."""
        self._prefixes.forget(adapter_key)

    def drop_prefixes(self) -> None:
        self._prefixes.clear()

    def _source(self, answer: Answer, running: Sequence[Answer]) -> tuple[Slot | None, int]:
        """The slot, of a finished or a running answer, that shares most with this answer."""
        key = answer.adapter_key
        kept = self._prefixes.find(answer.tokens, key)
        best, length = kept if kept is not None else (None, 0)
        for other in running:
            if other.adapter_key == key and other.slot is not None:
                shared = min(other.shared_prompt(answer), other.computed)
                if shared > length:
                    best, length = other.slot, shared
        return best, length

    def _allocate(self, tokens: int) -> Slot | None:
        """A slot, at the cost of kept prefixes if need be."""
        while (slot := self._cache.allocate(tokens)) is None:
            if not self._prefixes.evict():
                return None
        return slot
