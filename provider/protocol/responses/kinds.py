"""Kinds of items and tools that are refused, by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provider.protocol import values
from provider.protocol.shapes import Object, Parameter, String


@dataclass(frozen=True)
class Kind(Parameter):
    """A variant that is refused; the refusal says which it is."""

    def _refusal(self, value: Any, path: str) -> Exception:
        return values.conflict(
            path,
            f"Unsupported parameter: '{path}' of type '{value['type']}' is not supported with this "
            f"model. {self.why}",
            "unsupported_parameter",
        )


def refused(why: str, *names: str) -> dict[str, Parameter]:
    """Variants of these types, refused for one reason; their other fields are not looked at."""
    shape = Object({"type": Parameter(String(), required=True)})
    return {name: Kind(shape, why, "refused") for name in names}
