"""Questions about regular languages: is it empty, is it finite, do two of them meet?"""

from __future__ import annotations

from functools import lru_cache

from provider.protocol.schema.regular import charset
from provider.protocol.schema.regular.algebra import (
    ALL,
    ALT,
    AND,
    CAT,
    EMPTY,
    LITS,
    NOT,
    REP,
    SET,
    Re,
    both,
    derive,
    negate,
)
from provider.protocol.schema.regular.charset import CharSet
from provider.protocol.schema.regular.effort import TooComplex

_STATES = 3000


@lru_cache(maxsize=4096)
def is_empty(r: Re) -> bool:
    """Whether no string is in `r`. Raises `TooComplex` after some thousand states."""
    quick = _evident(r)
    if quick is not None:
        return quick
    seen = {r}
    queue = [r]
    for state in queue:
        if state.nullable:
            return False
        for chars in _first_choices(state):
            after = derive(state, chars.first())
            if after.nullable or _evident(after) is False:
                return False
            if after != EMPTY and after not in seen:
                if len(seen) >= _STATES:
                    raise TooComplex
                seen.add(after)
                queue.append(after)
    return True


def _evident(r: Re) -> bool | None:
    """Emptiness as the structure tells it; None where only a search can."""
    if r.kind == LITS:
        return not r.args
    if r.nullable or r.kind == SET:
        return False
    if r.kind == NOT:
        return False if is_finite(r.args[0]) else None
    if r.kind == ALT:
        told = [_evident(a) for a in r.args]
        return False if False in told else (True if all(told) else None)
    if r.kind == CAT:
        told = [_evident(a) for a in r.args]
        return True if True in told else (None if None in told else False)
    if r.kind == REP:
        return _evident(r.args[0])
    if all(_cofinite(a) for a in r.args):
        return False
    return None


def _cofinite(r: Re) -> bool:
    if r.kind == NOT:
        return is_finite(r.args[0])
    return r.kind == REP and r == ALL


def is_finite(r: Re) -> bool:
    """Whether `r` is plainly a finite language (False may also mean: not plainly)."""
    if r.kind in (LITS, SET):
        return True
    if r.kind == AND:
        return any(is_finite(a) for a in r.args)
    if r.kind in (ALT, CAT):
        return all(is_finite(a) for a in r.args)
    return r.kind == REP and r.args[2] is not None and is_finite(r.args[0])


def disjoint(a: Re, b: Re) -> bool:
    """Whether no string is in both."""
    return is_empty(both(a, b))


def contains(outer: Re, inner: Re) -> bool:
    """Whether every string of `inner` is in `outer`."""
    return is_empty(both(inner, negate(outer)))


def _classes(r: Re) -> frozenset[CharSet]:
    """Character sets whose Boolean combinations tell apart all first characters of `r`."""
    kind, args = r.kind, r.args
    if kind == LITS:
        return frozenset(charset.chars(s[0]) for s in args if s)
    if kind == SET:
        return frozenset(args)
    if kind in (NOT, REP):
        return _classes(args[0])
    if kind == CAT:
        found: frozenset[CharSet] = frozenset()
        for part in args:
            found |= _classes(part)
            if not part.nullable:
                break
        return found
    return frozenset().union(*(_classes(a) for a in args))


def _first_choices(r: Re) -> list[CharSet]:
    """Disjoint, non-empty sets covering every character; `r` cannot tell apart within one."""
    parts = [charset.ALL]
    for chars in _classes(r):
        out = []
        for part in parts:
            inside = charset.intersect(part, chars)
            outside = charset.intersect(part, charset.complement(chars))
            out += [p for p in (inside, outside) if p]
        parts = out
        if len(parts) > 512:
            raise TooComplex
    return parts
