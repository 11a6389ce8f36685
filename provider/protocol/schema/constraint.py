"""A constraint on generated text: a grammar, its identity, and fresh matchers for it.

The grammar is immutable and shared; the matcher is the state of one answer and never is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    from provider.protocol.schema.guarded import GuardedMatcher
    from provider.protocol.schema.opening import Openings

    Matcher: TypeAlias = LLMatcher | GuardedMatcher

# Compact, and nothing else: a model that may write blanks can write them until its budget is gone.
COMPACT: dict[str, Any] = {
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_flexible": False,
}


@dataclass(frozen=True, slots=True)
class Constraint:
    """`grammar` is llguidance grammar text (Lark or its JSON form); `key` identifies what it
    enforces: equal keys, equal languages in the same order."""

    grammar: str
    key: str
    openings: Openings = field(default_factory=dict, compare=False, repr=False)
    """Where items must be compared, which the grammar alone cannot (`guarded`)."""

    def matcher(self, tokenizer: LLTokenizer) -> Matcher:
        """A matcher at the start of an answer; it has mutable state and serves one answer only.

        It never raises for what the model writes: ask `is_error()`.
        """
        from llguidance import LLMatcher

        matcher = LLMatcher(tokenizer, self.grammar, log_level=0, limits=parser_limits())
        return self.guard(matcher, tokenizer)

    def guard(self, matcher: LLMatcher, tokenizer: LLTokenizer) -> Matcher:
        """A fresh llguidance matcher of this grammar, made to compare items where it must."""
        if not self.openings:
            return matcher
        from provider.protocol.schema.guarded import GuardedMatcher
        from provider.protocol.schema.opening import Follower

        return GuardedMatcher(matcher, tokenizer, Follower(self.openings))


def parser_limits() -> LLParserLimits:
    """llguidance's limits, with room for schemas whose alternatives stay open for long (`oneOf`).

    Its default of 2,000 items in a row shows in the middle of an answer, when it is too late to
    refuse; ten times as many still take well under 20 ms for a mask.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_items_in_row=20_000, initial_lexer_fuel=20_000_000, step_lexer_fuel=1_000_000
    )


def digest(kind: str, text: str) -> str:
    """The key of a constraint of this kind with this source text."""
    return hashlib.sha256(f"{kind}\0{text}".encode()).hexdigest()


def canonical(schema: Any) -> str:
    """JSON text of a schema; key order is kept because it decides the order of the output."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
