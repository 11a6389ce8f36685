"""Shapes of objects whose keys are the client's own: JSON Schemas, metadata, token maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from provider.protocol import values
from provider.protocol.shapes import Note, Shape

MAX_DEPTH = 64
"""Levels that a free-form object may nest."""


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


def _bounded(value: dict[str, Any], path: str) -> None:
    """Level by level, so that no depth can exhaust the stack."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise values.invalid(path, f"nested more than {MAX_DEPTH} levels deep.")


@dataclass(frozen=True)
class Anything:
    """A value that is not read, of whatever type."""

    expected: str = "any value"

    def check(self, value: Any, path: str, note: Note) -> None:
        pass


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
