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
    is_length,
    negate,
)
from provider.protocol.schema.regular.charset import CharSet
from provider.protocol.schema.regular.effort import TooComplex, spend

_STATES = 3000
_LONG = 300


@lru_cache(maxsize=4096)
def is_empty(r: Re) -> bool:
    """Whether no string is in `r`. Raises `TooComplex` after some thousand states."""
    quick = _evident(r)
    if quick is not None:
        return quick
    parts = r.args if r.kind == AND else (r,)
    length = next((p for p in parts if is_length(p)), None)
    if length is not None:
        rest = both(*(p for p in parts if p is not length))
        return _empty_within(rest, length.args[1], length.args[2])
    seen = {r}
    queue = [r]
    for state in queue:
        if state.nullable:
            return False
        for after in _successors(state):
            if after.nullable or _evident(after) is False:
                return False
            if after not in seen:
                if len(seen) >= _STATES:
                    raise TooComplex
                seen.add(after)
                queue.append(after)
    return True


def _empty_within(r: Re, low: int, high: int | None) -> bool:
    """Whether no string of `low` to `high` characters is in `r`: all strings of one length at once,
    so that lengths do not multiply the states."""
    now = frozenset([r])
    met: set[frozenset[Re]] = set()
    length = 0
    while now and (high is None or length <= high):
        if length >= low:
            if any(state.nullable for state in now):
                return False
            if now in met:
                return True
            met.add(now)
        if len(now) > _STATES:
            raise TooComplex
        spend(len(now))
        now = frozenset(after for state in now for after in _successors(state))
        length += 1
    return True


@lru_cache(maxsize=8192)
def _successors(state: Re) -> tuple[Re, ...]:
    found = dict.fromkeys(derive(state, c.first()) for c in _first_choices(state))
    return tuple(after for after in found if after != EMPTY)


def has(r: Re, many: int) -> bool:
    """Whether there are so many strings in `r`, as far as that is quickly told."""
    if not is_finite(r):
        return not is_empty(r)
    now: dict[Re, int] = {r: 1}
    total = 0
    for _ in range(_LONG):
        total += sum(n for state, n in now.items() if state.nullable)
        if total >= many:
            return True
        after: dict[Re, int] = {}
        for state, n in now.items():
            for chars in _first_choices(state):
                then = derive(state, chars.first())
                if then != EMPTY:
                    after[then] = after.get(then, 0) + n * chars.size()
        now = after
        if not now or len(now) > _LONG:
            return False
    return False


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
