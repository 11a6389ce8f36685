"""Where in a value the arrays of distinct items stand, when a grammar cannot compare the items.

A grammar forgets which alternative it is in, and so must the one who looks at its text from
outside: at each place, all alternatives that may be under way there are taken together. Where some
ask for distinct items and others do not, it is told by the kind of the first item, or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import product

from provider.protocol.schema.arrays import Arrays
from provider.protocol.schema.emit_unique import finite, listed
from provider.protocol.schema.formula import FALSE, NODE, OR, TRUE, Formula, every
from provider.protocol.schema.objects import Objects
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.regular import algebra, decide
from provider.protocol.schema.regular.algebra import Re
from provider.protocol.schema.regular.effort import TooComplex, spend
from provider.protocol.schema.shape import NoComplement, Shape, TooManyAlternatives
from provider.protocol.schema.values import Values

_PLACES = 20_000
_SPLITS = 64
_FEW = 4096
KINDS = "n" + "t" + "0" + '"' + "[" + "{"
"""null, booleans, numbers, strings, arrays, objects; as they begin (`kind`)."""


def kind(first: int) -> str:
    """The kind of a value that begins with this byte."""
    c = chr(first)
    return "0" if c in "-0123456789" else ("t" if c == "f" else c)


@dataclass(eq=False, slots=True)
class Site:
    """A place. `distinct`: kinds of first items of the arrays here whose items must differ."""

    distinct: frozenset[str] = frozenset()
    named: dict[str, Site] = field(default_factory=dict)
    others: list[tuple[Re, Site]] = field(default_factory=list)
    prefix: list[Site] = field(default_factory=list)
    rest: Site | None = None

    def member(self, name: str) -> Site | None:
        """The place of a member's value; None where nothing below needs attention."""
        found = self.named.get(name)
        if found is not None:
            return found if found.matters else None
        for names, site in self.others:
            if names is algebra.ALL or algebra.matches(names, name):
                return site if site.matters else None
        return None

    def item(self, index: int) -> Site | None:
        found = self.prefix[index] if index < len(self.prefix) else self.rest
        return found if found is not None and found.matters else None

    matters: bool = False
    even: bool = True
    """Whether all items of an array here are alike, whatever came before them."""

    def below(self) -> Iterable[Site]:
        yield from self.named.values()
        yield from (site for _, site in self.others)
        yield from self.prefix
        if self.rest is not None:
            yield self.rest


def sites(values: Values, start: Formula, pointer: Callable[[Formula], str]) -> Site:
    """The place of the whole value. Raises `SchemaRefused` where it cannot be told what to do;
    `pointer` tells where a formula comes from."""
    return _Survey(values, pointer).all(start)


_Alternatives = frozenset[Formula]


