"""What a JSON value must look like: the building blocks of the table of parameters.

A shape checks a value at a path and raises `InvalidRequest` in OpenAI's words. `Parameter` adds
what this project does with a field: honours it, refuses it, or accepts it as harmless, in which
case its path is collected for the `x-ignored-params` header. `None` (JSON null) reaches a shape
only where the field may not be null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from provider.protocol import values

Support = Literal["honoured", "refused", "harmless"]
Note = Callable[[str], None]
"""Takes the path of a field that is accepted without effect."""

MAX_DEPTH = 64
"""Levels that a free-form object (a schema, metadata) may nest."""


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


@dataclass(frozen=True)
class Array:
    item: Shape
    low: int = 0
    high: int | None = None

    @property
    def expected(self) -> str:
        return f"an array of {self.item.expected.split(' ', 1)[-1]}s"

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
        self.variants[name].check(value, path, note)


@dataclass(frozen=True)
class Either:
    """One of several shapes, told apart by their JSON type."""

    shapes: Mapping[type, Shape]

    @property
    def expected(self) -> str:
        first, *rest = (shape.expected for shape in self.shapes.values())
        return " or ".join([f"one of {first}", *(word.split(" ", 1)[-1] for word in rest)])

    def check(self, value: Any, path: str, note: Note) -> None:
        shape = self.shapes.get(type(value))
        if shape is None:
            raise values.wrong_type(path, self.expected, value)
        shape.check(value, path, note)


@dataclass(frozen=True)
class Json:
    """A free-form object (a JSON Schema): any content that can be written down again."""

    expected: str = "an object"

    def check(self, value: Any, path: str, note: Note) -> None:
        if not isinstance(value, dict):
            raise values.wrong_type(path, self.expected, value)
        _bounded(value, path)
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except UnicodeEncodeError:
            reason = "the object contains a lone surrogate, not Unicode text."
            raise values.invalid(path, reason) from None
        except ValueError:
            reason = "the object contains a number that JSON cannot carry."
            raise values.invalid(path, reason) from None


def _bounded(value: Any, path: str) -> None:
    """Level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise values.invalid(path, f"nested more than {MAX_DEPTH} levels deep.")


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []


@dataclass(frozen=True)
class Map:
    """An object with free keys and values of one shape."""

    item: Shape
    max_properties: int | None = None
    max_key: int | None = None
    expected: str = "an object"

    def check(self, value: Any, path: str, note: Note) -> None:
        if not isinstance(value, dict):
            raise values.wrong_type(path, self.expected, value)
        if self.max_properties is not None and len(value) > self.max_properties:
            raise values.invalid(
                path,
                "too many properties. Expected an object with at most "
                f"{self.max_properties} properties, but got an object with {len(value)} "
                "properties instead.",
                "object_above_max_properties",
            )
        for key, item in value.items():
            self._check_key(key, path)
            self.item.check(item, values.join(path, values.encodable(key)), note)

    def _check_key(self, key: str, path: str) -> None:
        if self.max_key is not None and len(key) > self.max_key:
            raise values.conflict(
                path,
                f"Invalid property name in '{path}': '{values.shown(key)}' is too long. Expected a "
                f"string with maximum length {self.max_key}, but got a string with length "
                f"{len(key)} instead.",
                "property_name_above_max_length",
            )
