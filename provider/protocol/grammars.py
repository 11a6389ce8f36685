"""Grammars that clients write: GBNF (llama.cpp's, vLLM's and SGLang's EBNF) or Lark."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from provider.errors import InvalidRequest
from provider.protocol import schema
from provider.protocol.schema import Constraint, SchemaRefused

_LONGEST = 65_536


def written(text: str, param: str) -> Constraint:
    """The constraint of a grammar. Raises `InvalidRequest` naming `param` for one that is none."""
    if len(text) > _LONGEST:
        raise _refused(param, f"it has {len(text)} characters; at most {_LONGEST} are taken.")
    try:
        return _built(text)
    except _Unreadable as unreadable:
        raise _refused(param, str(unreadable)) from unreadable


def matching(pattern: str, param: str) -> Constraint:
    """The constraint of a regular expression (Rust syntax) for the whole text."""
    if len(pattern) > _LONGEST:
        raise _refused(param, f"it has {len(pattern)} characters; at most {_LONGEST} are taken.")
    try:
        return schema.regex(pattern)
    except SchemaRefused as refused:
        raise _refused(param, refused.reason) from refused


def one_of(choices: Sequence[str]) -> Constraint:
    """The constraint under which one of these texts is written."""
    return schema.regex("|".join(map(_escaped, choices)))


def _escaped(text: str) -> str:
    """A regular expression for just this text; `re.escape` would leave Rust's `&&` and `~~`."""
    return "".join(c if c.isalnum() else f"\\x{{{ord(c):X}}}" for c in text)


class _Unreadable(Exception):
    """Why a text is no grammar."""


@lru_cache(maxsize=64)
def _built(text: str) -> Constraint:
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        lark = any_to_lark(text)
    except Exception as error:  # the converter raises it plainly
        raise _Unreadable(str(error)) from error
    try:
        return schema.lark(lark)
    except SchemaRefused as refused:
        raise _Unreadable(refused.reason) from refused


def _refused(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{param}': {reason}", param=param, code="invalid_grammar")
