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
    """Between 0 and 1; 1 for texts that are equal but for white space. As sacreBLEU computes it:
    precision and recall are averaged over the lengths of n-grams that both texts have."""
    given, expected = "".join(given.split()), "".join(expected.split())
    if given == expected:
        return 1.0
    longest = min(_LONGEST, len(given), len(expected))
    if not longest:
        return 0.0
    shares = [_shares(given, expected, n) for n in range(1, longest + 1)]
    precision, recall = (sum(values) / longest for values in zip(*shares, strict=True))
    if not precision:
        return 0.0
    return float((1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall))


def _shares(given: str, expected: str, n: int) -> tuple[float, float]:
    """Precision and recall of n-grams of one length."""
    ours, theirs = _grams(given, n), _grams(expected, n)
    shared = sum((ours & theirs).values())
    return shared / sum(ours.values()), shared / sum(theirs.values())


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[place : place + n] for place in range(len(text) - n + 1))
