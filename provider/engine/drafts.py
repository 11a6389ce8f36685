"""Guesses at the next tokens, checked by the model in the same step (prompt lookup decoding).

The last tokens of an answer are looked up in its prompt, in what it has written, in the client's
`prediction` and in what answers to the same format do (`provider.engine.habits`), the key of a JSON
value in the prompt's JSON (`provider.engine.fields`); what followed there is the draft. The model
then draws each token as it would have anyway, so drafts change when tokens come, never which.

How many guesses a step carries follows from what they cost here and now (`CostModel`) and from how
often such guesses were right, whether they were offered or not; where they do not pay there are
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from provider.engine.fields import Fields, Place
from provider.engine.habits import Habits

LENGTHS = (4, 2)
"""How many last tokens are looked up: the longer match first."""

LONGEST = 16
"""Most tokens of one draft."""

_PATIENCE = 48
"""Steps without a guess after which two are tried."""


class Lookup:
    """One token sequence, searchable by what it contains; later occurrences win."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens: list[int] = []
        self._places: list[dict[tuple[int, ...], int]] = [{} for _ in LENGTHS]
        self._indexed = 0
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Adds tokens to the end."""
        known = self.tokens
        known.extend(tokens)
        for length, places in zip(LENGTHS, self._places, strict=True):
            for end in range(max(length, self._indexed), len(known)):
                places[tuple(known[end - length : end])] = end
        self._indexed = len(known)

    def find(self, tail: Sequence[int]) -> tuple[int, int] | None:
        """Where the longest known end of `tail` goes on, and how many tokens of it matched."""
        for length, places in zip(LENGTHS, self._places, strict=True):
            if len(tail) >= length:
                at = places.get(tuple(tail[-length:]))
                if at is not None:
                    return at, length
        return None


@dataclass
class CostModel:
    """Seconds of a step as `base + each * tokens`, from recent steps (weighted least squares)."""

    decay: float = 0.98
    _weight: float = 0.0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0
    _rate: float = field(default=0.0)

    def saw(self, tokens: int, drawn: int, seconds: float) -> None:
        """A step of `tokens` tokens gave `drawn` tokens in `seconds`."""
        for name, value in (
            ("_weight", 1.0),
            ("_x", float(tokens)),
            ("_y", seconds),
            ("_xx", float(tokens) ** 2),
            ("_xy", tokens * seconds),
        ):
            setattr(self, name, getattr(self, name) * self.decay + value)
        self._rate += 0.1 * (drawn / seconds - self._rate) if self._rate else drawn / seconds

    @property
    def threshold(self) -> float:
        """How likely a guess must be for a step to gain more by it than it takes longer."""
        if self._weight < 4:
            return 0.3
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - mean_x**2
        each = 0.05 * mean_y
        if spread > 0.25:
            each = (self._xy / self._weight - mean_x * mean_y) / spread
        each = min(max(each, 0.01 * mean_y), mean_y)
        return min(0.9, 1.1 * each * self._rate)


class Drafter:
    """The guesses for one answer. Building one costs about 1.5 milliseconds per 1,000 tokens.

    Values of JSON are followed where `token_bytes` (of every token) are given.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        prediction: Sequence[int] = (),
        token_bytes: Sequence[bytes] | None = None,
    ) -> None:
        self._own = Lookup(prompt)
        self._fields = None if token_bytes is None else Fields(prompt, token_bytes)
        self._prompt = len(prompt)
        self._start = list(prediction[:LONGEST])
        self._prediction = Lookup(prediction)
        self._right = dict.fromkeys((*LENGTHS, 0), 0.6)
        self._quiet = 0
        self._offered = False

    def guess(
        self, tokens: list[int], threshold: float, habits: Habits | None
    ) -> tuple[list[int], bool]:
        """The guesses that follow `tokens`, and whether they are the client's prediction.

        `threshold` is how likely a guess must be to be worth its cost.
        """
        self.learn(tokens, habits)
        if self._quiet >= _PATIENCE:
            threshold = 0.0
        self._offered = False
        if self._start and (guess := self._predicted(tokens[self._prompt :], threshold)):
            self._offered = True
            return guess, True
        guess = self._likely(tokens[-8:], threshold, habits)
        if self._quiet >= _PATIENCE:
            guess = guess[:2]
        self._quiet = 0 if guess else self._quiet + 1
        return guess, False

    def learn(self, tokens: list[int], habits: Habits | None) -> None:
        """Takes the tokens in that have come since the last time."""
        for at in range(len(self._own.tokens), len(tokens)):
            found = self._own.find(tokens[max(0, at - max(LENGTHS)) : at])
            if found is not None:
                right = self._own.tokens[found[0]] == tokens[at]
                self._score(found[1], right)
                if habits is not None:
                    habits.learn_copy(tokens, at, right)
            if habits is not None:
                self._learn_field(tokens[at], habits)
                habits.learn(tokens, at)
            self._own.extend(tokens[at : at + 1])

    def _learn_field(self, token: int, habits: Habits) -> None:
        if self._fields is None:
            return
        expected = self._fields.next(self._fields.place)
        if expected is not None:
            habits.learn_field(expected[1], expected[0] == token)
        self._fields.feed(self._fields.place, token, habits.names, drawn=True)

    def saw(self, agreed: int, offered: int) -> None:
        """`agreed` of the `offered` last guesses were right."""
        if self._offered:
            for number in range(min(offered, agreed + 1)):
                self._score(0, number < agreed)

    def _score(self, source: int, right: bool) -> None:
        self._right[source] += 0.15 * (right - self._right[source])

    def _predicted(self, written: list[int], threshold: float) -> list[int]:
        """What the prediction goes on with, as far as it is likely enough."""
        most, likely = 0, self._right[0]
        while likely >= threshold and most < LONGEST:
            most += 1
            likely *= self._right[0]
        if not written:
            return self._start[:most]
        found = self._prediction.find(written[-max(LENGTHS) :])
        return [] if found is None else self._prediction.tokens[found[0] :][:most]

    def _likely(self, tail: list[int], threshold: float, habits: Habits | None) -> list[int]:
        """One token after the other, as long as all of them together are likely enough."""
        guess: list[int] = []
        likely = 1.0
        place = None if self._fields is None else self._fields.place.copy()
        while len(guess) < LONGEST:
            found = [self._copy(tail, habits)]
            if habits is not None:
                found += [habits.next(tail), self._field(place, habits)]
            best = max((one for one in found if one is not None), key=itemgetter(1), default=None)
            if best is None or (likely := likely * best[1]) < threshold:
                break
            guess.append(best[0])
            tail = [*tail[-8:], best[0]]
            if self._fields is not None and place is not None and habits is not None:
                self._fields.feed(place, best[0], habits.names, drawn=False)
        return guess

    def _field(self, place: Place | None, habits: Habits) -> tuple[int, float] | None:
        """What the value at `place` was in the prompt, and how likely it is that again."""
        if self._fields is None or place is None:
            return None
        found = self._fields.next(place)
        return None if found is None else (found[0], habits.trust_field(found[1]))

    def _copy(self, tail: list[int], habits: Habits | None) -> tuple[int, float] | None:
        """What followed `tail` in the prompt or the answer so far, and how likely it does again."""
        found = self._own.find(tail)
        if found is None:
            return None
        trusted = None if habits is None else habits.trust(tail)
        likely = self._right[found[1]] if trusted is None else trusted
        return self._own.tokens[found[0]], likely
