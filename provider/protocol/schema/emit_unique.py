"""`uniqueItems` where the items come from a small set of values.

Which values have been used is a set of bits that llguidance's parametric rules carry along
(https://github.com/guidance-ai/llguidance/blob/main/docs/parametric.md). Whether two texts out of
infinitely many are equal is beyond any context-free grammar: there the matcher compares the items
(`guarded`).
"""

from __future__ import annotations

import json
from typing import Any

from provider.protocol.schema.arrays import Arrays
from provider.protocol.schema.emit import COMMA, Emitter
from provider.protocol.schema.formula import Formula, is_
from provider.protocol.schema.grammar import EMPTY_TEXT, Symbol, choice, sequence
from provider.protocol.schema.regular.algebra import LITS
from provider.protocol.schema.shape import Shape, constants
from provider.protocol.schema.values import Values

_BITS = 63


def listed(values: Values, arrays: Arrays) -> list[Shape] | None:
    """The values of all items, if they are few enough for the grammar to tell them apart."""
    if arrays.prefix or arrays.counts:
        return None
    return finite(values, arrays.rest)


def unique_items(emitter: Emitter, arrays: Arrays, members: list[Shape]) -> Symbol:
    rules = [emitter.rule(is_(s)) for s in members]
    grammar = emitter.grammar
    used = grammar.reserve("bits")
    low, width = arrays.low, len(members)
    high = width if arrays.high is None else min(arrays.high, width)
    if low > high:
        return choice([])
    enough = f"bit_count_ge(_, {low})"
    options = [Symbol("seq", when=enough)]
    for bit, rule in enumerate(rules):
        free = f"and(bit_clear({bit}), bit_count_lt(_, {high}))"
        again = Symbol("rule", rule=used.rule, text=f"set_bit({bit})")
        options.append(Symbol("seq", parts=(COMMA, rule, again), when=free))
    grammar.define(used, choice(options))
    first = [
        sequence([rule, Symbol("rule", rule=used.rule, text=f"{1 << bit:#x}")])
        for bit, rule in enumerate(rules)
    ]
    empty = [EMPTY_TEXT] if low == 0 else []
    return choice([*empty, *(first if high > 0 else [])])


def finite(values: Values, formula: Formula, limit: int = _BITS) -> list[Shape] | None:
    """The values of a formula, one shape each; None when they are too many or not listed."""
    shape = values.shape(formula)
    if shape.arrays or shape.objects or shape.strings.kind != LITS:
        return None
    found: list[Any] = [None] if shape.null else []
    found += sorted(shape.booleans)
    for numbers in shape.numbers:
        listed = numbers.values(limit)
        if listed is None:
            return None
        found += [int(v) if v.denominator == 1 else float(v) for v in listed]
    found += shape.strings.args
    distinct = {json.dumps(v): v for v in found}
    return [constants([v]) for v in distinct.values()] if len(distinct) <= limit else None
