"""Formulas over schemas: and, or, not, over subschemas of the document and ready-made shapes.

A formula names a set of JSON values without computing it, so recursive schemas stay finite: only
`Algebra.shape` (one level at a time) looks inside. Formulas simplify as they are built and are
compared by structure, which makes them keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provider.protocol.schema.shape import Shape

AND, OR, NOT, NODE, IS = "and", "or", "not", "node", "is"


class Formula:
    """`args`: AND/OR the operands in order, NOT (operand,), NODE (address,), IS (Shape,)."""

    __slots__ = ("_hash", "args", "kind")

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        self.kind = kind
        self.args = args
        self._hash = hash((kind, args))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Formula)
            and self._hash == other._hash
            and self.kind == other.kind
            and self.args == other.args
        )

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(map(repr, self.args))})"


TRUE = Formula(AND, ())
FALSE = Formula(OR, ())


def node(address: int) -> Formula:
    """The subschema at an address of the document (`Document.addresses`)."""
    return Formula(NODE, (address,))


def is_(shape: Shape) -> Formula:
    return Formula(IS, (shape,))


def every(*operands: Formula) -> Formula:
    """Conjunction; the order of operands decides the order of properties."""
    if len(operands) == 2:  # by far the most frequent case
        first, second = operands
        if first is TRUE or first == second:
            return second
        if second is TRUE:
            return first
    return _join(AND, TRUE, FALSE, operands)


def some(*operands: Formula) -> Formula:
    return _join(OR, FALSE, TRUE, operands)


def _join(
    kind: str, neutral: Formula, absorbing: Formula, operands: tuple[Formula, ...]
) -> Formula:
    found: dict[Formula, None] = {}
    for operand in operands:
        pieces = operand.args if operand.kind == kind else (operand,)
        found.update(dict.fromkeys(pieces))
    found.pop(neutral, None)
    if absorbing in found:
        return absorbing
    if any(o.kind == NOT and o.args[0] in found for o in found):
        return absorbing
    if len(found) == 1:
        return next(iter(found))
    return Formula(kind, tuple(found)) if found else neutral


def negate(operand: Formula) -> Formula:
    if operand.kind == NOT:
        inner: Formula = operand.args[0]
        return inner
    if operand.kind == AND:
        return some(*(negate(o) for o in operand.args))
    if operand.kind == OR:
        return every(*(negate(o) for o in operand.args))
    return Formula(NOT, (operand,))
