"""A set of JSON values, one level deep: per type, which ones; what is inside stays a formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from provider.protocol.schema import arrays, numbers, objects
from provider.protocol.schema.arrays import Arrays
from provider.protocol.schema.formula import FALSE, Formula, is_
from provider.protocol.schema.numbers import Numbers, exact
from provider.protocol.schema.objects import Objects
from provider.protocol.schema.regular import algebra
from provider.protocol.schema.regular.algebra import Re
from provider.protocol.schema.regular.effort import spend

_ALTERNATIVES = 400
_PAIRS = 20_000
T = TypeVar("T", Numbers, Arrays, Objects)


class TooManyAlternatives(Exception):
    """The set is a union of more parts than we are willing to write down."""


class NoComplement(Exception):
    """What is left when this set is taken away cannot be written as a grammar."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The union of its parts. `booleans`: which of the two; `strings`: a regular language."""

    null: bool = False
    booleans: frozenset[bool] = frozenset()
    numbers: tuple[Numbers, ...] = ()
    strings: Re = algebra.EMPTY
    arrays: tuple[Arrays, ...] = ()
    objects: tuple[Objects, ...] = ()

    def intersect(self, other: Shape) -> Shape:
        if self == ANYTHING or other == ANYTHING:
            return other if self == ANYTHING else self
        return Shape(
            self.null and other.null,
            self.booleans & other.booleans,
            _pairs(self.numbers, other.numbers, Numbers.intersect),
            algebra.both(self.strings, other.strings),
            _pairs(self.arrays, other.arrays, Arrays.intersect),
            _pairs(self.objects, other.objects, Objects.intersect),
        )

    def union(self, other: Shape) -> Shape:
        return Shape(
            self.null or other.null,
            self.booleans | other.booleans,
            _bounded(self.numbers + other.numbers),
            algebra.alt(self.strings, other.strings),
            _bounded(self.arrays + other.arrays),
            _bounded(self.objects + other.objects),
        )


def _bounded(parts: Sequence[T]) -> tuple[T, ...]:
    found = tuple(dict.fromkeys(parts))
    if len(found) > (_PAIRS if found and isinstance(found[0], Numbers) else _ALTERNATIVES):
        raise TooManyAlternatives
    return found


def _pairs(a: tuple[T, ...], b: tuple[T, ...], meet: Callable[[T, T], T | None]) -> tuple[T, ...]:
    if len(a) * len(b) > _PAIRS:
        raise TooManyAlternatives
    spend(len(a) * len(b))
    return _bounded([m for x in a for y in b if (m := meet(x, y)) is not None])


def remove(
    these: tuple[T, ...], those: tuple[T, ...], without: Callable[[T, T], list[T]]
) -> tuple[T, ...]:
    """What is in none of the second."""
    found = these
    for other in those:
        spend(len(found))
        found = _bounded([rest for one in found for rest in without(one, other)])
    return found


ANYTHING = Shape(True, frozenset({True, False}), numbers.ALL, algebra.ALL, arrays.ALL, objects.ALL)


def only_objects(*objects_: Objects) -> Shape:
    """Anything, but objects only of these sets."""
    return replace(ANYTHING, objects=objects_)


def only_arrays(*arrays_: Arrays) -> Shape:
    """Anything, but arrays only of these sets."""
    return replace(ANYTHING, arrays=arrays_)


TYPES: dict[str, Shape] = {
    "null": Shape(null=True),
    "boolean": Shape(booleans=frozenset({True, False})),
    "number": Shape(numbers=numbers.ALL),
    "integer": Shape(numbers=(Numbers(whole=True),)),
    "string": Shape(strings=algebra.ALL),
    "array": Shape(arrays=arrays.ALL),
    "object": Shape(objects=objects.ALL),
}


def constants(values: Sequence[Any]) -> Shape:
    """Exactly these JSON values (`enum`)."""
    plain = Shape(
        None in values,
        frozenset(v for v in values if isinstance(v, bool)),
        _bounded_numbers(values),
        algebra.literals(v for v in values if isinstance(v, str)),
    )
    nested = [constant(v) for v in values if isinstance(v, (list, dict))]
    return Shape(
        plain.null,
        plain.booleans,
        plain.numbers,
        plain.strings,
        tuple(dict.fromkeys(a for s in nested for a in s.arrays)),
        tuple(dict.fromkeys(o for s in nested for o in s.objects)),
    )


def _bounded_numbers(values: Sequence[Any]) -> tuple[Numbers, ...]:
    found = (exact(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool))
    return tuple(dict.fromkeys(Numbers(v, v) for v in found))


def constant(value: Any) -> Shape:
    """Exactly this JSON value (`const`)."""
    if isinstance(value, list):
        items = tuple(_inner(v) for v in value)
        return Shape(arrays=(Arrays(prefix=items, low=len(items), high=len(items)),))
    if isinstance(value, dict):
        named = tuple((name, _inner(v)) for name, v in value.items())
        closed = ((algebra.ALL, FALSE),)
        return Shape(objects=(Objects(named, closed, tuple(value)),))
    return constants([value])


def _inner(value: Any) -> Formula:
    return is_(constant(value))
