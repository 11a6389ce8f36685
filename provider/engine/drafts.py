"""Guesses at the next tokens, checked by the model in the same step (prompt lookup decoding).

The last tokens of an answer are looked up in its prompt, in what it has written, in the client's
`prediction` and in earlier answers to the same format; what followed there is the draft. The model
then draws each token as it would have anyway, so drafts change when tokens come, never which.

How many guesses a step carries follows from what they cost here and now (`CostModel`) and how often
the answer's guesses were right (`Drafter`); where they do not pay there are none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

LENGTHS = (4, 2)
"""How many last tokens are looked up: the longer match first."""

LONGEST = 16
"""Most tokens of one draft."""


class Lookup:
    """Token sequences, searchable by what they contain; later occurrences win."""

    def __init__(self) -> None:
        self.texts: list[list[int]] = []
        self._places: list[dict[tuple[int, ...], tuple[int, int]]] = [{} for _ in LENGTHS]
        self._indexed: list[int] = []

    def add(self, tokens: Sequence[int]) -> int:
        """Adds a sequence; the number is for `extend`."""
        self.texts.append([])
        self._indexed.append(0)
        self.extend(len(self.texts) - 1, tokens)
        return len(self.texts) - 1

    def extend(self, text: int, tokens: Sequence[int]) -> None:
        """Adds tokens to the end of a sequence."""
        known = self.texts[text]
        known.extend(tokens)
        for length, places in zip(LENGTHS, self._places, strict=True):
            for end in range(max(length, self._indexed[text]), len(known)):
                places[tuple(known[end - length : end])] = (text, end)
        self._indexed[text] = len(known)

    def after(self, tail: Sequence[int], most: int, *, loop: bool = False) -> list[int]:
        """What followed the longest known end of `tail`, up to `most` tokens.

        With `loop`, what has been found follows itself where the sequence ends: `tail` is that end,
        and what it repeats is repeated on.
        """
        for length, places in zip(LENGTHS, self._places, strict=True):
            if len(tail) >= length:
                found = places.get(tuple(tail[-length:]))
                if found is not None:
                    text, at = found
                    guess = self.texts[text][at : at + most]
                    while loop and guess and len(guess) < most:
                        guess += guess[: most - len(guess)]
                    return guess
        return []


class History:
    """Recent answers by format (constraint and adapter), for the `Drafter`s of later ones."""

    def __init__(self, formats: int = 32, answers: int = 8) -> None:
        self._formats = formats
        self._answers = answers
        self._lookups: OrderedDict[tuple[str, int], Lookup] = OrderedDict()

    def add(self, key: tuple[str, int], tokens: Sequence[int]) -> None:
        """Remembers an answer; of each format at most the last `answers`, never fewer than half."""
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = Lookup()
        elif len(lookup.texts) >= self._answers:
            kept = lookup.texts[-(self._answers // 2) :]
            lookup = self._lookups[key] = Lookup()
            for text in kept:
                lookup.add(text)
        lookup.add(tokens)
        self._lookups.move_to_end(key)
        while len(self._lookups) > self._formats:
            self._lookups.popitem(last=False)

    def lookup(self, key: tuple[str, int]) -> Lookup | None:
        return self._lookups.get(key)


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
        return min(0.9, 1.25 * each * self._rate)


class Drafter:
    """The guesses for one answer. Building one costs about a millisecond per 1,000 tokens."""

    def __init__(self, prompt: Sequence[int], prediction: Sequence[int] = ()) -> None:
        self._own = Lookup()
        self._text = self._own.add(prompt)
        self._prompt = len(prompt)
        self._seen = len(prompt)
        self._start = list(prediction[:LONGEST])
        self._prediction = Lookup()
        self._prediction.add(prediction)
        self._hit = 0.6
        self._quiet = 0

    def guess(
        self, tokens: list[int], threshold: float, history: Lookup | None
    ) -> tuple[list[int], bool]:
        """The guesses that follow `tokens`, and whether they are the client's prediction.

        `threshold` is how likely a guess must be to be worth its cost.
        """
        self._own.extend(self._text, tokens[self._seen :])
        self._seen = len(tokens)
        most = self._length(threshold)
        if most == 0:
            return [], False
        written = tokens[self._prompt :][-max(LENGTHS) :]
        if self._start and (guess := self._predicted(written, most)):
            return guess, True
        guess = [] if history is None else history.after(written, most)
        return guess or self._own.after(tokens[-max(LENGTHS) :], most, loop=True), False

    def saw(self, offered: int, agreed: int) -> None:
        """`agreed` of `offered` guesses were right."""
        if offered:
            tried = agreed + (agreed < offered)
            self._hit += 0.25 * (agreed / tried - self._hit)

    def _predicted(self, written: list[int], most: int) -> list[int]:
        return self._prediction.after(written, most) if written else self._start[:most]

    def _length(self, threshold: float) -> int:
        """The n-th guess is right with about `hit**n`; below the threshold it does not pay."""
        most, likely = 0, self._hit
        while likely >= threshold and most < LONGEST:
            most += 1
            likely *= self._hit
        if most:
            self._quiet = 0
            return most
        self._quiet += 1
        return 2 if self._quiet % 48 == 0 else 0
