"""Objects to grammar: named members in their order, then the others in any order.

A grammar cannot tell whether two names that it did not list are equal. So a repeated name may be
written among the open members; the last one counts, and each is valid by itself. Where the number
of *different* open names matters, the schema is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from provider.protocol.schema.emit import (
    CLOSE_BRACE,
    COMMA,
    OPEN_BRACE,
    Emitter,
)
from provider.protocol.schema.formula import FALSE, Formula, every
from provider.protocol.schema.grammar import (
    EMPTY_TEXT,
    NOTHING,
    Symbol,
    choice,
    optional,
    repeated,
    sequence,
)
from provider.protocol.schema.limits import MAX_OPTIONAL
from provider.protocol.schema.objects import Member, Objects
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.regular import algebra, decide
from provider.protocol.schema.shape import TooManyAlternatives

_STATES = 20_000
_BLOCK = 16
_FEW = 3


@dataclass(frozen=True, slots=True)
class _Field:
    member: Symbol
    required: bool


def object_(emitter: Emitter, objects: Objects) -> Symbol:
    return sequence([OPEN_BRACE, _Members(emitter, objects).all(), CLOSE_BRACE])


class _Members:
    """The members of an object from field `at` on, after `count` members (no more than `most`)."""

    def __init__(self, emitter: Emitter, objects: Objects) -> None:
        self.emitter = emitter
        self.low, self.high = objects.low, objects.high
        named = dict(objects.named)
        for name in objects.required:
            named.setdefault(name, objects.value(name))
        self.taken = algebra.literals(named)
        self.fields = [
            _Field(self._member(emitter.name(name), value), name in objects.required)
            for name, value in named.items()
            if value != FALSE
        ]
        if emitter.canonical:
            _check_open(objects)
        self.open = self._open(objects)
        self.hits = [self._hit(objects, m) for m in objects.members]
        _check_hits(objects.members)
        self.most = max(self.low, 1) if self.high is None else self.high
        if self.most * len(self.fields) > _STATES:
            raise TooManyAlternatives
        if sum(not f.required for f in self.fields) > MAX_OPTIONAL:
            raise SchemaRefused(
                "properties",
                "",
                f"it has more than {MAX_OPTIONAL} optional properties.",
                mend="Make them required, or split the object.",
            )
        self._rules: dict[tuple[int, int], Symbol] = {}
        self._waiting: list[tuple[int, int]] = []

    def all(self) -> Symbol:
        """All members, from the first field on; defines the rules that they need."""
        counted = self.most > 1 or self.high is not None
        found = self._after(0, 0) if counted else self._uncounted()
        while self._waiting:
            at = self._waiting.pop()
            self.emitter.grammar.define(self._rules[at], self._body(*at))
        return found

    def _member(self, name: Symbol, value: Formula) -> Symbol:
        return sequence([name, self.emitter.rule(value)])

    def _open_member(self, names: algebra.Re, value: Formula) -> Symbol:
        return sequence([self.emitter.names(names), self.emitter.rule(value)])

    def _open(self, objects: Objects) -> Symbol:
        options = []
        for names, value in objects.rest:
            free = self._free(names)
            if value != FALSE and not decide.is_empty(free):
                options.append(self._open_member(free, value))
        return choice(options)

    def _free(self, names: algebra.Re) -> algebra.Re:
        if self.taken == algebra.EMPTY:
            return names
        return algebra.both(names, algebra.negate(self.taken))

    def _hit(self, objects: Objects, member: Member) -> Symbol:
        options = []
        for names, value in objects.rest:
            free = algebra.both(self._free(names), member.names)
            if value != FALSE and not decide.is_empty(free):
                inner = every(value, member.value)
                options.append(self._open_member(free, inner))
        return choice(options)

    def _uncounted(self) -> Symbol:
        """Where numbers make no difference: around the first member that must be there, in one
        sequence; without one, the first that is there, and then the others."""
        first = next((at for at, field in enumerate(self.fields) if field.required), None)
        if first is not None:
            before = [optional(sequence([f.member, COMMA])) for f in self.fields[:first]]
            return sequence([*before, self.fields[first].member, *self._rest(first + 1)])
        few = len(self.fields) <= _FEW
        options = [
            sequence([field.member, *(self._rest(at + 1) if few else [self._rule(at + 1, 1)])])
            for at, field in enumerate(self.fields)
        ]
        return choice([*options, self._tail(0)])

    def _rest(self, at: int) -> list[Symbol]:
        """Fields from `at` on, each after a comma, and what follows them all."""
        rest = [sequence([COMMA, field.member]) for field in self.fields[at:]]
        steps = zip(rest, self.fields[at:], strict=True)
        return [
            *(part if field.required else optional(part) for part, field in steps),
            self._rule(len(self.fields), 1),
        ]

    def _after(self, at: int, count: int) -> Symbol:
        """Fields from `at` on, in one sequence as long as there is one way only."""
        parts: list[Symbol] = []
        while at < len(self.fields) and not self._forks(at, count):
            part, count = self._step(at, count)
            parts.append(part)
            at += 1
        return sequence([*parts, self._body(at, count)])

    def _forks(self, at: int, count: int) -> bool:
        """Whether it makes a difference if field `at` is there."""
        return not self.fields[at].required and count < self.most

    def _step(self, at: int, count: int) -> tuple[Symbol, int]:
        """Field `at` where it makes none: required, or optional with enough members before."""
        field = self.fields[at]
        if self.high is not None and count >= self.high:
            return (NOTHING if field.required else EMPTY_TEXT), count
        member = sequence([COMMA, field.member]) if count else field.member
        return (member if field.required else optional(member)), min(count + 1, self.most)

    def _body(self, at: int, count: int) -> Symbol:
        """Fields from `at` on; what follows is in rules, which other ways share.

        Fields of one block share a rule: llguidance follows rules by recursion, and a chain of
        some thousand would overflow its stack.
        """
        parts: list[Symbol] = []
        while at < len(self.fields) and not self._forks(at, count):
            part, count = self._step(at, count)
            parts.append(part)
            at += 1
            if at % _BLOCK == 0 or (len(parts) == 1 and (at - 1) % _BLOCK):
                return sequence([*parts, self._rule(at, count)])
        if at == len(self.fields):
            return sequence([*parts, self._tail(count)])
        if parts:
            return sequence([*parts, self._rule(at, count)])
        field = self.fields[at]
        member = sequence([COMMA, field.member]) if count else field.member
        taken = sequence([member, self._rule(at + 1, min(count + 1, self.most))])
        return choice([taken, self._rule(at + 1, count)])

    def _rule(self, at: int, count: int) -> Symbol:
        found = self._rules.get((at, count))
        if found is None:
            found = self._rules[at, count] = self.emitter.grammar.reserve()
            self._waiting.append((at, count))
        return found

    def _tail(self, count: int) -> Symbol:
        """Open members, then those that must be there: last, because the last of a name counts."""
        missing = max(self.low - count - len(self.hits), 0)
        left = None if self.high is None else self.high - count - len(self.hits)
        if (left is not None and left < 0) or (missing and self.open is NOTHING):
            return NOTHING
        if missing > 1 or (missing and self.hits):
            raise SchemaRefused(
                "minProperties",
                "",
                "a grammar cannot count different names that the schema does not list.",
                mend="List them in 'properties', or use an array.",
            )
        hits = [sequence([COMMA, hit]) for hit in self.hits]
        if count:
            more = repeated(sequence([COMMA, self.open]), missing, left)
            return sequence([EMPTY_TEXT if self.open is NOTHING else more, *hits])
        without = sequence([*self.hits[:1], *hits[1:]])
        if self.open is NOTHING or left == 0:
            return without
        rest = repeated(sequence([COMMA, self.open]), 0, None if left is None else left - 1)
        some = sequence([self.open, rest, *hits])
        return some if missing else choice([some, without])


def _check_open(objects: Objects) -> None:
    """Compared objects: another member can always be added, so that one is never stuck."""
    open_ = [names for names, value in objects.rest if value != FALSE]
    few = any(decide.is_finite(names) for names in open_)
    single = objects.high is not None and objects.high <= len(objects.required) + 1
    if open_ and (few or objects.high is not None) and not single:
        raise SchemaRefused(
            "uniqueItems",
            "",
            "its items are objects with a limited number of members that are not listed.",
            mend="List them in 'properties', and set 'additionalProperties' to false.",
        )


def _check_hits(members: tuple[Member, ...]) -> None:
    for at, member in enumerate(members):
        if any(not decide.disjoint(member.names, other.names) for other in members[:at]):
            raise TooManyAlternatives
