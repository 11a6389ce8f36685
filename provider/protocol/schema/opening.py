"""Finds the JSON values in a text in which other things stand, too (calls among free text)."""

from __future__ import annotations

from collections.abc import Mapping

from provider.protocol.schema.distinct import Reading
from provider.protocol.schema.sites import Site

Openings = Mapping[bytes, Site]
"""The text right before a value, and the place of the value; `b""` is the start of all."""


class Follower:
    """Reads a text along; `reading` is the value under way, if there is one."""

    __slots__ = ("_kept", "_openings", "reading")

    def __init__(self, openings: Openings) -> None:
        self._openings = openings
        self._kept = b""
        start = openings.get(b"")
        self.reading = Reading(start) if start is not None else None

    def copy(self) -> Follower:
        other = Follower.__new__(Follower)
        other._openings, other._kept = self._openings, self._kept
        other.reading = None if self.reading is None else self.reading.copy()
        return other

    @property
    def relevant(self) -> bool:
        """Whether a repeated item may come soon."""
        reading = self.reading
        if reading is None:
            return len(self._openings) > 1 or b"" not in self._openings
        return not reading.done

    def feed(self, data: bytes) -> bool:
        """Take more text; False when it repeats an item."""
        if self.reading is not None and len(self._openings) == 1 and b"" in self._openings:
            return self.reading.done or self.reading.feed(data)
        return all(self._step(data[at : at + 1]) for at in range(len(data)))

    def _step(self, c: bytes) -> bool:
        if self.reading is not None and not self.reading.done:
            if c == b"<" and self.reading.untouched:
                self.reading = None  # a call instead of the answer
            else:
                return self.reading.feed(c)
        self._kept += c
        for opening, site in self._openings.items():
            if opening and self._kept.endswith(opening):
                self.reading, self._kept = Reading(site), b""
                return True
        longest = max(map(len, self._openings))
        self._kept = self._kept[-longest:]
        return True
