"""A regular language as a terminal of llguidance's Lark dialect.

Strings are written as JSON: the map from a character to its JSON text is injective and
prefix-free, so Boolean operations on languages carry over to their texts. The text of a character
is that of `json.dumps(ensure_ascii=False)`; no other escape is accepted, so that a string has one
text and a property name cannot come back in disguise.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from json.encoder import encode_basestring

from provider.protocol.schema.regular import charset
from provider.protocol.schema.regular.algebra import (
    ALL,
    ALT,
    AND,
    CAT,
    EPSILON,
    LITS,
    NOT,
    REP,
    SET,
    Re,
)
from provider.protocol.schema.regular.charset import CharSet

_ESCAPED = charset.of([(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)])
_PLAIN = charset.complement(_ESCAPED)
_SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 0x22: '"', 0x5C: "\\"}
_REGEX_SPECIAL = frozenset("\\.+*?()|[]{}^$#&-~/")


def json_string(r: Re, tail: str = '"') -> str:
    """The terminal expression of the JSON texts, quotes included, of the strings in `r`.

    `tail` is the closing quote, with the colon after it where the strings are names: all names that
    may stand in a place end alike, because the lexer takes the longest text that it can.
    Boolean operations stay outside of the quotes where they can: llguidance is ten times faster
    at masks for `"…" & ~"…"` than for the same inside of a sequence.
    """
    if r.kind == AND:
        parts = [p for p in r.args if p.kind != NOT] or [ALL]
        taken = [f"~{_paren(json_string(p.args[0], tail))}" for p in r.args if p.kind == NOT]
        return " & ".join([*(_paren(json_string(p, tail)) for p in parts), *taken])
    if r.kind == NOT:
        inner = json_string(r.args[0], tail)
        return f"{_any(tail)} & ~{inner if _positive(r.args[0]) else _paren(inner)}"
    if r.kind == ALT and not _positive(r):
        return " | ".join(_paren(json_string(a, tail)) for a in r.args)
    body = _Writer(quoted=True).write(r)
    if body != EMPTY_LITERAL and (_positive(r) or _one_regex(body)):
        return f'/"{_group(body[1:-1])}{tail}/'
    return f'/"{tail}/' if body == EMPTY_LITERAL else f'/"/ {_paren(body)} /{tail}/'


@lru_cache(maxsize=2)
def _any(tail: str) -> str:
    return json_string(ALL, tail)


def plain(r: Re) -> str:
    """The terminal expression of the strings in `r` as they are (numbers)."""
    return _Writer(quoted=False).write(r)


def literal(text: str) -> str:
    """One text as a Lark string literal."""
    return json.dumps(text, ensure_ascii=True) if text.isascii() else f"/{_escape(text)}/"


_ONE_REGEX = re.compile(r"/(?:[^/\\]|\\.)+/", re.DOTALL)
EMPTY_LITERAL = '""'


class _Writer:
    """Writes positive parts as one regular expression, `&` and `~` as Lark operators."""

    def __init__(self, quoted: bool) -> None:
        self.quoted = quoted

    def write(self, r: Re) -> str:
        if _positive(r):
            return f"/{self.regex(r)}/" if r != EPSILON else EMPTY_LITERAL  # `//` opens a comment
        if r.kind == AND:
            return " & ".join(_paren(self.write(a)) for a in _positives_first(r.args))
        if r.kind == NOT:
            everything = self.regex(ALL)
            return f"/{everything}/ & ~{_paren(self.write(r.args[0]))}"
        if r.kind == ALT:
            return " | ".join(_paren(self.write(a)) for a in r.args)
        if r.kind == CAT:
            return " ".join(_paren(self.write(a)) for a in r.args)
        inner, low, high = r.args
        return f"{_paren(self.write(inner))}{_count(low, high)}"

    def regex(self, r: Re) -> str:
        kind, args = r.kind, r.args
        if kind == LITS:
            return self.literals(args)
        if kind == SET:
            return self.chars(args[0])
        if kind == ALT:
            return "(?:" + "|".join(self.regex(a) for a in args) + ")"
        if kind == CAT:
            return "".join(self.regex(a) for a in args)
        inner, low, high = args
        return f"{_group(self.regex(inner))}{_count(low, high)}"

    def literals(self, texts: tuple[str, ...]) -> str:
        written = [_escape(encode_basestring(t)[1:-1] if self.quoted else t)
                   for t in texts]  # fmt: skip
        return written[0] if len(written) == 1 else "(?:" + "|".join(written) + ")"

    def chars(self, chars: CharSet) -> str:
        return _quoted_class(chars) if self.quoted else _class(chars)


def _positive(r: Re) -> bool:
    if r.kind in (LITS, SET):
        return True
    if r.kind in (AND, NOT):
        return False
    if r.kind == REP:
        return _positive(r.args[0])
    return all(_positive(a) for a in r.args)


def _positives_first(parts: tuple[Re, ...]) -> list[Re]:
    return sorted(parts, key=lambda p: p.kind == NOT)


@lru_cache(maxsize=4096)
def _quoted_class(chars: CharSet) -> str:
    options = []
    plain_part = charset.intersect(chars, _PLAIN)
    if plain_part:
        options.append(_class(plain_part))
    escaped = charset.intersect(chars, _ESCAPED)
    codes = [code for low, high in escaped.ranges for code in range(low, high + 1)]
    short = "".join(sorted(_SHORT[code] for code in codes if code in _SHORT))
    if short:
        options.append(r"\\" + (f"[{_escape(short)}]" if len(short) > 1 else _escape(short)))
    for row in (0, 1):
        digits = [c & 15 for c in codes if c >> 4 == row and c not in _SHORT]
        if digits:
            found = charset.chars("".join(f"{d:x}" for d in digits))
            options.append(rf"\\u00{row}{_class(found)}")
    return options[0] if len(options) == 1 and plain_part else "(?:" + "|".join(options) + ")"


@lru_cache(maxsize=4096)
def _class(chars: CharSet) -> str:
    inverse = charset.complement(chars)
    negative = len(inverse.ranges) < len(chars.ranges)
    ranges = inverse.ranges if negative else chars.ranges
    if not negative and len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _escape(chr(ranges[0][0]))
    body = "".join(_code(low) if low == high else f"{_code(low)}-{_code(high)}"
                   for low, high in ranges)  # fmt: skip
    return f"[{'^' if negative else ''}{body}]"


def _code(code: int) -> str:
    c = chr(code)
    return c if c.isascii() and c.isalnum() else f"\\x{{{code:X}}}"


def _escape(text: str) -> str:
    """`text` as a regular expression that matches just it."""
    if text.isalnum():
        return text
    return "".join(_escape_char(c) for c in text)


def _escape_char(c: str) -> str:
    if c in _REGEX_SPECIAL:
        return "\\" + c
    return c if c.isprintable() else f"\\x{{{ord(c):X}}}"


def _count(low: int, high: int | None) -> str:
    if (low, high) == (0, None):
        return "*"
    if (low, high) == (1, None):
        return "+"
    if (low, high) == (0, 1):
        return "?"
    return f"{{{low},{'' if high is None else high}}}"


def _group(regex: str) -> str:
    return regex if len(regex) == 1 or _one_class(regex) else f"(?:{regex})"


def _one_class(regex: str) -> bool:
    return regex.startswith("[") and regex.endswith("]") and regex.count("]") == 1


def _paren(expression: str) -> str:
    return expression if _one_regex(expression) else f"({expression})"


def _one_regex(expression: str) -> bool:
    """Whether the expression is a single `/.../` and nothing beside it."""
    return _ONE_REGEX.fullmatch(expression) is not None
