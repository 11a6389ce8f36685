"""Whether a grammar can write a JSON value: in any order of members, in any plain notation.

The judge is a matcher over single bytes, so that no tokenizer has a say. Every order of an
object's members is tried until one is taken, within a bound on the steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from llguidance import LLMatcher, LLTokenizer

from provider.protocol.schema import Constraint

if TYPE_CHECKING:
    from provider.protocol.schema.constraint import Matcher


class OutOfSteps(Exception):
    """The search for an accepted order of members was given up."""


class Judge:
    """Asks one grammar about values and texts."""

    def __init__(
        self, grammar: str | Constraint, tokenizer: LLTokenizer, steps: int = 20_000
    ) -> None:
        if isinstance(grammar, str):
            self.matcher: Matcher = LLMatcher(tokenizer, grammar, log_level=0)
        else:
            self.matcher = grammar.matcher(tokenizer)
        self._steps = self._left = steps

    def accepts(self, value: Any) -> bool:
        """Some text of `value` is complete under the grammar. Raises `OutOfSteps`."""
        self._left = self._steps
        try:
            for length in self._write(value):
                if self.matcher.is_accepting():
                    self.matcher.rollback(length)
                    return True
        except OutOfSteps:
            self.matcher.reset()
            raise
        return False

    def accepts_text(self, text: str) -> bool:
        accepted = False
        for _ in self._take(text):
            accepted = self.matcher.is_accepting()
        return accepted

    def _take(self, text: str) -> Iterator[int]:
        """Consume `text`; yields its length if all of it is allowed, and puts it back after."""
        self._left -= 1
        if self._left < 0:
            raise OutOfSteps
        data = text.encode("utf-8", "surrogatepass")
        if self.matcher.is_error():
            raise RuntimeError(self.matcher.get_error())
        taken = self.matcher.try_consume_tokens(list(data))
        if taken < len(data):
            if taken:
                self.matcher.rollback(taken)
            return
        yield taken
        self.matcher.rollback(taken)

    def _write(self, value: Any) -> Iterator[int]:
        if isinstance(value, dict):
            yield from self._then("{", lambda: self._members(list(value.items()), True))
        elif isinstance(value, list):
            yield from self._then("[", lambda: self._items(value, True))
        else:
            for text in _scalar_texts(value):
                yield from self._take(text)

    def _then(self, text: str, rest: Any) -> Iterator[int]:
        for length in self._take(text):
            for more in rest():
                yield length + more

    def _items(self, items: list[Any], first: bool) -> Iterator[int]:
        if not items:
            yield from self._take("]")
        elif first:
            yield from self._both(items[0], lambda: self._items(items[1:], False))
        else:
            yield from self._then(
                ",", lambda: self._both(items[0], lambda: self._items(items[1:], False))
            )

    def _both(self, value: Any, rest: Any) -> Iterator[int]:
        for length in self._write(value):
            for more in rest():
                yield length + more

    def _members(self, members: list[tuple[str, Any]], first: bool) -> Iterator[int]:
        if not members:
            yield from self._take("}")
            return
        for at, (name, value) in enumerate(members):
            others = members[:at] + members[at + 1 :]
            key = ("" if first else ",") + json.dumps(name, ensure_ascii=False) + ":"

            def rest(v: Any = value, o: Any = others) -> Iterator[int]:
                return self._both(v, lambda: self._members(o, False))

            yield from self._then(key, rest)


def _scalar_texts(value: Any) -> list[str]:
    """The notations of a scalar worth trying: as dumped, and numbers without an exponent."""
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return [text]
    exact = Fraction(text) if text[-1] != "y" and text != "NaN" else None
    texts = [text]
    if exact is not None:
        if exact.denominator == 1:
            texts += [str(exact.numerator), f"{exact.numerator}.0"]
        elif "e" in text:
            texts.append(f"{value:.400f}".rstrip("0"))
    return list(dict.fromkeys(texts))
