"""Guesses at the next tokens, checked by the model in the same step (prompt lookup decoding).

The last tokens of an answer are looked up in its prompt, in what it has written, in the client's
`prediction` and in what answers to the same format do (`provider.engine.habits`), the key of a JSON
value in the prompt's JSON (`provider.engine.fields`); what followed there is the draft. The model
then draws each token as it would have anyway, so drafts change when tokens come, never which.

How many of them a step carries follows from what they cost here and now (`provider.engine.costs`)
and from how often such guesses were right, whether they were offered or not; where they do not pay
there are none.
"""

from __future__ import annotations

from collections.abc import Sequence

from provider.engine.fields import Fields, Place
from provider.engine.habits import Habits

LENGTHS = (4, 2)
"""How many last tokens are looked up: the longer match first."""

LONGEST = 16
"""Most tokens of one draft."""


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


Guess = tuple[int, float]
"""A token, and how likely it is right together with all guesses before it."""


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

    def guess(
        self, tokens: list[int], floor: float, habits: Habits | None
    ) -> tuple[list[Guess], bool]:
        """The guesses that follow `tokens`, and whether they are the client's prediction.

        Guesses less likely than `floor` are left out.
        """
        self.learn(tokens, habits)
        following = self._predicted(tokens, len(tokens))
        chain = [(token, self._right[0] ** (at + 1)) for at, token in enumerate(following)]
        if chain and chain[0][1] >= floor:
            return [guess for guess in chain if guess[1] >= floor], True
        return self._likely(tokens[-8:], floor, habits), False

    def learn(self, tokens: list[int], habits: Habits | None) -> None:
        """Takes the tokens in that have come since the last time."""
        for at in range(len(self._own.tokens), len(tokens)):
            found = self._own.find(tokens[max(0, at - max(LENGTHS)) : at])
            if found is not None:
                right = self._own.tokens[found[0]] == tokens[at]
                self._score(found[1], right)
                if habits is not None:
                    habits.learn_copy(tokens, at, right)
            if predicted := self._predicted(tokens, at):
                self._score(0, predicted[0] == tokens[at])
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

    def _score(self, source: int, right: bool) -> None:
        self._right[source] += 0.15 * (right - self._right[source])

    def _predicted(self, tokens: Sequence[int], at: int) -> list[int]:
        """What the prediction goes on with after `tokens[:at]`."""
        if not self._start or at <= self._prompt:
            return self._start
        found = self._prediction.find(tokens[max(self._prompt, at - max(LENGTHS)) : at])
        return [] if found is None else self._prediction.tokens[found[0] :][:LONGEST]

    def _likely(self, tail: list[int], floor: float, habits: Habits | None) -> list[Guess]:
        """One token after the other, as long as all of them together are likely enough."""
        guesses: list[Guess] = []
        likely = 1.0
        place = None if self._fields is None else self._fields.place.copy()
        while len(guesses) < LONGEST:
            best = self._best(tail, place, habits)
            if best is None or (likely := likely * best[1]) < floor:
                break
            guesses.append((best[0], likely))
            tail = [*tail[-8:], best[0]]
            if self._fields is not None and place is not None and habits is not None:
                self._fields.feed(place, best[0], habits.names, drawn=False)
        return guesses

    def _best(
        self, tail: list[int], place: Place | None, habits: Habits | None
    ) -> tuple[int, float] | None:
        """The likeliest token after `tail`, and how likely it is."""
        best = self._copy(tail, habits)
        if habits is None:
            return best
        for found in (habits.next(tail), self._field(place, habits)):
            if found is not None and (best is None or best[1] < found[1]):
                best = found
        return best

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
