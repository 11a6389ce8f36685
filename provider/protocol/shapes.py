"""What a JSON value must look like: the building blocks of the table of parameters.

A shape checks a value at a path and raises `InvalidRequest` in OpenAI's words. `Parameter` adds
what this project does with a field: honours it, refuses it, or accepts it as harmless, in which
case its path is collected for the `x-ignored-params` header. `None` (JSON null) reaches a shape
only where the field may not be null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from provider.protocol import values

Support = Literal["honoured", "refused", "harmless"]
Note = Callable[[str], None]
"""Takes the path of a field that is accepted without effect."""


class Shape(Protocol):
    @property
    def expected(self) -> str:
        """The type in words, as in "expected an array of objects"."""

    def check(self, value: Any, path: str, note: Note) -> None: ...


@dataclass(frozen=True)
class Parameter:
    """One field of a request.

    `why` is the reason of a refusal, what a harmless field does not do, or a remark on an honoured
    one; docs/compatibility.md prints it. `neutral` values ask for nothing beyond what happens
    anyway, so they pass in silence where the field is refused or harmless.
    """

    shape: Shape
    why: str = ""
    support: Support = "honoured"
    required: bool = False
    nullable: bool = False
    neutral: tuple[Any, ...] = ()

    def check(self, value: Any, path: str, note: Note) -> None:
        if value is None and self.nullable:
            return
        neutral = self.support != "honoured" and value in self.neutral
        if self.support == "refused" and not neutral:
            raise self._refusal(value, path)
        self.shape.check(value, path, note)
        if self.support == "harmless" and not neutral:
            note(path)

    def _refusal(self, value: Any, path: str) -> Exception:
        if self.neutral and isinstance(value, str):
            return values.unsupported_value(path, value, self.neutral, self.why)
        return values.unsupported(path, self.why)


@dataclass(frozen=True)
class Boolean:
    expected: str = "a boolean"

    def check(self, value: Any, path: str, note: Note) -> None:
        if not isinstance(value, bool):
            raise values.wrong_type(path, self.expected, value)


@dataclass(frozen=True)
class Integer:
    low: int | None = None
    high: int | None = None
    expected: str = "an integer"

    def check(self, value: Any, path: str, note: Note) -> None:
        if type(value) is not int:
            raise values.wrong_type(path, self.expected, value)
        _in_range(value, path, "integer", self.low, self.high)


@dataclass(frozen=True)
class Decimal:
    low: float
    high: float
    expected: str = "a decimal"

    def check(self, value: Any, path: str, note: Note) -> None:
        if type(value) not in (int, float):
            raise values.wrong_type(path, self.expected, value)
        _in_range(value, path, "decimal", self.low, self.high)


def _in_range(value: float, path: str, kind: str, low: float | None, high: float | None) -> None:
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise values.out_of_range(path, kind, value, low, high)


@dataclass(frozen=True)
class String:
    low: int = 0
    high: int | None = None
    pattern: str | None = None

    @property
    def expected(self) -> str:
        return "a string"

    def check(self, value: Any, path: str, note: Note) -> None:
        if not isinstance(value, str):
            raise values.wrong_type(path, self.expected, value)
        if len(value) < self.low or (self.high is not None and len(value) > self.high):
            raise values.wrong_length(path, "string", len(value), self.low, self.high)
        if not values.is_encodable(value):
            raise values.invalid(path, "the string contains a lone surrogate, not Unicode text.")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise values.invalid(
                path,
                "string does not match pattern. Expected a string that matches the pattern "
                f"'^{self.pattern}$'.",
            )


@dataclass(frozen=True)
class OneOf:
    """A string out of a closed set."""

    choices: tuple[str, ...]

    @property
    def expected(self) -> str:
        return f"one of {values.listed(self.choices, 'or')}"

    def check(self, value: Any, path: str, note: Note) -> None:
        if not isinstance(value, str):
            raise values.wrong_type(path, self.expected, value)
        if value not in self.choices:
            raise values.not_one_of(path, value, self.choices)


_PLURALS = {"a string": "strings", "an integer": "integers", "an object": "objects"}


@dataclass(frozen=True)
class Array:
    item: Shape
    low: int = 0
    high: int | None = None

    @property
    def expected(self) -> str:
        return f"an array of {_PLURALS.get(self.item.expected, self.item.expected)}"

    def check(self, value: Any, path: str, note: Note) -> None:
        if not isinstance(value, list):
            raise values.wrong_type(path, self.expected, value)
        if len(value) < self.low or (self.high is not None and len(value) > self.high):
            raise values.wrong_length(path, "array", len(value), self.low, self.high)
        for index, item in enumerate(value):
            self.item.check(item, f"{path}[{index}]", note)


@dataclass(frozen=True)
class Object:
    """An object with these fields and no others."""

    fields: Mapping[str, Parameter]
    expected: str = "an object"

    def check(self, value: Any, path: str, note: Note) -> None:
        if not isinstance(value, dict):
            raise values.wrong_type(path, self.expected, value)
        for name, parameter in self.fields.items():
            if parameter.required and name not in value:
                raise values.missing(values.join(path, name))
        for name in value:
            if name not in self.fields:
                raise values.unknown(values.join(path, name))
        for name, parameter in self.fields.items():
            if name in value:
                parameter.check(value[name], values.join(path, name), note)


@dataclass(frozen=True)
class Tagged:
    """An object whose field `tag` says which of the variants it is; a variant may be refused."""

    tag: str
    variants: Mapping[str, Parameter]
    default: str | None = None
    expected: str = "an object"

    def check(self, value: Any, path: str, note: Note) -> None:
        if not isinstance(value, dict):
            raise values.wrong_type(path, self.expected, value)
        if self.tag not in value and self.default is None:
            raise values.missing(values.join(path, self.tag))
        name: Any = value.get(self.tag, self.default)
        OneOf(tuple(self.variants)).check(name, values.join(path, self.tag), note)
        variant = self.variants[name]
        if variant.support == "harmless":
            variant.shape.check(value, path, note)
            note(f"{path}{{{self.tag}: {name}}}")
        else:
            variant.check(value, path, note)


@dataclass(frozen=True)
class Either:
    """One of several shapes, told apart by their JSON type."""

    shapes: Mapping[type, Shape]

    @property
    def expected(self) -> str:
        first, *rest = (shape.expected for shape in self.shapes.values())
        head = first if first.startswith("one of ") else f"one of {first}"
        return " or ".join([head, *(word.split(" ", 1)[-1] for word in rest)])

    def check(self, value: Any, path: str, note: Note) -> None:
        shape = self.shapes.get(type(value))
        if shape is None:
            raise values.wrong_type(path, self.expected, value)
        shape.check(value, path, note)
