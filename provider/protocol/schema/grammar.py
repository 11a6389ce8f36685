"""Context-free grammars and their text in llguidance's Lark dialect.

Rules that can never end (a value that requires itself, an empty set) and what depends on them are
taken out before the text is written: a grammar in use has no dead ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

EMPTY_TEXT: Symbol
NOTHING: Symbol


class Symbol:
    """A piece of a rule. `kind`: "text" (a terminal or literal), "rule", "seq", "alt", "rep".

    Not to be changed; a frozen dataclass would take three times as long to make."""

    __slots__ = ("high", "kind", "low", "parts", "rule", "text", "when")

    def __init__(
        self,
        kind: str,
        text: str = "",
        rule: int = -1,
        parts: tuple[Symbol, ...] = (),
        low: int = 0,
        high: int | None = None,
        when: str = "",
    ) -> None:
        self.kind = kind
        self.text = text
        self.rule = rule
        self.parts = parts
        self.low = low
        self.high = high
        self.when = when


EMPTY_TEXT = Symbol("seq")
NOTHING = Symbol("alt")
_COUNTS = {(0, 1): "?", (0, None): "*", (1, None): "+"}
_LIGHT_RULES, _LIGHT_TERMINALS = 3000, 50_000


def sequence(parts: Iterable[Symbol]) -> Symbol:
    flat: list[Symbol] = []
    for part in parts:
        if part is NOTHING:
            return NOTHING
        flat += part.parts if part.kind == "seq" and not part.when else (part,)
    return flat[0] if len(flat) == 1 else Symbol("seq", parts=tuple(flat))


def choice(parts: Iterable[Symbol]) -> Symbol:
    flat: list[Symbol] = []
    for part in parts:
        flat += part.parts if part.kind == "alt" else (part,)
    return flat[0] if len(flat) == 1 else (Symbol("alt", parts=tuple(flat)) if flat else NOTHING)


def repeated(part: Symbol, low: int, high: int | None) -> Symbol:
    if high == 0 or part is NOTHING:
        return EMPTY_TEXT if low == 0 else NOTHING
    return part if (low, high) == (1, 1) else Symbol("rep", parts=(part,), low=low, high=high)


def optional(part: Symbol) -> Symbol:
    return repeated(part, 0, 1)


@dataclass
class Grammar:
    """Rules by number, and terminals by the expression that defines them.

    Every name starts with `prefix` (lower case), so that several grammars fit into one text.
    """

    prefix: str = ""
    rules: list[Symbol | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    terminals: dict[str, str] = field(default_factory=dict)
    directives: dict[str, str] = field(default_factory=dict)
    _starts: dict[str, str] = field(default_factory=dict)
    weight: int = 0
    """Of all terminals together: what llguidance's lexer has to build."""

    def reserve(self, parameter: str = "") -> Symbol:
        """A rule to be defined later."""
        self.rules.append(None)
        self.names.append(f"{self.prefix}r{len(self.names)}{'::_' if parameter else ''}")
        return Symbol("rule", rule=len(self.rules) - 1)

    def define(self, rule: Symbol, body: Symbol) -> None:
        self.rules[rule.rule] = body

    def terminal(self, expression: str, start: Symbol | None = None) -> Symbol:
        """The terminal of this expression; `start` is another that the expression begins with."""
        whole = f"{start.text}{expression}" if start else expression
        name = self.terminals.setdefault(whole, f"{self.prefix.upper()}T{len(self.terminals)}")
        if start:
            self._starts[name] = start.text
        return Symbol("text", text=name)

    def embedded(self, directive: str) -> Symbol:
        """A rule whose body llguidance itself provides (`%json {...}`)."""
        name = self.directives.setdefault(directive, f"{self.prefix}j{len(self.directives)}")
        return Symbol("text", text=name)

    @property
    def light(self) -> bool:
        """Far from every limit of llguidance."""
        return len(self.rules) < _LIGHT_RULES and self.weight < _LIGHT_TERMINALS

    def productive(self, start: Symbol) -> bool:
        """Take out what cannot end; False when nothing is left of `start`."""
        alive: set[int] = set()
        changed = True
        while changed:
            changed = False
            for number in range(len(self.rules) - 1, -1, -1):  # what is used is defined later
                body = self.rules[number]
                if number not in alive and body is not None and _ends(body, alive):
                    alive.add(number)
                    changed = True
        if len(alive) == len(self.rules):
            return True
        self.rules = [
            _pruned(body, alive) if body is not None and number in alive else None
            for number, body in enumerate(self.rules)
        ]
        return start.rule in alive

    def text(self, start: Symbol, name: str) -> str:
        """The Lark text of what `start` reaches, under the rule `name`."""
        used: dict[str | int, None] = {}
        lines = [f"{name}: {self._write(start, used)}"]
        for number in self._reached(used):
            body = self.rules[number]
            assert body is not None
            lines.append(f"{self.names[number]}: {self._write(body, used)}")
        lines += [f"{n}: {d}" for d, n in self.directives.items() if n in used]
        used.update({s: None for n, s in self._starts.items() if n in used})
        lines += [f"{n}: {e}" for e, n in self.terminals.items() if n in used]
        return "\n".join(lines)

    def _reached(self, used: dict[str | int, None]) -> Iterator[int]:
        """The rules in `used`, those too that are added while one is written."""
        at = 0
        while at < len(used):
            for what in list(islice(used, at, None)):
                at += 1
                if isinstance(what, int):
                    yield what

    def _write(self, s: Symbol, used: dict[str | int, None], inner: bool = False) -> str:
        """The text of a symbol; the rules and terminals in it are added to `used`."""
        kind = s.kind
        if kind == "text":
            used[s.text] = None
            return s.text
        if kind == "rule":
            used[s.rule] = None
            name = self.names[s.rule]
            return name[:-1] + s.text if name[-1] == "_" else name
        if kind == "rep":
            return f"{self._group(s.parts[0], used)}{_count(s.low, s.high)}"
        if kind == "seq":
            written = " ".join([self._write(p, used, True) for p in s.parts]) or '""'
            return f"{written} %if {s.when}" if s.when else written
        written = " | ".join([self._write(p, used) for p in s.parts])
        return f"({written})" if inner else written

    def _group(self, s: Symbol, used: dict[str | int, None]) -> str:
        written = self._write(s, used)
        return written if s.kind in ("text", "rule") else f"({written})"


def _count(low: int, high: int | None) -> str:
    return _COUNTS.get((low, high)) or f"{{{low},{'' if high is None else high}}}"


def _ends(s: Symbol, alive: set[int]) -> bool:
    if s.kind == "text":
        return True
    if s.kind == "rule":
        return s.rule in alive
    if s.kind == "rep":
        return s.low == 0 or _ends(s.parts[0], alive)
    if s.kind == "seq":
        return all(_ends(p, alive) for p in s.parts)
    return any(_ends(p, alive) for p in s.parts)


def _pruned(s: Symbol, alive: set[int]) -> Symbol:
    """The same without alternatives and repetitions that cannot end; `s` itself can."""
    if s.kind in ("text", "rule"):
        return s
    if s.kind == "rep":
        if not _ends(s.parts[0], alive):
            return EMPTY_TEXT
        return Symbol("rep", parts=(_pruned(s.parts[0], alive),), low=s.low, high=s.high)
    if s.kind == "seq":
        return Symbol("seq", parts=tuple(_pruned(p, alive) for p in s.parts), when=s.when)
    return choice([_pruned(p, alive) for p in s.parts if _ends(p, alive)])
