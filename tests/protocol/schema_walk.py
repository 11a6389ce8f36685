"""Random texts that a constraint allows, written byte by byte."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from llguidance import LLTokenizer

if TYPE_CHECKING:
    from provider.protocol.schema.constraint import Matcher

_CLOSERS = b'"}],:0'
_END = 256


def walk(matcher: Matcher, tokenizer: LLTokenizer, seed: int, limit: int = 300) -> str | None:
    """One text, or None when it has not ended after `limit` bytes.

    Raises AssertionError where the mask leaves nothing to write: a dead end.
    """
    chooser = random.Random(seed)
    written = bytearray()
    for _ in range(limit):
        mask = matcher.compute_bitmask()
        assert not matcher.is_error(), matcher.get_error()
        allowed = [t for t in range(_END + 1) if mask[t >> 3] >> (t & 7) & 1]
        assert allowed, f"nothing may follow {bytes(written)!r}"
        token = _choose(chooser, allowed)
        if token == _END:
            return written.decode()
        assert matcher.consume_token(token)
        written.append(token)
    return None


def _choose(chooser: random.Random, allowed: list[int]) -> int:
    """Closing something is preferred, so that texts end."""
    ending = [t for t in allowed if t == _END or (t < _END and t in _CLOSERS)]
    if ending and chooser.random() < 0.5:
        return chooser.choice(ending)
    plain = [t for t in allowed if t == _END or 0x20 <= t < 0x7F]
    return chooser.choice(plain or allowed)
