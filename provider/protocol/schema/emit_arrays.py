"""Arrays to grammar."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from provider.protocol.schema.arrays import Arrays, Count
from provider.protocol.schema.emit import CLOSE_BRACKET, COMMA, OPEN_BRACKET, Emitter
from provider.protocol.schema.emit_unique import listed, unique_items
from provider.protocol.schema.formula import FALSE, Formula, every, negate
from provider.protocol.schema.grammar import (
    EMPTY_TEXT,
    NOTHING,
    Symbol,
    choice,
    optional,
    repeated,
    sequence,
)
from provider.protocol.schema.limits import MAX_OPTIONAL
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.shape import TooManyAlternatives

_STATES = 4_000
_NESTED = 16


def array(emitter: Emitter, arrays: Arrays) -> Symbol:
    members = listed(emitter.values, arrays) if arrays.unique else None
    if members is not None:
        body = unique_items(emitter, arrays, members)
    elif arrays.unique:
        with emitter.compared():
            return array(emitter, replace(arrays, unique=False))
    elif not arrays.counts:
        body = _sequence(emitter, arrays)
    elif _one_anywhere(arrays):
        body = _with_one(emitter, arrays, arrays.counts[0])
    else:
        body = _Counted(emitter, arrays).all()
    return sequence([OPEN_BRACKET, body, CLOSE_BRACKET])


def _sequence(emitter: Emitter, arrays: Arrays) -> Symbol:
    """The prefix, one item after the other, then as many of the rest as the bounds allow."""
    width = len(arrays.prefix)
    if width - arrays.low > MAX_OPTIONAL:
        raise SchemaRefused(
            "prefixItems",
            "",
            f"it has more than {MAX_OPTIONAL} optional places.",
            mend="Set 'minItems', or use 'items'.",
        )
    low = max(arrays.low - width, 0)
    high = None if arrays.high is None else arrays.high - width
    if arrays.rest == FALSE:
        high = 0
    body = _many(emitter, arrays.rest, low, high, leading=width > 0)
    for at in range(width - 1, -1, -1):
        item = emitter.rule(arrays.prefix[at])
        body = sequence([*([COMMA] if at else []), item, body])
        if at >= arrays.low:
            body = optional(body)
            if at % _NESTED == 0:  # Lark takes no more than a hundred parentheses in a row
                rule = emitter.grammar.reserve()
                emitter.grammar.define(rule, body)
                body = rule
    return body


def _many(emitter: Emitter, item: Formula, low: int, high: int | None, leading: bool) -> Symbol:
    """`low` to `high` items, each after a comma but the first, unless `leading`."""
    if high == 0:
        return EMPTY_TEXT if low == 0 else NOTHING
    rule = emitter.rule(item)
    more = sequence([COMMA, rule])
    if leading:
        return repeated(more, low, high)
    rest = repeated(more, max(low - 1, 0), None if high is None else high - 1)
    return sequence([rule, rest]) if low else optional(sequence([rule, rest]))


def _one_anywhere(arrays: Arrays) -> bool:
    """At least one item of a kind, and nothing else is said about number or place."""
    count = arrays.counts[0]
    return (
        len(arrays.counts) == 1
        and (count.low, count.high, count.start) == (1, None, 0)
        and not arrays.prefix
        and arrays.low <= 1
        and arrays.high is None
    )


def _with_one(emitter: Emitter, arrays: Arrays, count: Count) -> Symbol:
    any_item = emitter.rule(arrays.rest)
    hit = emitter.rule(every(arrays.rest, count.item))
    before = repeated(sequence([any_item, COMMA]), 0, None)
    return sequence([before, hit, repeated(sequence([COMMA, any_item]), 0, None)])


class _Counted:
    """Items from index `at` on, when so many of each counted kind have come before.

    Index and counts are only followed as far as a bound can still tell the difference.
    """

    def __init__(self, emitter: Emitter, arrays: Arrays) -> None:
        self.emitter = emitter
        self.arrays = arrays
        bounds = [arrays.low, arrays.high or 0, len(arrays.prefix)]
        self.horizon = max([*bounds, 1, *(c.start for c in arrays.counts)])
        self.most = [c.low if c.high is None else c.high for c in arrays.counts]
        states = self.horizon
        for most in self.most:
            states *= most + 1
        if states > _STATES or len(arrays.counts) > 3:
            raise TooManyAlternatives
        self._rules: dict[tuple[int, tuple[int, ...]], Symbol] = {}
        self._waiting: list[tuple[int, tuple[int, ...]]] = []

    def all(self) -> Symbol:
        """All items, from the first on; defines the rules that they need."""
        found = self._after(0, (0,) * len(self.most))
        while self._waiting:
            key = self._waiting.pop()
            self.emitter.grammar.define(self._rules[key], self._body(*key))
        return found

    def _after(self, at: int, counts: tuple[int, ...]) -> Symbol:
        key = (at, counts)
        found = self._rules.get(key)
        if found is None:
            found = self._rules[key] = self.emitter.grammar.reserve()
            self._waiting.append(key)
        return found

    def _body(self, at: int, counts: tuple[int, ...]) -> Symbol:
        options = []
        done = all(n >= c.low for n, c in zip(counts, self.arrays.counts, strict=True))
        if done and at >= self.arrays.low:
            options.append(EMPTY_TEXT)
        if self.arrays.high is None or at < self.arrays.high:
            options += self._steps(at, counts)
        return choice(options)

    def _steps(self, at: int, counts: tuple[int, ...]) -> list[Symbol]:
        active = [i for i, c in enumerate(self.arrays.counts) if at >= c.start]
        following = at + 1 if self.arrays.high is not None else min(at + 1, self.horizon)
        steps = []
        for hits in product((True, False), repeat=len(active)):
            after = list(counts)
            item = self.arrays.item(at)
            for i, hit in zip(active, hits, strict=True):
                kind = self.arrays.counts[i]
                item = every(item, kind.item if hit else negate(kind.item))
                after[i] += hit
                if after[i] > self.most[i]:
                    after[i] = self.most[i] if kind.high is None else -1
            if min(after, default=0) >= 0 and item != FALSE:
                lead = [COMMA] if at else []
                rest = self._after(following, tuple(after))
                steps.append(sequence([*lead, self.emitter.rule(item), rest]))
        return steps
