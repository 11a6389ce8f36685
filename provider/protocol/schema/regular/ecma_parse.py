"""The syntax of ECMA-262 patterns: text to a tree of choices, groups and assertions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from provider.protocol.schema.regular import algebra, charset
from provider.protocol.schema.regular.algebra import Re
from provider.protocol.schema.regular.charset import CharSet
from provider.protocol.schema.regular.properties import unicode_property

_MAX_COUNT = 100_000
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_CLASSES = {"d": charset.DIGITS, "w": charset.WORD, "s": charset.SPACE}


class PatternRefused(Exception):
    """A pattern that is not valid, not regular, or uses what is not supported; says which."""


@dataclass(frozen=True)
class Choice:
    branches: tuple[list[Item], ...]


@dataclass(frozen=True)
class Group:
    body: Item
    low: int
    high: int | None


@dataclass(frozen=True)
class Assertion:
    kind: Literal["start", "end", "ahead", "edge"]
    body: Choice | None = None
    negative: bool = False


Item = Re | Choice | Group | Assertion


def _append(branch: list[Item], item: Item) -> None:
    """`(?!x)[a-z]`, a character that is not one of others, is a set of characters."""
    if branch and isinstance(item, Re) and item.kind == algebra.SET:
        before = branch[-1]
        taken = _characters(before.body) if isinstance(before, Assertion) else None
        if taken is not None and isinstance(before, Assertion) and before.negative:
            rest = charset.intersect(item.args[0], charset.complement(taken))
            branch[-1] = algebra.one_of(rest)
            return
    branch.append(item)


def _characters(body: Choice | None) -> CharSet | None:
    """The characters that it matches one of; None when it matches something else, too."""
    found = charset.NONE
    for branch in body.branches if body is not None else ():
        item = branch[0] if len(branch) == 1 else None
        if not isinstance(item, Re) or item.kind not in (algebra.SET, algebra.LITS):
            return None
        if item.kind == algebra.LITS and any(len(text) != 1 for text in item.args):
            return None
        more = item.args[0] if item.kind == algebra.SET else charset.chars("".join(item.args))
        found = charset.union(found, more)
    return found if body is not None else None


def parse(pattern: str) -> Choice:
    reader = _Reader(pattern)
    tree = reader.choice(0)
    if reader.at < len(pattern):
        raise PatternRefused("it has an unmatched ')'")
    return tree


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        return self.text[self.at + ahead : self.at + ahead + 1]

    def take(self) -> str:
        c = self.peek()
        if not c:
            raise PatternRefused("it ends in the middle of an expression")
        self.at += 1
        return c

    def skip(self, prefix: str) -> bool:
        if self.text.startswith(prefix, self.at):
            self.at += len(prefix)
            return True
        return False

    def choice(self, depth: int) -> Choice:
        if depth > 50:
            raise PatternRefused("its groups are nested more than 50 deep")
        branches: list[list[Item]] = [[]]
        while (c := self.peek()) and c != ")":
            if self.skip("|"):
                branches.append([])
            else:
                _append(branches[-1], self.quantified(self.atom(depth)))
        return Choice(tuple(branches))

    def atom(self, depth: int) -> Item:
        c = self.take()
        if c == "^":
            return Assertion("start")
        if c == "$":
            return Assertion("end")
        if c == ".":
            return algebra.one_of(charset.complement(charset.LINE_ENDS))
        if c == "(":
            return self.group(depth)
        if c == "[":
            return algebra.one_of(self.char_class())
        if c == "\\":
            return self.escape()
        if c in "*+?":
            raise PatternRefused(f"there is nothing to repeat before '{c}'")
        return algebra.literals([c])

    def group(self, depth: int) -> Item:
        look = self.group_kind()
        body = self.choice(depth + 1)
        if not self.skip(")"):
            raise PatternRefused("it has an unclosed '('")
        if look is not None:
            return Assertion("ahead", body, negative=look)
        if len(body.branches) == 1 and len(body.branches[0]) == 1:
            return body.branches[0][0]
        return body

    def group_kind(self) -> bool | None:
        """None for a group; for a look-ahead, whether it is negative."""
        if not self.skip("?"):
            return None
        if self.skip(":"):
            return None
        if self.skip("="):
            return False
        if self.skip("!"):
            return True
        if self.peek() == "<" and self.peek(1) in "=!":
            raise PatternRefused("look-behind is not supported")
        if self.skip("<") or self.skip("P<"):
            while self.take() != ">":
                pass
            return None
        raise PatternRefused(f"the group '(?{self.peek()}' is not ECMA-262")

    def quantified(self, item: Item) -> Item:
        bounds = self.bounds()
        if bounds is None:
            return item
        self.skip("?")  # lazy: the same language
        low, high = bounds
        if isinstance(item, Assertion):
            raise PatternRefused("an assertion cannot be repeated")
        if isinstance(item, Re):
            return algebra.repeat(item, low, high)
        return Group(item, low, high)

    def bounds(self) -> tuple[int, int | None] | None:
        for sign, found in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.skip(sign):
                return found
        end = self.text.find("}", self.at)
        if self.peek() != "{" or end < 0:
            return None
        low, comma, high = self.text[self.at + 1 : end].partition(",")
        if not low.isascii() or not low.isdigit() or not (high == "" or high.isdigit()):
            return None  # as in browsers: a brace that is no quantifier is itself
        self.at = end + 1
        first, last = int(low), (int(high) if high else (None if comma else int(low)))
        if first > _MAX_COUNT or (last or 0) > _MAX_COUNT:
            raise PatternRefused(f"it repeats more than {_MAX_COUNT} times")
        if last is not None and first > last:
            raise PatternRefused("its repetition bounds are out of order")
        return first, last

    def escape(self) -> Item:
        c = self.take()
        if c in "bB":
            return Assertion("edge", negative=c == "B")
        if c in "123456789" or c == "k":
            raise PatternRefused("a back-reference is not a regular expression")
        return algebra.one_of(self.escaped(c))

    def escaped(self, c: str) -> CharSet:
        """The set of the escape whose letter `c` has just been read."""
        lower = c.lower()
        if lower in _CLASSES:
            found = _CLASSES[lower]
            return found if c == lower else charset.complement(found)
        if lower == "p" and self.peek() == "{":
            return self.property(c == "P")
        if c in _CONTROLS:
            return charset.of([(_CONTROLS[c], _CONTROLS[c])])
        code = self.code_point(c)
        if code is None:
            if c.isalnum() and c.isascii() and c not in "aey":
                raise PatternRefused(f"the escape '\\{c}' is not ECMA-262")
            code = ord(c)
        return charset.of([(code, code)])

    def code_point(self, c: str) -> int | None:
        if c == "0":
            return 0
        if c == "x":
            return self.hexadecimal(2)
        if c == "c":
            return ord(self.take().upper()) & 31
        if c != "u":
            return None
        if self.skip("{"):
            end = self.text.find("}", self.at)
            return self.hexadecimal(max(end - self.at, 1), closing=1)
        code = self.hexadecimal(4)
        if 0xD800 <= code <= 0xDBFF and self.skip("\\u"):
            code = 0x10000 + ((code - 0xD800) << 10) + (self.hexadecimal(4) - 0xDC00)
        return code

    def hexadecimal(self, digits: int, closing: int = 0) -> int:
        text = self.text[self.at : self.at + digits]
        self.at += digits + closing
        try:
            return min(int(text, 16), 0x10FFFF)
        except ValueError:
            raise PatternRefused("it has a malformed character code") from None

    def property(self, negative: bool) -> CharSet:
        end = self.text.find("}", self.at)
        name = self.text[self.at + 1 : end]
        self.at = end + 1
        found = unicode_property(name) if end > 0 else None
        if found is None:
            raise PatternRefused(f"the Unicode property '{name}' is not supported")
        return charset.complement(found) if negative else found

    def char_class(self) -> CharSet:
        negative = self.skip("^")
        ranges = charset.NONE
        while not self.skip("]"):
            low = self.class_atom()
            if self.peek() == "-" and self.peek(1) not in ("]", ""):
                self.take()
                low = self.span(low, self.class_atom())
            ranges = charset.union(ranges, low)
        return charset.complement(ranges) if negative else ranges

    def class_atom(self) -> CharSet:
        c = self.take()
        if c != "\\":
            return charset.chars(c)
        c = self.take()
        if c == "b":
            return charset.of([(8, 8)])
        return self.escaped(c)

    @staticmethod
    def span(low: CharSet, high: CharSet) -> CharSet:
        one = len(low.ranges) == 1 and low.ranges[0][0] == low.ranges[0][1]
        two = len(high.ranges) == 1 and high.ranges[0][0] == high.ranges[0][1]
        if not one or not two:  # `[\w-.]`: the hyphen is itself
            return charset.union(charset.union(low, high), charset.chars("-"))
        first, last = low.ranges[0][0], high.ranges[0][0]
        if first > last:
            raise PatternRefused("a character range is out of order")
        return charset.of([(first, last)])
