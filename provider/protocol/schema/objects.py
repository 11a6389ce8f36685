"""Sets of objects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from provider.protocol.schema.arrays import least
from provider.protocol.schema.formula import FALSE, TRUE, Formula, every
from provider.protocol.schema.regular import algebra, decide
from provider.protocol.schema.regular.algebra import LITS, Re
from provider.protocol.schema.regular.effort import TooComplex, spend

Rest = tuple[tuple[Re, Formula], ...]
"""Disjoint sets of names that cover every name, each with what its members' values must be."""

OPEN: Rest = ((algebra.ALL, TRUE),)


@dataclass(frozen=True, slots=True)
class Member:
    """At least one member has its name in `names` and its value in `value`."""

    names: Re
    value: Formula


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects whose named members are in `named` (in this order), all others in `rest`; all of
    `required` are there; from `low` to `high` members; every one of `members` is there."""

    named: tuple[tuple[str, Formula], ...] = ()
    rest: Rest = OPEN
    required: tuple[str, ...] = ()
    low: int = 0
    high: int | None = None
    members: tuple[Member, ...] = ()
    _table: dict[str, Formula] = field(default_factory=dict, compare=False, repr=False)

    def value(self, name: str) -> Formula:
        """What the member of this name must be."""
        if not self._table and self.named:
            self._table.update(self.named)
        found = self._table.get(name)
        if found is not None:
            return found
        for names, value in self.rest:
            if names is algebra.ALL or algebra.matches(names, name):
                return value
        return TRUE

    def intersect(self, other: Objects) -> Objects | None:
        spend(len(self.named) + len(other.named))
        named = [(n, every(v, other.value(n))) for n, v in self.named]
        mine = dict(self.named)
        named += [(n, every(self.value(n), v)) for n, v in other.named if n not in mine]
        return Objects(
            tuple(named),
            _both(self.rest, other.rest),
            tuple(dict.fromkeys(self.required + other.required)),
            max(self.low, other.low),
            least(self.high, other.high),
            tuple(dict.fromkeys(self.members + other.members)),
        ).normal()

    def normal(self) -> Objects | None:
        if self.high is not None and max(self.low, len(self.required)) > self.high:
            return None
        if any(self.value(name) == FALSE for name in self.required):
            return None
        if any(names.kind == LITS for names, _ in self.rest):
            return self._spelt()
        return self

    def _spelt(self) -> Objects:
        """Patterns that only match certain names are these names."""
        mine = {name for name, _ in self.named}
        more = [
            (name, value)
            for names, value in self.rest
            if names.kind == LITS
            for name in names.args
            if name not in mine
        ]
        rest = tuple(p for p in self.rest if p[0].kind != LITS)
        return replace(self, named=(*self.named, *more), rest=rest, _table={})

    def with_member(self, name: str, value: Formula) -> Objects:
        """Those that have the member, with a value in `value`."""
        named = tuple((n, value if n == name else v) for n, v in self.named)
        if all(n != name for n, _ in self.named):
            named = (*named, (name, value))
        required = tuple(dict.fromkeys((*self.required, name)))
        return replace(self, named=named, required=required, _table={})

    def settled(self) -> list[Objects]:
        """The same set, as objects whose `members` concern no named member, and have no name in
        common where the value of one is plainly also one of the other."""
        for at, member in enumerate(self.members):
            spend(5 + len(self.named))
            known = [name for name, _ in self.named if algebra.matches(member.names, name)]
            if known:
                taken = algebra.negate(algebra.literals(known))
                others = self.members[:at] + self.members[at + 1 :]
                stray = replace(member, names=algebra.both(member.names, taken))
                options = [replace(self, members=(*others, stray), _table={})]
                options += [self._with(name, member.value, others) for name in known]
                return [s for o in options if (n := o.normal()) for s in n.settled()]
        if any(decide.is_empty(m.names) for m in self.members):
            return []
        for at, first in enumerate(self.members):
            for second in self.members[:at]:
                pair = _nested(first, second)
                if pair is not None and not decide.disjoint(first.names, second.names):
                    return self._parted(*pair)
        return [self]

    def _parted(self, inner: Member, outer: Member) -> list[Objects]:
        """Either one member is both, or the inner one has a name that the outer cannot have."""
        spend(20)
        others = tuple(m for m in self.members if m not in (inner, outer))
        one = Member(algebra.both(inner.names, outer.names), inner.value)
        apart = Member(algebra.both(inner.names, algebra.negate(outer.names)), inner.value)
        options = [(*others, one), (*others, outer, apart)]
        return [s for m in options for s in replace(self, members=m, _table={}).settled()]

    def _with(self, name: str, value: Formula, members: tuple[Member, ...]) -> Objects:
        named = tuple((n, every(v, value) if n == name else v) for n, v in self.named)
        required = tuple(dict.fromkeys((*self.required, name)))
        return replace(self, named=named, required=required, members=members, _table={})


def _nested(a: Member, b: Member) -> tuple[Member, Member] | None:
    """The two in order, where every value of the first is plainly one of the second."""
    common = every(a.value, b.value)
    if common == a.value:
        return a, b
    return (b, a) if common == b.value else None


def _both(a: Rest, b: Rest) -> Rest:
    if a == OPEN:
        return b
    if b == OPEN or a == b:
        return a
    out: dict[Formula, Re] = {}
    for names_a, value_a in a:
        for names_b, value_b in b:
            names = algebra.both(names_a, names_b)
            single = len(a) == 1 or len(b) == 1
            if names != algebra.EMPTY and (single or not decide.is_empty(names)):
                value = every(value_a, value_b)
                out[value] = algebra.alt(out[value], names) if value in out else names
    return tuple((names, value) for value, names in out.items())


def partition(patterns: list[tuple[Re, Formula]], additional: Formula) -> Rest:
    """`patternProperties` and `additionalProperties` as disjoint sets of names: a name must meet
    every pattern that it matches, and `additional` when it matches none."""
    parts: list[tuple[Re, list[Formula]]] = [(algebra.ALL, [])]
    for pattern, value in patterns:
        split = []
        for names, values in parts:
            inside = algebra.both(names, pattern)
            outside = algebra.both(names, algebra.negate(pattern))
            if not decide.is_empty(inside):
                split.append((inside, [*values, value]))
            if not decide.is_empty(outside):
                split.append((outside, values))
        parts = split
        if len(parts) > 64:
            raise TooComplex
    return tuple((names, every(*values) if values else additional) for names, values in parts)


ALL = (Objects(),)
