"""ECMA-262 patterns, as JSON Schema uses them, as regular languages of whole strings.

A pattern is a search (it may match anywhere) and may look ahead; both become Boolean operations on
languages: `^(?!a)b` is what starts with `b` and not with `a`. `\\d`, `\\w`, `\\b` and `.` are those
of ECMA (ASCII digits and word characters; no line ends). Not regular, so refused: back-references.
Not done: look-behind, most assertions inside a repetition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from provider.protocol.schema.regular import algebra, charset
from provider.protocol.schema.regular.algebra import ALL, EMPTY, EPSILON, Re
from provider.protocol.schema.regular.ecma_parse import (
    Assertion,
    Choice,
    Group,
    Item,
    PatternRefused,
    parse,
)

__all__ = ["PatternRefused", "search"]


Before = Literal["start", "word", "other", "any"]
"""What stands before: nothing, a word character, another one, or one of which nothing is known
(because nothing that follows asks for it)."""

_WORD = algebra.one_of(charset.WORD)
_OTHER = algebra.one_of(charset.complement(charset.WORD))
_LASTS: tuple[tuple[Before, Re], ...] = (("word", _WORD), ("other", _OTHER))


@lru_cache(maxsize=1024)
def search(pattern: str) -> Re:
    """The strings in which `pattern` matches somewhere. Raises `PatternRefused`."""
    tree = parse(pattern)
    budget = _Budget(2000)
    anchored = _follow([tree], ALL, "start", budget)
    if _always_at_start(tree):
        return anchored
    if _mentions([tree], "edge"):
        return algebra.alt(anchored, *(
            algebra.cat(ALL, last, _follow([tree], ALL, before, budget))
            for before, last in _LASTS
        ))  # fmt: skip
    later = _follow([tree], ALL, "any", budget)
    if anchored == later:
        return algebra.cat(ALL, later)
    return algebra.alt(anchored, algebra.cat(algebra.ANY, ALL, later))


@dataclass
class _Budget:
    """Alternatives with assertions multiply; this many steps are spent on one pattern."""

    left: int

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise PatternRefused("the assertions in it combine in too many ways")


def _follow(items: list[Item], after: Re, start: Before, budget: _Budget) -> Re:
    """The language of the rest of the string: `items`, then `after`.

    `start` tells what has been consumed before.
    """
    budget.spend()
    if not items:
        return after
    first, rest = items[0], items[1:]
    if isinstance(first, Re):
        return _consume(first, rest, after, start, budget)
    if isinstance(first, Choice):
        if _plain(first):
            return _consume(_language(first), rest, after, start, budget)
        branches = (_follow([*b, *rest], after, start, budget) for b in first.branches)
        return algebra.alt(*branches)
    if isinstance(first, Group):
        return _repeat(first, rest, after, start, budget)
    return _assert(first, rest, after, start, budget)


def _consume(r: Re, rest: list[Item], after: Re, start: Before, budget: _Budget) -> Re:
    if r == EPSILON:
        return _follow(rest, after, start, budget)
    if _mentions(rest, "edge"):
        return _by_last(r, rest, after, start, budget)
    if start != "start" or not _mentions(rest, "start"):
        return algebra.cat(r, _follow(rest, after, "any", budget))
    later = _follow(rest, after, "any", budget)
    solid = algebra.both(r, algebra.repeat(algebra.ANY, 1)) if r.nullable else r
    moved = algebra.cat(solid, later)
    if not r.nullable:
        return moved
    return algebra.alt(_follow(rest, after, "start", budget), moved)


def _by_last(r: Re, rest: list[Item], after: Re, start: Before, budget: _Budget) -> Re:
    """`r`, then the rest, told apart by the last character of `r`."""
    options = [_follow(rest, after, start, budget)] if r.nullable else []
    for before, last in _LASTS:
        if r.kind == algebra.SET:
            ending = algebra.one_of(charset.intersect(r.args[0], last.args[0]))
        else:
            ending = algebra.both(r, algebra.cat(ALL, last))
        if ending != EMPTY:
            options.append(algebra.cat(ending, _follow(rest, after, before, budget)))
    return algebra.alt(*options)


def _repeat(group: Group, rest: list[Item], after: Re, start: Before, budget: _Budget) -> Re:
    if _plain(group.body):
        r = algebra.repeat(_language(group.body), group.low, group.high)
        return _consume(r, rest, after, start, budget)
    if group.high is None or group.high > 4:
        found = _tempered(group, rest, after, budget)
        if found is not None:
            return found
        raise PatternRefused("an assertion inside a repetition is not supported")
    options = [
        _follow([group.body] * times + rest, after, start, budget)
        for times in range(group.low, group.high + 1)
    ]
    return algebra.alt(*options)


def _tempered(group: Group, rest: list[Item], after: Re, budget: _Budget) -> Re | None:
    """`((?!x).)*` up to the end of the string, or up to where anything may follow."""
    branch = group.body.branches[0] if isinstance(group.body, Choice) else []
    if len(branch) != 2 or not isinstance(group.body, Choice) or len(group.body.branches) != 1:
        return None
    look, char = branch
    if not isinstance(look, Assertion) or look.kind != "ahead" or not look.negative:
        return None
    if not isinstance(char, Re) or char.kind != algebra.SET or look.body is None:
        return None
    if _mentions([look.body], "start") or _mentions([look.body], "edge"):
        return None
    ahead = _follow([look.body], ALL, "any", budget)
    here = algebra.both(ahead, algebra.repeat(algebra.ANY, 1))
    if rest and not all(isinstance(i, Assertion) and i.kind == "end" for i in rest):
        return None
    if rest:
        body = algebra.repeat(char, group.low, group.high)
        return algebra.both(body, algebra.negate(algebra.cat(ALL, here)))
    if after != ALL or group.low > 1:
        return None
    return algebra.both(algebra.cat(char, ALL), algebra.negate(ahead)) if group.low else ALL


def _assert(look: Assertion, rest: list[Item], after: Re, start: Before, budget: _Budget) -> Re:
    if look.kind == "start":
        return _follow(rest, after, start, budget) if start == "start" else EMPTY
    remaining = _follow(rest, after, start, budget)
    if look.kind == "edge":
        word = algebra.cat(_WORD, ALL)
        inside = (start == "word") != look.negative
        return algebra.both(remaining, algebra.negate(word) if inside else word)
    if look.kind == "end":
        return EPSILON if remaining.nullable else EMPTY
    assert look.body is not None
    ahead = _follow([look.body], ALL, start, budget)
    return algebra.both(algebra.negate(ahead) if look.negative else ahead, remaining)


def _plain(item: Item) -> bool:
    """No assertion anywhere inside."""
    if isinstance(item, Re):
        return True
    if isinstance(item, Choice):
        return all(_plain(i) for b in item.branches for i in b)
    return isinstance(item, Group) and _plain(item.body)


def _language(item: Item) -> Re:
    """The language of an item without assertions."""
    if isinstance(item, Re):
        return item
    if isinstance(item, Choice):
        return algebra.alt(*(algebra.cat(*map(_language, b)) for b in item.branches))
    assert isinstance(item, Group)
    return algebra.repeat(_language(item.body), item.low, item.high)


def _mentions(items: list[Item], kind: Literal["start", "end", "edge"]) -> bool:
    for item in items:
        if isinstance(item, Assertion):
            if item.kind == kind or (item.body is not None and _mentions([item.body], kind)):
                return True
        elif isinstance(item, Choice):
            if any(_mentions(b, kind) for b in item.branches):
                return True
        elif isinstance(item, Group) and _mentions([item.body], kind):
            return True
    return False


def _always_at_start(tree: Choice) -> bool:
    return all(
        bool(b)
        and (
            (isinstance(b[0], Assertion) and b[0].kind == "start")
            or (isinstance(b[0], Choice) and _always_at_start(b[0]))
        )
        for b in tree.branches
    )
