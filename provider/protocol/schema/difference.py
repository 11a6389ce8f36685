"""What is in one set of arrays or objects and not in another.

Only what the first does not demand already is taken away, so that alternatives which differ in one
member leave one case and not one for every keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from provider.protocol.schema.arrays import Arrays, Count
from provider.protocol.schema.formula import AND, FALSE, TRUE, Formula, every, negate
from provider.protocol.schema.objects import Member, Objects
from provider.protocol.schema.regular import algebra, decide
from provider.protocol.schema.regular.effort import spend
from provider.protocol.schema.shape import NoComplement


def implied(by: Formula, what: Formula) -> bool:
    """Whether every value of `by` is plainly one of `what`."""
    return what == TRUE or by in (FALSE, what) or every(by, what) == by


@dataclass(frozen=True, slots=True)
class Difference:
    """`disjoint` tells plainly disjoint formulas, `vacant` plainly empty ones."""

    disjoint: Callable[[Formula, Formula], bool]
    vacant: Callable[[Formula], bool]

    def objects(self, these: Objects, those: Objects) -> list[Objects]:
        """The first without the second, as a union."""
        spend(5 + len(these.named) + len(those.named))
        found = (o.normal() for o in self._objects(these, those))
        return list(dict.fromkeys(o for o in found if o is not None))

    def _objects(self, these: Objects, those: Objects) -> Iterator[Objects]:
        for name in those.required:
            if name not in these.required:
                yield these.intersect(Objects(named=((name, FALSE),))) or _IMPOSSIBLE
        names = dict.fromkeys(n for n, _ in (*those.named, *these.named))
        for name in names:
            value = self._outside(these.value(name), those.value(name))
            if value != FALSE:
                yield these.with_member(name, value)
        yield from self._rests(these, those, algebra.negate(algebra.literals(names)))
        if those.low > max(these.low, len(these.required)):
            yield replace(these, high=_least(these.high, those.low - 1), _table={})
        if those.high is not None and (these.high is None or these.high > those.high):
            yield replace(these, low=max(these.low, those.high + 1), _table={})
        for member in those.members:
            if member not in these.members:
                yield these.intersect(_none(member)) or _IMPOSSIBLE

    def _rests(self, these: Objects, those: Objects, free: algebra.Re) -> Iterator[Objects]:
        for names_a, mine in these.rest:
            for names_b, theirs in those.rest:
                if mine == FALSE or implied(mine, theirs):
                    continue
                names = algebra.both(names_a, names_b, free)
                if not decide.is_empty(names):
                    value = TRUE if self.disjoint(mine, theirs) else negate(theirs)
                    yield replace(these, members=(*these.members, Member(names, value)), _table={})

    def _outside(self, mine: Formula, theirs: Formula) -> Formula:
        """What is in the first and not in the second; FALSE where that is plainly nothing."""
        if mine == FALSE or implied(mine, theirs):
            return FALSE
        if self.disjoint(mine, theirs):
            return mine
        value = every(mine, negate(theirs))
        return FALSE if value.kind == AND and self.vacant(value) else value

    def arrays(self, these: Arrays, those: Arrays) -> list[Arrays]:
        """The first without the second, as a union. Raises `NoComplement`."""
        if those.unique and not these.unique:
            raise NoComplement
        found = (a.normal() for a in self._arrays(these, those))
        return list(dict.fromkeys(a for a in found if a is not None))

    def _arrays(self, these: Arrays, those: Arrays) -> Iterator[Arrays]:
        if those.low > these.low:
            yield replace(these, high=_least(these.high, those.low - 1))
        if those.high is not None and (these.high is None or these.high > those.high):
            yield replace(these, low=max(these.low, those.high + 1))
        width = max(len(these.prefix), len(those.prefix))
        items = tuple(these.item(at) for at in range(width))
        for at in range(width):
            value = self._outside(these.item(at), those.item(at))
            if value != FALSE:
                prefix = (*items[:at], value, *items[at + 1 :])
                yield replace(these, prefix=prefix, low=max(these.low, at + 1))
        if self._outside(these.rest, those.rest) != FALSE:
            low = max(these.low, width + 1)
            stray = Count(negate(those.rest), 1, None, width)
            apart = self.disjoint(these.rest, those.rest)
            counts = these.counts if apart else (*these.counts, stray)
            yield replace(these, low=low, counts=counts)
        for count in those.counts:
            if count not in these.counts:
                yield from _miscounted(these, count)


_IMPOSSIBLE = Objects(low=1, high=0)


def _none(member: Member) -> Objects:
    """Objects without such a member."""
    strangers = algebra.negate(member.names)
    rest = ((member.names, negate(member.value)), (strangers, TRUE))
    return Objects(rest=tuple(p for p in rest if not decide.is_empty(p[0])))


def _miscounted(these: Arrays, count: Count) -> Iterator[Arrays]:
    if count.low > 0:
        few = replace(count, low=0, high=count.low - 1)
        yield replace(these, counts=(*these.counts, few))
    if count.high is not None:
        many = replace(count, low=count.high + 1, high=None)
        yield replace(these, counts=(*these.counts, many))


def _least(a: int | None, b: int) -> int:
    return b if a is None else min(a, b)


def within(these: Objects, those: Objects) -> bool:
    """Whether every one of the first is plainly one of the second."""
    if these.low < those.low or not set(those.required) <= set(these.required):
        return False
    if those.high is not None and (these.high is None or these.high > those.high):
        return False
    if not set(those.members) <= set(these.members):
        return False
    if these.rest != those.rest and not all(v == TRUE for _, v in those.rest):
        return False
    return all(implied(these.value(n), those.value(n)) for n, _ in (*those.named, *these.named))