class _Survey:
    """Visits every place once, each a set of formulas."""

    def __init__(self, values: Values, pointer: Callable[[Formula], str]) -> None:
        self.values = values
        self._pointer = pointer
        self._sites: dict[_Alternatives, Site] = {}
        self._waiting: list[_Alternatives] = []

    def all(self, start: Formula) -> Site:
        root = self._site([start])
        while self._waiting:
            alternatives = self._waiting.pop()
            try:
                self._fill(self._sites[alternatives], alternatives)
            except SchemaRefused as refusal:
                where = next(iter(sorted(map(self._pointer, alternatives))), "")
                raise refusal.inside(where) from refusal
        self._mark()
        return root

    def _site(self, formulas: Iterable[Formula]) -> Site:
        key = frozenset(f for f in formulas if f != FALSE)
        found = self._sites.get(key)
        if found is None:
            if len(self._sites) >= _PLACES:
                raise TooManyAlternatives
            found = self._sites[key] = Site()
            if key and key != {TRUE}:
                self._waiting.append(key)
        return found

    def _mark(self) -> None:
        """What matters is where items must differ, and what leads there."""
        above: dict[Site, list[Site]] = {}
        for site in self._sites.values():
            for inner in site.below():
                above.setdefault(inner, []).append(site)
        queue = [site for site in self._sites.values() if site.distinct]
        for site in queue:
            if not site.matters:
                site.matters = True
                queue += above.get(site, ())

    def _fill(self, site: Site, alternatives: _Alternatives) -> None:
        shapes = list(self._shapes(alternatives))
        arrays = [a for s in shapes for a in s.arrays]
        objects = [o for s in shapes for o in s.objects]
        spend(1 + len(arrays) + len(objects))
        site.distinct = self._distinct(arrays)
        site.even = not any(a.prefix or a.counts for a in arrays)
        if arrays:
            width = max(len(a.prefix) for a in arrays)
            site.prefix = [self._site(self._items(arrays, at)) for at in range(width)]
            site.rest = self._site(self._items(arrays, width))
        if objects:
            self._members(site, objects)

    def _shapes(self, alternatives: _Alternatives) -> Iterable[Shape]:
        stack, seen = list(alternatives), set(alternatives)
        while stack:
            formula = stack.pop()
            meaning = formula
            if formula.kind == NODE:
                meaning = self.values.meaning(formula.args[0])
            if meaning.kind == OR or (meaning.kind == NODE and meaning != formula):
                inner = meaning.args if meaning.kind == OR else (meaning,)
                stack += [f for f in inner if f not in seen]
                seen.update(inner)
            else:
                yield self.values.shape(formula)

    @staticmethod
    def _items(arrays: list[Arrays], at: int) -> Iterable[Formula]:
        for array in arrays:
            yield array.item(at)
            yield from (every(array.item(at), count.item) for count in array.counts)

    def _distinct(self, arrays: list[Arrays]) -> frozenset[str]:
        guarded, free = [], []
        for array in arrays:
            if array.unique and listed(self.values, array) is None:
                guarded.append(array)
            elif not array.unique and (array.high is None or array.high > 1):
                free.append(array)
        if not guarded:
            return frozenset()
        wanted = self._kinds(guarded)
        for array in guarded:
            self._check(array)
        if wanted & self._kinds(free):
            raise SchemaRefused(
                "uniqueItems",
                "",
                "another alternative for the same place takes equal items.",
                mend="Ask for unique items in each alternative, or in none.",
            )
        return wanted

    def _kinds(self, arrays: list[Arrays]) -> frozenset[str]:
        found: set[str] = set()
        for array in arrays:
            shape = self.values.shape(array.item(0))
            has = (shape.null, shape.booleans, shape.numbers, shape.strings != algebra.EMPTY,
                   shape.arrays, shape.objects)  # fmt: skip
            found.update(k for k, there in zip(KINDS, has, strict=True) if there)
        return frozenset(found)

    def _check(self, array: Arrays) -> None:
        """There must be enough items that differ, and a way to write another one."""
        kinds = [replace(array, rest=every(array.rest, c.item), low=c.low) for c in array.counts]
        if any(a.low > 1 and not self._plenty(a) for a in (array, *kinds)):
            raise SchemaRefused(
                "uniqueItems",
                "",
                f"it cannot be told whether there are {array.low} different items.",
                mend="Lower 'minItems' to 1.",
            )

    def _plenty(self, array: Arrays) -> bool:
        return not array.prefix and plenty(self.values, array.rest, array.low, set())

    def _members(self, site: Site, objects: list[Objects]) -> None:
        names = dict.fromkeys(n for o in objects for n, _ in o.named)
        names.update(dict.fromkeys(n for o in objects for n in o.required))
        for name in names:
            site.named[name] = self._site(
                value
                for o in objects
                for value in (o.value(name), *(every(o.value(name), m.value) for m in o.members))
            )
        for language, found in self._rests(objects):
            inner = [v for o in objects for m in o.members for v in (m.value,)]
            site.others.append((language, self._site([*found, *(every(f, v) for f in found
                                                                for v in inner)])))  # fmt: skip

    def _rests(self, objects: list[Objects]) -> list[tuple[Re, list[Formula]]]:
        tables = list(dict.fromkeys(o.rest for o in objects))
        ways = 1
        for table in tables:
            ways *= len(table)
        if ways > _SPLITS:
            return [(algebra.ALL, [value for table in tables for _, value in table])]
        found = []
        for combination in product(*tables):
            language = algebra.both(*(names for names, _ in combination))
            if len(tables) == 1 or not decide.is_empty(language):
                found.append((language, [value for _, value in combination]))
        return found


def plenty(values: Values, formula: Formula, many: int, met: set[Formula]) -> bool:
    """Whether there are plainly so many different values (False: it is not plain)."""
    if formula in met:
        return False
    try:
        shape = values.shape(formula)
    except (TooComplex, TooManyAlternatives, NoComplement):
        return False
    listed_ = finite(values, formula, _FEW)
    if listed_ is not None:
        return len(listed_) >= many
    if any(not n.bounded() or n.values(many) is None for n in shape.numbers):
        return True
    if shape.strings != algebra.EMPTY and decide.has(shape.strings, many):
        return True
    inner = met | {formula}
    for o in shape.objects:
        open_ = any(v != FALSE and not decide.is_finite(n) for n, v in o.rest)
        if o.high is None and open_ and not o.members:
            return True
        if any(plenty(values, o.value(name), many, inner) for name in o.required):
            return True
    return False


__all__ = ["KINDS", "Site", "kind", "plenty", "sites"]
