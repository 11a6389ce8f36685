"""Ranges of numbers as regular languages of their decimal texts.

Whole numbers are written without a point, others as `whole.fraction`; no exponent, no leading
zeros, no `-0`. Bounds are exact decimals of any size.
"""

from __future__ import annotations

from fractions import Fraction

from provider.protocol.schema.regular import algebra, charset
from provider.protocol.schema.regular.algebra import EMPTY, EPSILON, Re, alt, cat, literals, repeat

_DIGIT = algebra.one_of(charset.DIGITS)
_DIGITS = repeat(_DIGIT, 0, None)
_NONZERO = algebra.one_of(charset.of([(0x31, 0x39)]))
_MINUS = literals(["-"])
_POINT = literals(["."])
_NATURAL = alt(literals(["0"]), cat(_NONZERO, _DIGITS))
_FRACTION = repeat(cat(_POINT, repeat(_DIGIT, 1, None)), 0, 1)
# Up to 299: a double ends at 1.8e308, and what is beyond reads as infinity or as 0.
_EXPONENT = repeat(
    cat(
        algebra.one_of(charset.chars("eE")),
        repeat(algebra.one_of(charset.chars("+-")), 0, 1),
        alt(repeat(_DIGIT, 1, 2), cat(algebra.one_of(charset.chars("012")), _DIGIT, _DIGIT)),
    ),
    0,
    1,
)

_FIFTEEN = repeat(_DIGIT, 0, 14)

ANY_NUMBER = cat(repeat(_MINUS, 0, 1), _NATURAL, _FRACTION, _EXPONENT)
ANY_INTEGER = alt(_NATURAL, cat(_MINUS, _NONZERO, _DIGITS))
# Not a whole number, also for a reader that rounds to doubles: those tell 15 digits apart.
NOT_WHOLE = cat(
    repeat(_MINUS, 0, 1),
    alt(
        cat(literals(["0"]), _POINT, repeat(literals(["0"]), 0, 300), _NONZERO, _FIFTEEN),
        *(
            algebra.both(
                cat(_NONZERO, repeat(_DIGIT, whole, whole), _POINT, repeat(_DIGIT, 1, 14 - whole)),
                cat(_DIGITS, _POINT, repeat(literals(["0"]), 0, None), _NONZERO, _DIGITS),
            )
            for whole in range(14)
        ),
    ),
)
# One text for each number, without an exponent.
SHORTEST = alt(
    cat(_NATURAL, repeat(cat(_POINT, _DIGITS, _NONZERO), 0, 1)),
    cat(_MINUS, _NONZERO, _DIGITS, repeat(cat(_POINT, _DIGITS, _NONZERO), 0, 1)),
    cat(_MINUS, literals(["0"]), _POINT, _DIGITS, _NONZERO),
)


def _span(low: int, high: int) -> Re:
    """One digit from `low` to `high`."""
    return algebra.one_of(charset.of([(0x30 + low, 0x30 + high)])) if low <= high else EMPTY


def integers(low: int | None, high: int | None) -> Re:
    """Whole numbers from `low` to `high`, both included; None is unbounded."""
    negative_low = None if low is None else -low
    parts = []
    if high is None or high >= 0:
        parts.append(_naturals(max(low or 0, 0), high))
    if negative_low is None or negative_low > 0:
        from_ = 1 if high is None or high >= -1 else -high
        parts.append(cat(_MINUS, _naturals(from_, negative_low)))
    return alt(*parts)


def _naturals(low: int, high: int | None) -> Re:
    if high is not None and low > high:
        return EMPTY
    if high is None:
        digits = len(str(low))
        beyond = cat(_NONZERO, repeat(_DIGIT, digits, None))
        return alt(_naturals(low, 10**digits - 1), beyond)
    parts = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        smallest = 0 if digits == 1 else 10 ** (digits - 1)
        first, last = max(low, smallest), min(high, 10**digits - 1)
        parts.append(_same_width(str(first), str(last)))
    return alt(*parts)


def _same_width(low: str, high: str) -> Re:
    """Digit strings between two of the same length."""
    if not low:
        return EPSILON
    rest = len(low) - 1
    a, b = int(low[0]), int(high[0])
    if set(low) <= {"0"} and set(high) <= {"9"}:
        return repeat(_DIGIT, len(low), len(low))
    if a == b:
        return cat(literals([low[0]]), _same_width(low[1:], high[1:]))
    parts = []
    if set(low[1:]) > {"0"} or (rest and set(low[1:]) != {"0"}):
        parts.append(cat(literals([low[0]]), _same_width(low[1:], "9" * rest)))
        a += 1
    tail = EMPTY
    if rest and set(high[1:]) != {"9"}:
        tail = cat(literals([high[0]]), _same_width("0" * rest, high[1:]))
        b -= 1
    if a <= b:
        parts.append(cat(_span(a, b), repeat(_DIGIT, rest, rest) if rest else EPSILON))
    return alt(*parts, tail)


