"""Formulas to grammar rules: one rule per formula, made once, however often it is met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from provider.protocol.schema.constraint import COMPACT
from provider.protocol.schema.formula import IS, NODE, OR, TRUE, Formula, is_
from provider.protocol.schema.grammar import Grammar, Symbol, choice
from provider.protocol.schema.limits import MAX_OPEN, MAX_RULES
from provider.protocol.schema.numbers import NotRegular, Numbers
from provider.protocol.schema.refused import SchemaRefused
from provider.protocol.schema.regular import algebra, decide, numerals, terminal
from provider.protocol.schema.regular.algebra import Re
from provider.protocol.schema.regular.effort import TooComplex
from provider.protocol.schema.shape import ANYTHING, NoComplement, Shape, TooManyAlternatives
from provider.protocol.schema.values import Values

if TYPE_CHECKING:
    from provider.protocol.schema.sites import Site

OPEN_BRACE, CLOSE_BRACE = Symbol("text", text='"{"'), Symbol("text", text='"}"')
OPEN_BRACKET, CLOSE_BRACKET = Symbol("text", text='"["'), Symbol("text", text='"]"')
COMMA = Symbol("text", text='","')
_SUSPECTS = ("oneOf", "not", "if", "anyOf", "allOf", "dependentSchemas", "dependencies", "$ref")
_ANY = {tail: terminal.json_string(algebra.ALL, tail) for tail in ('"', '":')}
_NULL = Symbol("text", text='"null"')
_BOOLEANS = {True: Symbol("text", text='"true"'), False: Symbol("text", text='"false"')}


class Emitter:
    """Grows a grammar from formulas over one document."""

    def __init__(self, values: Values, prefix: str = "") -> None:
        self.values = values
        self.grammar = Grammar(prefix)
        self._rules: dict[tuple[Formula, bool], Symbol] = {}
        self._pending: list[tuple[Symbol, Formula, bool]] = []
        self.canonical = False
        """Whether the value being written is compared, and so needs one text only."""
        self.guarded = False
        """Whether some array has items that the matcher must compare."""
        self._origins: dict[Formula, int] = {}

    def start(self, formula: Formula) -> Symbol:
        """The rule of `formula`; all that it needs is defined when this returns."""
        rule = self.rule(formula)
        while self._pending:
            waiting, what, self.canonical = self._pending.pop()
            self._define(waiting, what)
            if len(self.grammar.rules) > MAX_RULES:
                raise self._unwieldy(what)
        return rule

    def survey(self, formula: Formula) -> Site:
        """Where the matcher must compare items."""
        from provider.protocol.schema.sites import sites

        try:
            return sites(self.values, formula, self._pointer)
        except (TooComplex, TooManyAlternatives, NoComplement) as why:
            raise self._unwieldy(formula) from why

    def _define(self, rule: Symbol, formula: Formula) -> None:
        try:
            self.grammar.define(rule, self._body(formula))
        except SchemaRefused as refusal:
            if refusal.path:
                raise
            raise refusal.inside(self._pointer(formula)) from refusal
        except (TooComplex, TooManyAlternatives, NoComplement) as why:
            raise self._unwieldy(formula) from why

    def _pointer(self, formula: Formula) -> str:
        """The place that a formula comes from, or one of those it is made of."""
        stack = [formula]
        while stack:
            at = stack.pop()
            address = at.args[0] if at.kind == NODE else self._origins.get(at)
            if address is not None:
                return self.values.document.place(address).pointer
            stack += [a for a in reversed(at.args) if isinstance(a, Formula)]
        return ""

    def _unwieldy(self, formula: Formula) -> SchemaRefused:
        culprit = self.values.culprit
        pointer, keyword = self._pointer(formula), ""
        if culprit is not None:
            place = self.values.document.place(culprit)
            pointer = place.pointer
            keyword = next((k for k in _SUSPECTS if k in place.schema), "")
        return SchemaRefused(
            keyword,
            pointer,
            "its alternatives overlap in too many ways to be told apart exactly.",
            mend="Use 'anyOf', or give each alternative a required property with its own 'const'.",
        )

    def rule(self, formula: Formula) -> Symbol:
        formula = self._resolved(formula)
        key = (formula, self.canonical)
        found = self._rules.get(key)
        if found is None:
            found = self._rules[key] = self.grammar.reserve()
            self._pending.append((found, formula, self.canonical))
        return found

    @contextmanager
    def compared(self) -> Iterator[None]:
        """Inside of it, rules are those of items that the matcher compares."""
        before, self.canonical, self.guarded = self.canonical, True, True
        yield
        self.canonical = before

    def _resolved(self, formula: Formula) -> Formula:
        """Follow plain references, so that equal things share a rule."""
        for _ in range(100):
            if formula.kind != NODE:
                break
            meaning = self.values.meaning(formula.args[0])
            if meaning.kind not in (NODE, IS) and meaning != TRUE:
                break
            self._origins.setdefault(meaning, formula.args[0])
            formula = meaning
        return is_(ANYTHING) if formula == TRUE else formula

    def _body(self, formula: Formula) -> Symbol:
        meaning = formula
        if formula.kind == NODE:
            meaning = self.values.meaning(formula.args[0])
        if meaning.kind == OR:
            self.values.check_ends(formula)
            return choice([self.rule(option) for option in meaning.args])
        return self._shape(self.values.shape(formula))

    def _shape(self, shape: Shape) -> Symbol:
        from provider.protocol.schema.emit_arrays import array
        from provider.protocol.schema.emit_objects import object_

        options: list[Symbol] = [_NULL] if shape.null else []
        options += [_BOOLEANS[b] for b in sorted(shape.booleans, reverse=True)]
        options += self._numbers(shape.numbers)
        if shape.strings != algebra.EMPTY and not decide.is_empty(shape.strings):
            options.append(self.string(shape.strings))
        if sum(len(o.named) for o in shape.objects) > MAX_OPEN and len(shape.objects) > 1:
            raise TooManyAlternatives
        options += [array(self, a) for a in shape.arrays]
        options += [object_(self, s) for o in shape.objects for s in o.settled()]
        return choice(options)

    def string(self, texts: Re) -> Symbol:
        """The terminal of the JSON texts of these strings."""
        return self._terminal(texts, '"')

    def names(self, texts: Re) -> Symbol:
        """The terminal of these property names, each with the colon after it."""
        return self._terminal(texts, '":')

    def _terminal(self, texts: Re, tail: str) -> Symbol:
        """Any string is written once and named where others are less than it: llguidance would
        read it anew for every object that is open."""
        self.grammar.weight += algebra.weight(texts)
        expression, any_ = terminal.json_string(texts, tail), _ANY[tail]
        if expression.startswith(any_) and len(expression) > len(any_):
            return self.grammar.terminal(expression[len(any_) :], self.grammar.terminal(any_))
        return self.grammar.terminal(expression)

    def name(self, text: str) -> Symbol:
        """The literal of a property name and the colon after it."""
        return Symbol("text", text=terminal.literal(encode_basestring(text) + ":"))

    def _numbers(self, parts: tuple[Numbers, ...]) -> list[Symbol]:
        regular, options = [], []
        for part in parts:
            try:
                regular.append(part.texts())
            except NotRegular:
                if self.canonical and not part.whole:
                    raise _uncounted() from None
                schema = {**_counted(part), "x-guidance": COMPACT}
                options.append(self.grammar.embedded(f"%json {json.dumps(schema)}"))
        texts = algebra.alt(*regular)
        if self.canonical:
            texts = algebra.both(texts, numerals.SHORTEST)
        if texts != algebra.EMPTY and not decide.is_empty(texts):
            self.grammar.weight += algebra.weight(texts)
            options.append(self.grammar.terminal(terminal.plain(texts)))
        return options


def _counted(part: Numbers) -> dict[str, object]:
    try:
        return part.as_schema()
    except NotRegular:
        raise _uncounted() from None


def _uncounted() -> SchemaRefused:
    return SchemaRefused(
        "multipleOf",
        "",
        "multiples of this step, within these bounds, cannot be enforced by a grammar.",
        mend="Use a step that divides a power of ten, or one of at most 1000.",
    )
