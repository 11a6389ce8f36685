"""Sets of JSON values: what a formula means, one level at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

from provider.protocol.schema import arrays
from provider.protocol.schema.arrays import Arrays
from provider.protocol.schema.difference import Difference, within
from provider.protocol.schema.document import Document
from provider.protocol.schema.formula import (
    AND,
    FALSE,
    IS,
    NODE,
    NOT,
    Formula,
    every,
    negate,
    some,
)
from provider.protocol.schema.numbers import Numbers
from provider.protocol.schema.objects import Objects
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.regular import algebra, decide
from provider.protocol.schema.regular.effort import TooComplex, spend
from provider.protocol.schema.shape import (
    ANYTHING,
    NoComplement,
    Shape,
    TooManyAlternatives,
    remove,
)

_DEPTH = 4
_FEW = 8


class Circular(SchemaRefused):
    """A reference that leads back to itself; also seen while a reference is still being read."""


class Values:
    """The meaning of formulas over one document.

    `read` gives the formula of a subschema (`keywords.read`). Shapes are computed once each.
    `culprit` is the place of the first subschema that grew out of hand.
    """

    def __init__(self, document: Document, read: Callable[[Values, int], Formula]) -> None:
        self.document = document
        self._read = read
        self._meanings: dict[int, Formula] = {}
        self._shapes: dict[Formula, Shape] = {}
        self._under_way: set[Formula] = set()
        self._ending: set[Formula] = set()
        self.culprit: int | None = None
        self._disjoint: dict[tuple[Formula, Formula, int], bool] = {}
        self._difference = Difference(self.disjoint, self._vacant)

    def let_go(self) -> None:
        """Cut the only circle of references, so that all of it is freed without the collector."""
        del self._difference

    def meaning(self, address: int) -> Formula:
        found = self._meanings.get(address)
        if found is None:
            found = self._meanings[address] = self._read(self, address)
        return found

    def shape(self, formula: Formula) -> Shape:
        found = self._shapes.get(formula)
        if found is None:
            if formula in self._under_way:
                raise self._endless(formula)
            self._under_way.add(formula)
            try:
                found = self._shapes[formula] = self._compute(formula)
            except (TooComplex, TooManyAlternatives, NoComplement):
                if self.culprit is None and formula.kind == NODE:
                    self.culprit = formula.args[0]
                raise
            finally:
                self._under_way.discard(formula)
        return found

    def _compute(self, formula: Formula) -> Shape:
        spend(20)
        if formula.kind == IS:
            shape: Shape = formula.args[0]
            return shape
        if formula.kind == NODE:
            return self.shape(self.meaning(formula.args[0]))
        if formula.kind == NOT:
            return self._without(ANYTHING, self.shape(formula.args[0]))
        if formula.kind == AND:
            return self._all(formula.args)
        found = Shape()
        for operand in formula.args:
            found = found.union(self.shape(operand))
        return found

    def _all(self, operands: tuple[Formula, ...]) -> Shape:
        """The intersection. Formulas grow at their end, so all but the last is often known."""
        found, rest = ANYTHING, operands
        known = self._shapes.get(Formula(AND, operands[:-1])) if len(operands) > 2 else None
        if known is not None:
            found, rest = known, operands[-1:]
        for operand in sorted(rest, key=lambda o: o.kind == NOT):
            if operand.kind == NOT:
                found = self._without(found, self.shape(operand.args[0]))
            else:
                found = self._tidy(found.intersect(self.shape(operand)))
        return found

    def _without(self, these: Shape, those: Shape) -> Shape:
        return Shape(
            these.null and not those.null,
            these.booleans - those.booleans,
            remove(these.numbers, those.numbers, Numbers.without),
            algebra.both(these.strings, algebra.negate(those.strings)),
            remove(these.arrays, those.arrays, self._arrays_without),
            self._objects_without(these.objects, those.objects),
        )

    def _arrays_without(self, these: Arrays, those: Arrays) -> list[Arrays]:
        if self._arrays_apart(these, those, _DEPTH - 1):
            return [these]
        return self._difference.arrays(these, those)

    def _objects_without(
        self, these: tuple[Objects, ...], those: tuple[Objects, ...]
    ) -> tuple[Objects, ...]:
        found = these
        for other in those:
            found = remove(found, (other,), self._object_without)
            if len(found) > _FEW:
                found = _widest(found)
        return found

    def _object_without(self, these: Objects, those: Objects) -> list[Objects]:
        if self._objects_apart(these, those, _DEPTH - 1):
            return [these]
        return self._difference.objects(these, those)

    def check_ends(self, formula: Formula) -> None:
        """Refuse references that lead back to themselves without a step into a value."""
        if formula in self._ending:
            return
        if formula in self._under_way:
            raise self._endless(formula)
        self._under_way.add(formula)
        try:
            inner = (self.meaning(formula.args[0]),) if formula.kind == NODE else formula.args
            for part in inner:
                if isinstance(part, Formula):
                    self.check_ends(part)
        finally:
            self._under_way.discard(formula)
        self._ending.add(formula)

    def _tidy(self, shape: Shape) -> Shape:
        """Without objects that need a member which cannot be: chains of `if` on one property
        would double the alternatives with every link."""
        if len(shape.objects) < 3:
            return shape
        kept = tuple(o for o in shape.objects if not self._hopeless(o))
        return shape if len(kept) == len(shape.objects) else replace(shape, objects=kept)

    def _hopeless(self, objects: Objects) -> bool:
        return any(
            v.kind == AND and self._vacant(v) for n, v in objects.named if n in objects.required
        )

    def _vacant(self, formula: Formula) -> bool:
        """Whether a set has plainly no member."""
        if formula in self._under_way:
            return False
        try:
            shape = self.shape(formula)
            return not (
                shape.null or shape.booleans or shape.numbers or shape.arrays or shape.objects
            ) and decide.is_empty(shape.strings)
        except (TooComplex, TooManyAlternatives, NoComplement, Circular):
            self.culprit = None
            return False

    def _endless(self, formula: Formula) -> Circular:
        pointer = ""
        if formula.kind == NODE:
            pointer = self.document.place(formula.args[0]).pointer
        return Circular(
            "$ref",
            pointer,
            "the reference leads back to itself without a step into a property or an item.",
            mend="Remove the cycle.",
        )

    def exactly_one(self, options: list[Formula]) -> Formula:
        """`oneOf`: options that may meet are kept apart by taking the others away."""
        parts = []
        for at, option in enumerate(options):
            others = [
                negate(other)
                for to, other in enumerate(options)
                if to != at and not self.disjoint(option, other)
            ]
            parts.append(every(option, *others))
        return some(*parts)

    def disjoint(self, a: Formula, b: Formula, depth: int = _DEPTH) -> bool:
        """Whether no value is in both; False may also mean that it is not plain to see."""
        if FALSE in (a, b):
            return True
        if a == b or depth == 0:
            return False
        key = (a, b, depth)
        if key not in self._disjoint:
            self._disjoint[key] = False
            try:
                self._disjoint[key] = self._apart(self.shape(a), self.shape(b), depth - 1)
            except (TooComplex, TooManyAlternatives, NoComplement):
                self.culprit = None
                self._disjoint[key] = False
            except Circular:
                del self._disjoint[key]
                return False
        return self._disjoint[key]

    def _apart(self, a: Shape, b: Shape, depth: int) -> bool:
        spend(1 + len(a.objects) * len(b.objects))
        if (a.null and b.null) or a.booleans & b.booleans:
            return False
        if any(x.intersect(y) is not None for x in a.numbers for y in b.numbers):
            return False
        if any(not self._arrays_apart(x, y, depth) for x in a.arrays for y in b.arrays):
            return False
        if any(not self._objects_apart(x, y, depth) for x in a.objects for y in b.objects):
            return False
        return decide.disjoint(a.strings, b.strings)

    def _arrays_apart(self, a: Arrays, b: Arrays, depth: int) -> bool:
        low, high = max(a.low, b.low), arrays.least(a.high, b.high)
        if high is not None and low > high:
            return True
        return any(self.disjoint(a.item(i), b.item(i), depth) for i in range(min(low, 8)))

    def _objects_apart(self, a: Objects, b: Objects, depth: int) -> bool:
        names = dict.fromkeys((*a.required, *b.required))
        high = arrays.least(a.high, b.high)
        if high is not None and max(len(names), a.low, b.low) > high:
            return True
        return any(self.disjoint(a.value(n), b.value(n), depth) for n in islice(names, 64))


def _widest(objects: tuple[Objects, ...]) -> tuple[Objects, ...]:
    """Without those that are plainly inside of another one."""
    kept: list[Objects] = []
    for one in objects:
        spend(len(kept))
        if any(within(one, other) for other in kept):
            continue
        kept = [other for other in kept if not within(other, one)]
        kept.append(one)
    return tuple(kept)
