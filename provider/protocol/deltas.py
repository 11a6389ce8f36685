"""What an answer grows by: text, the start of a function call, a piece of its arguments.

A reader turns the model's raw text into deltas. `Plain` passes text through; the reader of function
calls is `provider.protocol.calls.CallReader`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The call `index` of an answer begins; its arguments follow."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of the arguments (JSON text) of the call `index`."""

    index: int
    text: str


Delta = Text | CallStart | CallArguments


class Reader(Protocol):
    """State of one answer; never shared."""

    def feed(self, text: str) -> list[Delta]:
        """Deltas that `text` completes; what may still become something else is held back."""

    def close(self) -> list[Delta]:
        """Deltas of what was held back, at the end of the answer."""


class Plain:
    """Text is text."""

    def feed(self, text: str) -> list[Delta]:
        return [Text(text)] if text else []

    def close(self) -> list[Delta]:
        return []
