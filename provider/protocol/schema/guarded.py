"""A matcher whose arrays have distinct items where the schema asks for it.

llguidance's matcher knows the grammar; this one reads along (`distinct.Reading`) and takes away the
tokens that would repeat an item, or that would leave only items that were there before. It has the
methods of `llguidance.LLMatcher`, with the same meaning.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from provider.protocol.schema.distinct import Reading
from provider.protocol.schema.opening import Follower

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_LISTED = 512
_KEPT = 64
_SEARCH = 400


class Tokens:
    """The bytes of a tokenizer's tokens, and which of them can complete an item."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self.size = tokenizer.vocab_size
        self.texts = [
            b"" if tokenizer.is_special_token(t) else tokenizer.decode_bytes([t])
            for t in range(self.size)
        ]
        self.longest = max(map(len, self.texts), default=0)
        quoting, ending, opening = bytearray(), bytearray(), bytearray()
        for at in range(0, self.size, 8):
            group = self.texts[at : at + 8]
            quoting.append(_bits(b'"' in t for t in group))
            ending.append(_bits(_may_end(t) for t in group))
            opening.append(_bits(b"[" in t and len(t) > 2 for t in group))
        self.quoting, self.ending, self.opening = (
            int.from_bytes(m, "little") for m in (quoting, ending, opening)
        )
        self._by_first: dict[int, list[int]] = {}
        for token, text in enumerate(self.texts):
            if text:
                self._by_first.setdefault(text[0], []).append(token)

    def beginning(self, first: int) -> int:
        """How many tokens begin with this byte."""
        return len(self._by_first.get(first, ()))

    def within(self, rest: bytes) -> list[int]:
        """Tokens with which `rest` begins."""
        return [t for t in self._by_first.get(rest[0], ()) if rest.startswith(self.texts[t])]


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << at for at, flag in enumerate(flags) if flag)


def _may_end(text: bytes) -> bool:
    return any(c in text for c in b'",]}') or text[-1:] in (b"e", b"l")


@lru_cache(maxsize=8)
def tokens_of(tokenizer: LLTokenizer) -> Tokens:
    return Tokens(tokenizer)


