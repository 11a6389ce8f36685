"""chrF: how much two texts have in common, in n-grams of characters.

Popović, "chrF: character n-gram F-score for automatic MT evaluation" (2015): n from 1 to 6, white
space left out, recall counted twice as much as precision (beta 2). It needs no words, which suits
Korean and Japanese.
"""

from __future__ import annotations

from collections import Counter

_LONGEST = 6
_BETA = 2.0


def chrf(given: str, expected: str) -> float:
    """Between 0 and 1; 1 for texts that are equal but for white space."""
    given, expected = "".join(given.split()), "".join(expected.split())
    if given == expected:
        return 1.0
    scores = [_f_score(given, expected, n) for n in range(1, _LONGEST + 1) if n <= len(expected)]
    return sum(scores) / len(scores) if scores else 0.0


def _f_score(given: str, expected: str, n: int) -> float:
    ours, theirs = _grams(given, n), _grams(expected, n)
    shared = sum((ours & theirs).values())
    if not shared:
        return 0.0
    precision, recall = shared / sum(ours.values()), shared / sum(theirs.values())
    return (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[place : place + n] for place in range(len(text) - n + 1))
