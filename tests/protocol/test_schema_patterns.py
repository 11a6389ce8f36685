"""Patterns as languages: Python's own engine is the judge, on every short string."""

from __future__ import annotations

import itertools
import re
import unicodedata

import pytest

from bench.schema.accepts import Judge
from provider.protocol.schema import compile
from provider.protocol.schema.probe import byte_tokenizer
from provider.protocol.schema.regular import formats
from provider.protocol.schema.regular.algebra import matches
from provider.protocol.schema.regular.ecma import PatternRefused, search
from provider.protocol.schema.regular.properties import unicode_property

_SHORT = ["".join(t) for n in range(5) for t in itertools.product("ab- c", repeat=n)]


@pytest.mark.parametrize(
    "pattern",
    [
        "b+", "^a|b$", "(a|b)*c", "^(?!ab)[a-c]+$", "a(?=b|$)", "^[^a]*$", "^(?:(?=a)[ab]){2}",
        r"\bab\b", r"^\ba", r"a\b", r"\Ba", r"a\B\B", r"(\b|c)a", r"[a-c]*\b-", r"a\b-\bb",
        r"(?=a\b)ab?", r"c?\b[ab]{1,2}\b.", r"\b", r"(a|\b)(b|\B)", r"^(?!\ba\b).*$",
        "^((?!ab|c).)*$", "^((?!ab).)+$", "^((?![ab])[a-c]){1,255}", "((?!ab).)*", "(?!a)[ab]c",
        "^((?!a$).)*$", "^((?!c)[abc]){2,}$",
    ],
)  # fmt: skip
def test_a_pattern_is_the_language_that_it_finds(pattern: str) -> None:
    language = search(pattern)
    found = re.compile(pattern.replace("$", r"\Z"))
    assert [s for s in _SHORT if matches(language, s) != bool(found.search(s))] == []


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?<=a)b", r"a\Z", r"^(?:\ba|b)+c", "a**", "(?i)a"])
def test_what_is_not_regular_or_not_ecma_is_refused(pattern: str) -> None:
    with pytest.raises(PatternRefused):
        search(pattern)


def test_the_format_regex_holds_patterns_that_engines_take() -> None:
    good = [r"^v(\d+)\.(\d+)$", "[a-zA-Z_][a-zA-Z0-9_]*", "^(?:foo|bar)+?$", r"\bfoo\b", "a{2,3}",
            "(?!x)y", r"((a|b)*c)+", "", r"[\w.-]+@[\w-]+", "[-a-z]", "a b&c"]  # fmt: skip
    bad = ["^(abc]", "a**", "(", "[z-a]", "a{3,2}", r"\Z", r"\a", ")", "*a", "[a", r"\\("]
    judge = Judge(compile({"type": "string", "format": "regex"}), byte_tokenizer())
    assert [p for p in good if not judge.accepts(p)] == []
    assert [p for p in bad if judge.accepts(p)] == []
    language = formats.language("regex")
    assert language is not None
    for text in ("".join(t) for n in range(5) for t in itertools.product(r"a[](\)*", repeat=n)):
        if matches(language, text):
            re.compile(text)


def test_the_format_iri_is_a_uri_with_all_scripts() -> None:
    judge = Judge(compile({"type": "string", "format": "iri"}), byte_tokenizer())
    assert judge.accepts("http://ƒøø.ßår/?∂éœ=πîx#πîüx")
    assert judge.accepts("https://예.kr/길?q=말")
    assert not judge.accepts("/abc")
    assert not judge.accepts("http://예.kr/ 길")


@pytest.mark.parametrize("name", ["L", "Lu", "Nd", "P", "Zs", "Cn", "Co", "C"])
def test_a_category_has_its_characters_and_no_others(name: str) -> None:
    found = unicode_property(name)
    assert found is not None
    codes = [*range(0, 0x110000, 37), 0xE0FFF, 0xE1000, 0xFFFFD, 0xFFFFE, 0x10FFFD, 0x10FFFF]
    for code in codes:
        if not 0xD800 <= code <= 0xDFFF:
            assert found.has(code) == unicodedata.category(chr(code)).startswith(name), hex(code)
