"""Regular languages of Unicode strings, closed under union, intersection and complement.

A language is a `Re`: an immutable term built by the functions here, which simplify as they build.
Membership, emptiness and the like follow from Brzozowski's derivatives (J. ACM 11(4), 1964):
`derive(r, c)` is the language of what may follow `c` in `r`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from provider.protocol.schema.regular import charset
from provider.protocol.schema.regular.charset import CharSet
from provider.protocol.schema.regular.effort import spend

SET, CAT, ALT, AND, NOT, REP, LITS = "set", "cat", "alt", "and", "not", "rep", "lits"


class Re:
    """One term. `args`: SET (CharSet,), CAT/ALT/AND children, NOT (child,), REP (child, low,
    high | None), LITS the strings themselves, in order. Compared by structure."""

    __slots__ = ("_hash", "args", "kind", "nullable")

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        self.kind = kind
        self.args = args
        self._hash = hash((kind, args))
        self.nullable = _nullable(kind, args)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Re)
            and self._hash == other._hash
            and self.kind == other.kind
            and self.args == other.args
        )

    def __repr__(self) -> str:
        return f"{self.kind}{self.args}"


def _nullable(kind: str, args: tuple[Any, ...]) -> bool:
    if kind == LITS:
        return "" in args
    if kind in (CAT, AND):
        return all(a.nullable for a in args)
    if kind == ALT:
        return any(a.nullable for a in args)
    if kind == NOT:
        return not args[0].nullable
    return kind == REP and (args[1] == 0 or args[0].nullable)


EMPTY = Re(LITS, ())
EPSILON = Re(LITS, ("",))
ANY = Re(SET, (charset.ALL,))
ALL = Re(REP, (ANY, 0, None))


def literals(texts: Iterable[str]) -> Re:
    """The finite language of these strings."""
    return Re(LITS, tuple(dict.fromkeys(texts)))


def one_of(chars: CharSet) -> Re:
    """One character of the set."""
    return Re(SET, (chars,)) if chars else EMPTY


def cat(*parts: Re) -> Re:
    out: list[Re] = []
    for part in parts:
        for piece in part.args if part.kind == CAT else (part,):
            if piece is EMPTY or piece == EMPTY:
                return EMPTY
            if piece == EPSILON or (piece == ALL and out and out[-1] == ALL):
                continue
            if out and _single(out[-1]) and _single(piece):
                out[-1] = literals([out[-1].args[0] + piece.args[0]])
            else:
                out.append(piece)
    if not out:
        return EPSILON
    return out[0] if len(out) == 1 else Re(CAT, tuple(out))


def _single(r: Re) -> bool:
    return r.kind == LITS and len(r.args) == 1


def alt(*parts: Re) -> Re:
    texts: dict[str, None] = {}
    chars = charset.NONE
    out: dict[Re, None] = {}
    for part in parts:
        for piece in part.args if part.kind == ALT else (part,):
            if piece == ALL:
                return ALL
            if piece.kind == LITS:
                texts.update(dict.fromkeys(piece.args))
            elif piece.kind == SET:
                chars = charset.union(chars, piece.args[0])
            else:
                out[piece] = None
    terms = list(out)
    if chars:
        terms.insert(0, one_of(chars))
    if texts:
        terms.insert(0, literals(texts))
    if not terms:
        return EMPTY
    return terms[0] if len(terms) == 1 else Re(ALT, tuple(terms))


def negate(r: Re) -> Re:
    if r.kind == NOT:
        inner: Re = r.args[0]
        return inner
    if r == EMPTY:
        return ALL
    if r == ALL:
        return EMPTY
    return Re(NOT, (r,))


def both(*parts: Re) -> Re:
    """The intersection. Finite operands decide at once; bounds on the length are merged."""
    terms: dict[Re, None] = {}
    for part in parts:
        terms.update(dict.fromkeys(part.args if part.kind == AND else (part,)))
    terms.pop(ALL, None)
    if EMPTY in terms:
        return EMPTY
    finite = next((t for t in terms if t.kind == LITS), None)
    if finite is not None:
        others = [t for t in terms if t is not finite]
        return literals(s for s in finite.args if all(matches(t, s) for t in others))
    pieces = _merged_lengths(list(terms))
    if not pieces:
        return EMPTY if any(is_length(t) for t in terms) else ALL
    return pieces[0] if len(pieces) == 1 else Re(AND, tuple(pieces))


def is_length(r: Re) -> bool:
    return r.kind == REP and r.args[0] == ANY


def _merged_lengths(terms: list[Re]) -> list[Re]:
    lengths = [t for t in terms if is_length(t)]
    if len(lengths) < 2:
        return terms
    low = max(t.args[1] for t in lengths)
    highs = [t.args[2] for t in lengths if t.args[2] is not None]
    high = min(highs) if highs else None
    if high is not None and low > high:
        return [EMPTY]
    return [t for t in terms if not is_length(t)] + [repeat(ANY, low, high)]


def repeat(r: Re, low: int = 0, high: int | None = None) -> Re:
    if high == 0 or r in (EPSILON, EMPTY):
        return EMPTY if r == EMPTY and low > 0 else EPSILON
    if low == 1 and high == 1:
        return r
    if r.kind == REP and r.args[1:] == (0, None):
        return r
    if low == 0 and high is None and r == ANY:
        return ALL
    return Re(REP, (r, low, high))


@lru_cache(maxsize=8192)
def weight(r: Re) -> int:
    """About how many characters it has with every repetition spelt out."""
    if r.kind == LITS:
        return 1 + sum(map(len, r.args))
    if r.kind == SET:
        return 1 + len(r.args[0].ranges)
    if r.kind == REP:
        inner, low, high = r.args
        times: int = max(low, high or 1)
        return 1 + weight(inner) * times
    return 1 + sum(weight(a) for a in r.args)


def derive(r: Re, c: str) -> Re:
    """The language of `w` such that `c + w` is in `r`."""
    kind, args = r.kind, r.args
    if r is ALL:
        return ALL
    spend()
    if kind == LITS:
        return literals(s[1:] for s in args if s[:1] == c)
    if kind == SET:
        return EPSILON if args[0].has(ord(c)) else EMPTY
    if kind == ALT:
        return alt(*(derive(a, c) for a in args))
    if kind == AND:
        return both(*(derive(a, c) for a in args))
    if kind == NOT:
        return negate(derive(args[0], c))
    if kind == REP:
        inner, low, high = args
        rest = repeat(inner, max(low - 1, 0), None if high is None else high - 1)
        return cat(derive(inner, c), rest)
    return _derive_sequence(args, c)


def _derive_sequence(parts: tuple[Re, ...], c: str) -> Re:
    out = []
    for at, part in enumerate(parts):
        out.append(cat(derive(part, c), *parts[at + 1 :]))
        if not part.nullable:
            break
    return alt(*out)


def matches(r: Re, text: str) -> bool:
    if r is ALL:
        return True
    if r.kind == LITS:
        return text in r.args
    if r.kind == NOT:
        return not matches(r.args[0], text)
    if r.kind == AND:
        return all(matches(a, text) for a in r.args)
    return _search(r, text)


@lru_cache(maxsize=8192)
def _search(r: Re, text: str) -> bool:
    for c in text:
        r = derive(r, c)
        if r is EMPTY or r == EMPTY:
            return False
    return r.nullable