def decimals(low: Fraction | None, low_open: bool, high: Fraction | None, high_open: bool) -> Re:
    """Numbers between two bounds, each of them included unless it is open."""
    if low is None and high is None:
        return ANY_NUMBER
    parts = []
    if high is None or high > 0 or (high == 0 and not high_open):
        if low is not None and low >= 0:
            parts.append(_magnitudes(low, low_open, high, high_open))
        else:
            parts.append(_magnitudes(Fraction(0), False, high, high_open))
    if low is None or low < 0:
        nearest, open_ = (Fraction(0), True) if high is None or high >= 0 else (-high, high_open)
        farthest = None if low is None else -low
        parts.append(cat(_MINUS, _magnitudes(nearest, open_, farthest, low_open)))
    return alt(*parts)


def _magnitudes(low: Fraction, low_open: bool, high: Fraction | None, high_open: bool) -> Re:
    """Non-negative numbers between two bounds."""
    if high is not None and (low > high or (low == high and (low_open or high_open))):
        return EMPTY
    whole_low, after_low = split(low)
    if high is None:
        first = cat(literals([str(whole_low)]), _fraction(_at_least(after_low, low_open)))
        return alt(first, cat(_naturals(whole_low + 1, None), _FRACTION))
    whole_high, after_high = split(high)
    if whole_low == whole_high:
        between = _between(after_low, low_open, after_high, high_open)
        return cat(literals([str(whole_low)]), _fraction(between))
    first = cat(literals([str(whole_low)]), _fraction(_at_least(after_low, low_open)))
    last = cat(literals([str(whole_high)]), _fraction(_at_most(after_high, high_open)))
    return alt(first, cat(_naturals(whole_low + 1, whole_high - 1), _FRACTION), last)


def split(value: Fraction) -> tuple[int, str]:
    """Whole part, and the digits after the point without trailing zeros."""
    whole = value.numerator // value.denominator
    rest, digits = value - whole, ""
    while rest:
        rest *= 10
        digit = rest.numerator // rest.denominator
        digits += str(digit)
        rest -= digit
    return whole, digits


def _fraction(digits: Re) -> Re:
    """A point and a non-empty member of `digits`; nothing at all if the empty one is a member."""
    parts = [EPSILON] if digits.nullable else []
    rests: dict[Re, str] = {}
    for digit in "0123456789":
        rest = algebra.derive(digits, digit)
        if rest != EMPTY:
            rests[rest] = rests.get(rest, "") + digit
    parts += [
        cat(_POINT, algebra.one_of(charset.chars(digits)), rest) for rest, digits in rests.items()
    ]
    return alt(*parts)


def _at_least(bound: str, open_: bool) -> Re:
    if not bound:
        return cat(_DIGITS, _NONZERO, _DIGITS) if open_ else _DIGITS
    digit = int(bound[0])
    same = cat(literals([bound[0]]), _at_least(bound[1:], open_))
    return alt(same, cat(_span(digit + 1, 9), _DIGITS))


def _at_most(bound: str, open_: bool) -> Re:
    if not bound:
        return EMPTY if open_ else repeat(literals(["0"]), 0, None)
    digit = int(bound[0])
    same = cat(literals([bound[0]]), _at_most(bound[1:], open_))
    return alt(EPSILON, same, cat(_span(0, digit - 1), _DIGITS))


def _between(low: str, low_open: bool, high: str, high_open: bool) -> Re:
    """Digits after the point between two bounds, `low <= high` as fractions."""
    if not low:
        if not low_open:
            return _at_most(high, high_open)
        return algebra.both(_at_most(high, high_open), _at_least("", True))
    if not high:
        return EMPTY if low else _at_most(high, high_open)
    a, b = int(low[0]), int(high[0])
    if a == b:
        rest = _between(low[1:], low_open, high[1:], high_open)
        return cat(literals([low[0]]), rest)
    return alt(
        cat(literals([low[0]]), _at_least(low[1:], low_open)),
        cat(_span(a + 1, b - 1), _DIGITS),
        cat(literals([high[0]]), _at_most(high[1:], high_open)),
    )


def multiples_of_whole(step: int, places: int) -> Re:
    """Whole numbers divisible by `step`, which divides `10**places`."""
    if step == 1:
        return ANY_INTEGER
    endings = literals(str(n).zfill(places) for n in range(0, 10**places, step))
    short = literals(str(n) for n in range(step, 10**places, step))
    magnitude = alt(short, cat(_NONZERO, _DIGITS, endings))
    return alt(literals(["0"]), cat(repeat(_MINUS, 0, 1), magnitude))


def multiples_of_fraction(step: int, places: int) -> Re:
    """Numbers divisible by `step / 10**places`, where `step` divides `10**places`."""
    if step == 1:
        endings = repeat(_DIGIT, 1, places)
    else:
        digits = [str(n).zfill(places) for n in range(0, 10**places, step)]
        endings = literals(t for d in digits for t in (d, d.rstrip("0") or "0"))
    return cat(repeat(_MINUS, 0, 1), _NATURAL, repeat(cat(_POINT, endings), 0, 1))
