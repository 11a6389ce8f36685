"""Server-sent events, parsed once however many look at them.

Whoever checks a stream first (`provider.integrity`) passes on `Events`: the same bytes, with the
chunks that they completed. Those that look later (meter, record, shadow, traces) take these; where
nobody has parsed before them, they parse themselves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_DATA = b"data:"
_DONE = b"[DONE]"


class Events(bytes):
    """A piece of a stream, and the JSON objects of the events that end in it."""

    chunks: Sequence[dict[str, Any]] = ()

    @classmethod
    def of(cls, piece: bytes, chunks: Sequence[dict[str, Any]]) -> Events:
        events = cls(piece)
        events.chunks = chunks
        return events


class EventReader:
    """Puts pieces of server-sent events, cut anywhere, together. `done`: `[DONE]` has come;
    `rest`: the bytes of the line that has not ended yet."""

    def __init__(self) -> None:
        self.rest = b""
        self.done = False

    def read(self, piece: bytes) -> Sequence[dict[str, Any]]:
        """The JSON objects of the events that end in `piece`; what is not JSON is left out."""
        if isinstance(piece, Events):
            return piece.chunks
        return [chunk for chunk in self.parse(piece) if chunk is not None]

    def parse(self, piece: bytes) -> list[dict[str, Any] | None]:
        """The same with None for each event whose data is not a JSON object."""
        *lines, self.rest = (self.rest + piece).split(b"\n")
        found: list[dict[str, Any] | None] = []
        for line in lines:
            if line.startswith(_DATA):
                data = line[len(_DATA) :].strip()
                if data == _DONE:
                    self.done = True
                else:
                    found.append(_object(data))
        return found


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(data)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None