class GuardedMatcher:
    """`LLMatcher` with distinct items; see there for the meaning of each method."""

    def __init__(self, matcher: LLMatcher, tokenizer: LLTokenizer, follower: Follower) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._tokens = tokens_of(tokenizer)
        self._start = follower
        self._followers = [follower]
        """After each of the last tokens; with the one before them."""
        self._taken: list[int] = []
        self._error = ""

    @property
    def _reading(self) -> Reading | None:
        return self._followers[-1].reading

    def deep_copy(self) -> GuardedMatcher:
        other = GuardedMatcher(self._matcher.deep_copy(), self._tokenizer, self._followers[-1])
        other._start = self._start
        other._followers = list(self._followers)
        other._taken = list(self._taken)
        other._error = self._error
        return other

    def is_error(self) -> bool:
        return bool(self._error) or self._matcher.is_error()

    def get_error(self) -> str:
        return self._error or self._matcher.get_error()

    def is_accepting(self) -> bool:
        return not self._error and self._matcher.is_accepting()

    def is_stopped(self) -> bool:
        return bool(self._error) or self._matcher.is_stopped()

    def stop_reason(self) -> str:
        return "InternalError" if self._error else self._matcher.stop_reason()

    def get_grammar_warnings(self) -> list[str]:
        return self._matcher.get_grammar_warnings()

    def get_capture(self, name: str) -> bytes | None:
        return self._matcher.get_capture(name)

    def get_captures(self) -> list[tuple[str, bytes]]:
        return self._matcher.get_captures()

    def consume_token(self, sampled_token: int) -> bool:
        if self._error:
            return False
        follower = self._followers[-1]
        after = self._after(follower, sampled_token)
        if after is None or not self._open_end(self._matcher, after, sampled_token):
            self._error = "the token repeats an item of an array whose items must differ"
            return False
        if not self._matcher.consume_token(sampled_token):
            return False
        self._taken.append(sampled_token)
        self._followers.append(after)
        if len(self._followers) > _KEPT:
            del self._followers[: _KEPT // 2]
        return True

    def consume_tokens(self, sampled_tokens: list[int]) -> bool:
        return all(self.consume_token(t) for t in sampled_tokens)

    def try_consume_tokens(self, tokens: list[int]) -> int:
        taken = self.validate_tokens(tokens)
        self.consume_tokens(tokens[:taken])
        return taken

    def validate_tokens(self, tokens: list[int]) -> int:
        if self._error:
            return 0
        taken = self._matcher.validate_tokens(tokens)
        if not self._followers[-1].relevant:
            return taken
        probe = self.deep_copy()
        for at, token in enumerate(tokens[:taken]):
            if not probe.consume_token(token):
                return at
        return taken

    def rollback(self, num_tokens: int) -> bool:
        if self._error or num_tokens > len(self._taken):
            return False
        if num_tokens:
            del self._taken[-num_tokens:]
            del self._followers[-num_tokens:]
        if not self._followers:
            self._read_again()
        return self._matcher.rollback(num_tokens)

    def _read_again(self) -> None:
        follower = self._start.copy()
        for token in self._taken:
            follower.feed(self._tokens.texts[token])
        self._followers = [follower]

    def reset(self) -> bool:
        self._taken, self._followers = [], [self._start]
        self._error = ""
        return self._matcher.reset()

    def compute_ff_tokens(self) -> list[int]:
        return [] if self._error else self._allowed_prefix(self._matcher.compute_ff_tokens())

    def _allowed_prefix(self, tokens: list[int]) -> list[int]:
        return tokens[: self.validate_tokens(tokens)] if tokens else tokens

    def compute_ff_bytes(self) -> bytes:
        return b"" if self._error else self._matcher.compute_ff_bytes()

    def compute_bitmask(self) -> bytes:
        mask = self._matcher.compute_bitmask()
        banned = self._banned(mask)
        if not banned:
            return mask
        changed = bytearray(mask)
        for token in banned:
            changed[token >> 3] &= ~(1 << (token & 7))
        return bytes(changed)

    def compute_logit_bias(self) -> bytes:
        bias = bytearray(self._matcher.compute_logit_bias())
        for token in self._banned(self._matcher.compute_bitmask()):
            bias[token] = 0
        return bytes(bias)

    def unsafe_compute_mask_ptr(self, trg_pointer: int, trg_byte_size: int) -> None:
        self._matcher.unsafe_compute_mask_ptr(trg_pointer, trg_byte_size)
        if not self._followers[-1].relevant:
            return
        words = (ctypes.c_ubyte * trg_byte_size).from_address(trg_pointer)
        for token in self._banned(bytes(words)):
            words[token >> 3] &= ~(1 << (token & 7))

    def _after(self, follower: Follower, token: int) -> Follower | None:
        """What has been read with one more token; None when it repeats an item."""
        text = self._tokens.texts[token]
        after = follower.copy()
        return after if after.feed(text) else None

    def _banned(self, mask: bytes) -> list[int]:
        """Tokens that the grammar allows and that must not come next."""
        follower = self._followers[-1]
        if self._error or not follower.relevant:
            return []
        allowed = int.from_bytes(mask, "little")
        found = []
        for token in self._suspects(follower, allowed):
            after = self._after(follower, token)
            if after is None or not self._open_end(self._matcher, after, token):
                found.append(token)
        return found

    def _suspects(self, follower: Follower, allowed: int) -> list[int]:
        """Tokens that may complete an item, or that go on like an earlier one."""
        reading = follower.reading
        if reading is None or not reading.watches:
            return _members(allowed & self._tokens.opening)
        risky = self._tokens.quoting if reading.in_string else self._tokens.ending
        found = _members(allowed & risky)
        rests = {
            text[len(written) : len(written) + self._tokens.longest]
            for frame, written in reading.partial()
            for text in frame.earlier(written)
        }
        more = (token for rest in rests if rest for token in self._tokens.within(rest))
        return list(dict.fromkeys([*found, *(t for t in more if allowed >> t & 1)]))

    def _open_end(self, before: LLMatcher, after: Follower, token: int) -> bool:
        """Whether after this token, something else than an earlier item can be written."""
        if not _repeats(after) or self._roomy(after):
            return True
        return _Search(self._tokens).open_end(before, after, token)

    def _roomy(self, after: Follower) -> bool:
        """Whether more tokens may follow than can go on like earlier items, as seen before at the
        same beginning of an item of the same array."""
        reading = after.reading
        partial = reading.partial() if reading is not None else []
        if len(partial) != 1:
            return False
        frame, written = partial[0]
        room = frame.rooms.get(written, 0)
        nexts = frame.continuations(written) if room else None
        return nexts is not None and room > sum(map(self._tokens.beginning, nexts))


def _repeats(follower: Follower) -> bool:
    """Whether what has been written of some item is the beginning of an earlier one."""
    reading = follower.reading
    return reading is not None and any(
        frame.earlier(written) for frame, written in reading.partial()
    )


def _members(bits: int) -> list[int]:
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return found


class _Search:
    """Looks for a way on that is not an earlier item, along the texts of the earlier ones."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._left = _SEARCH

    def open_end(self, before: LLMatcher, after: Follower, token: int) -> bool:
        """Whether there is one after this token."""
        matcher = before.deep_copy()
        if not matcher.consume_token(token):
            return True
        if matcher.is_accepting():
            return True
        reading = after.reading
        assert reading is not None
        allowed = int.from_bytes(matcher.compute_bitmask(), "little")
        for frame, written in reading.partial():
            if written and frame.site is not None and frame.site.even:
                frame.rooms[written] = allowed.bit_count()
        used = sum(len(f.texts) for f, _ in reading.partial())
        if allowed.bit_count() > _LISTED + 64 * used:
            return True
        inside = []
        for choice in _members(allowed):
            then = after.copy()
            if not then.feed(self._tokens.texts[choice]):
                continue
            if not _repeats(then):
                return True
            inside.append((choice, then))
        for choice, then in inside:
            self._left -= 1
            if self._left < 0 or self.open_end(matcher, then, choice):
                return True
        return False
