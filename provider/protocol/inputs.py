"""The four spellings of an embedding input.

A string, an array of strings, an array of token ids, or an array of such arrays; at most 2,048
inputs, none of them empty (OpenAI's limits).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from provider.errors import InvalidRequest
from provider.protocol import values
from provider.protocol.shapes import Note, String

MAX_INPUTS = 2048
MAX_TOKEN = 2**31

Input = str | tuple[int, ...]
"""Text, or token ids of OpenAI's encoding."""


@dataclass(frozen=True)
class AnyInput:
    expected: str = (
        "one of a string, array of strings, array of integers or array of arrays of integers"
    )

    def check(self, value: Any, path: str, note: Note) -> None:
        inputs(value, path)


def inputs(value: Any, path: str = "input") -> tuple[Input, ...]:
    """The inputs in order. Raises `InvalidRequest` naming the element at fault."""
    if isinstance(value, str):
        return (_text(value, path),)
    if not isinstance(value, list):
        raise values.wrong_type(path, AnyInput.expected, value)
    if value and type(value[0]) is int:
        return (_tokens(value, path),)
    if not 1 <= len(value) <= MAX_INPUTS:
        raise values.wrong_length(path, "array", len(value), 1, MAX_INPUTS)
    read = _READERS.get(type(value[0]))
    if read is None:
        raise values.wrong_type(f"{path}[0]", "one of a string or array of integers", value[0])
    return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(value))


def _text(value: Any, path: str) -> Input:
    String(1).check(value, path, lambda _: None)
    return str(value)


def _tokens(value: Any, path: str) -> Input:
    if not isinstance(value, list):
        raise values.wrong_type(path, "an array of integers", value)
    if not value:
        raise values.wrong_length(path, "array", 0, 1, None)
    _check_tokens(value, path)
    return tuple(value)


def _check_tokens(value: Sequence[Any], path: str) -> None:
    for index, item in enumerate(value):
        if type(item) is not int:
            raise values.wrong_type(f"{path}[{index}]", "an integer", item)
        if not 0 <= item < MAX_TOKEN:
            raise _no_token(f"{path}[{index}]", item)


def _no_token(path: str, item: int) -> InvalidRequest:
    return values.invalid(path, f"{values.shown(item)} is not a token id.")


_READERS: dict[type, Callable[[Any, str], Input]] = {str: _text, list: _tokens}
