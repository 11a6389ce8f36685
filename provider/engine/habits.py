"""What usually follows which last tokens in answers of one format, and how reliably it did."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from itertools import islice

LENGTHS = (6, 4, 2)
"""How many last tokens make a context: the longest one is asked first."""

_COPY = 2
"""How many last tokens tell whether copying from what was read before is right."""

FIRST = 0.5
"""How likely something is to follow again that has followed once."""

FIELD = 0.8
"""How likely the value of a key is what the prompt's record has, until that has been seen."""


class Habits:
    """Learns token by token from all answers of a format; holds at most `limit` contexts.

    A context knows the token that followed last and a running average of how often that came
    again; a token that is mostly wrong gives way to the one that came instead. `names` are the
    prompts' keys for keys of the format (`provider.engine.fields`).
    """

    def __init__(self, limit: int = 16_384) -> None:
        self._limit = limit
        self._known: dict[int, tuple[int, float]] = {}
        self.names: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, tokens: Sequence[int], at: int) -> None:
        """Takes note that `tokens[at]` followed the tokens before it."""
        token = tokens[at]
        for length in LENGTHS:
            if at < length:
                continue
            context = hash(tuple(tokens[at - length : at]))
            expected, likely = self._known.get(context, (token, -1.0))
            if likely < 0:
                likely = FIRST
            elif expected == token:
                likely += 0.4 * (1 - likely)
            elif likely < 2 * FIRST / 3:
                expected, likely = token, FIRST
            else:
                likely *= 0.5
            self._known[context] = expected, likely
        if len(self._known) > self._limit:
            self._known = dict(islice(self._known.items(), self._limit // 2, None))
        if len(self.names) > self._limit:
            self.names.clear()

    def learn_copy(self, tokens: Sequence[int], at: int, right: bool) -> None:
        """Takes note whether `tokens[at]` is what followed in the answer's own earlier text."""
        context = _copying(tokens[max(0, at - _COPY) : at])
        _, likely = self._known.get(context, (0, 0.6))
        self._known[context] = 0, likely + 0.25 * (right - likely)

    def trust(self, tokens: Sequence[int]) -> float | None:
        """How likely an answer's own earlier text goes on the same after `tokens`."""
        found = self._known.get(_copying(tokens[-_COPY:]))
        return None if found is None else found[1]

    def learn_field(self, context: Hashable, right: bool) -> None:
        """Takes note whether a value went on in this context as it was in the prompt."""
        known = hash((-2, context))
        _, likely = self._known.get(known, (0, FIELD))
        self._known[known] = 0, likely + 0.25 * (right - likely)

    def trust_field(self, context: Hashable) -> float:
        """How likely a value goes on in this context as it was in the prompt."""
        found = self._known.get(hash((-2, context)))
        return FIELD if found is None else found[1]

    def next(self, tokens: Sequence[int]) -> tuple[int, float] | None:
        """The token that should follow `tokens` and how likely it is; None in new contexts."""
        for length in LENGTHS:
            if len(tokens) >= length:
                found = self._known.get(hash(tuple(tokens[-length:])))
                if found is not None:
                    return found
        return None


def _copying(tokens: Sequence[int]) -> int:
    return hash((-1, *tokens))


class History:
    """Habits by format (constraint and adapter); the least recently used formats are forgotten."""

    def __init__(self, formats: int = 16) -> None:
        self._formats = formats
        self._habits: OrderedDict[tuple[str, int], Habits] = OrderedDict()

    def habits(self, key: tuple[str, int]) -> Habits:
        """Those of a format; empty ones at its first answer."""
        found = self._habits.get(key)
        if found is None:
            found = self._habits[key] = Habits()
            while len(self._habits) > self._formats:
                self._habits.popitem(last=False)
        self._habits.move_to_end(key)
        return found

    def __len__(self) -> int:
        return len(self._habits)
