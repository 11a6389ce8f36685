"""Values of JSON that is being written, guessed from the JSON that was read before it.

An answer often repeats values of its prompt under the same or other keys, in the same or another
order, with further keys in between, so that what follows the same last tokens is the wrong record.
Here the value of a key is looked for where the record is that the answer has reached: after the
value that its object has last had in common with the prompt or, in a new object, after the value
that this key had in the object before. Keys that the prompt does not have (`room` for `id`) are
learnt from their values.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import MutableMapping, Sequence
from typing import Literal

Stage = Literal["start", "inside", "end"]
"""Of a value: nothing of it is written, something, or all of what it was in the prompt."""

Names = MutableMapping[bytes, bytes]
"""The prompt's key for a key of the answer that the prompt does not have."""

NEAR = 256
"""Bytes after the last common value in which an equal one is taken for the same record's."""

# Bounded, so that text full of quotes costs no more than its length.
_KEY = re.compile(rb'"((?:[^"\\]|\\.){0,64})"\s{0,8}:\s{0,8}')
_VALUE = re.compile(rb'"(?:[^"\\]|\\.){0,256}"|[^\s",:\[\]{}]{1,64}')
_QUOTE, _BACKSLASH, _COLON, _COMMA = b'"\\:,'
_AFTER = b'",]} \n'
_LONGEST = 512


class Place:
    """Where the answer stands: the key and value that are being written, and `link`, where in the
    prompt the value lies that the open object had last in common with it."""

    __slots__ = ("aim", "escaped", "in_string", "key", "link", "links", "value", "word")

    def __init__(self) -> None:
        self.key: bytes | None = None
        self.value: bytearray | None = None
        self.word = bytearray()
        self.in_string = self.escaped = False
        self.aim: int | None = None
        self.link: int | None = None
        self.links: list[int | None] = []

    def copy(self) -> Place:
        other = Place()
        other.key, other.aim, other.link = self.key, self.aim, self.link
        other.value = None if self.value is None else self.value[:]
        other.word, other.links = self.word[:], self.links[:]
        other.in_string, other.escaped = self.in_string, self.escaped
        return other


class Fields:
    """The prompt's values by key, and the place that its answer has reached."""

    def __init__(self, prompt: Sequence[int], token_bytes: Sequence[bytes]) -> None:
        pieces = [token_bytes[token] for token in prompt]
        self._token_bytes = token_bytes
        self._text = b"".join(pieces)
        self._tokens: dict[int, int] = {}
        self._keys: dict[bytes, list[int]] = {}
        self._values: dict[int, bytes] = {}
        self._found: dict[bytes, list[tuple[int, bytes]]] = {}
        self._cursor: dict[bytes, int] = {}
        self.place = Place()
        self._index(prompt, pieces)

    def feed(self, place: Place, token: int, names: Names, *, drawn: bool) -> None:
        """Moves `place` beyond a token. `drawn` ones are remembered, guesses are not."""
        for byte in self._token_bytes[token] if self._keys else b"":
            if place.in_string:
                self._in_string(place, byte)
            elif byte == _QUOTE:
                place.in_string = True
                place.word.clear()
                if place.value is not None:
                    place.value.append(byte)
            elif byte == _COLON and place.value is None:
                self._begin(place, names)
            elif byte in b"{[}],":
                self._structure(place, byte, names, drawn)
            elif place.value is not None and byte not in b" \n" and len(place.value) < _LONGEST:
                place.value.append(byte)

    def next(self, place: Place) -> tuple[int, tuple[str, bytes, Stage]] | None:
        """The token that goes on with what the value was in the prompt, and in which context that
        is guessed."""
        if place.value is None or place.key is None or place.aim is None:
            return None
        at = place.aim + len(place.value)
        token = self._tokens.get(at)
        if token is None or not self._text.startswith(bytes(place.value), place.aim):
            return None
        stage: Stage = "start"
        if place.value:
            stage = "end" if self._text[at] in _AFTER else "inside"
        return token, ("first" if place.link is None else "linked", place.key, stage)

    def _index(self, prompt: Sequence[int], pieces: list[bytes]) -> None:
        at = 0
        for token, piece in zip(prompt, pieces, strict=True):
            self._tokens[at] = token
            at += len(piece)
        for match in _KEY.finditer(self._text):
            key, start = match[1], match.end()
            self._keys.setdefault(key, []).append(start)
            value = _VALUE.match(self._text, start)
            if value is not None:
                self._values[start] = value[0]
                self._found.setdefault(value[0], []).append((start, key))

    def _in_string(self, place: Place, byte: int) -> None:
        part = place.word if place.value is None else place.value
        if len(part) < _LONGEST:
            part.append(byte)
        if place.escaped:
            place.escaped = False
        elif byte == _BACKSLASH:
            place.escaped = True
        elif byte == _QUOTE:
            place.in_string = False

    def _structure(self, place: Place, byte: int, names: Names, drawn: bool) -> None:
        self._end(place, names, drawn)
        if byte in b"{[":
            place.links.append(place.link)
            if byte == b"{"[0]:
                place.link = None
        elif byte != _COMMA and place.links:
            place.link = place.links.pop()

    def _begin(self, place: Place, names: Names) -> None:
        """A key is complete: looks for its value in the prompt."""
        place.key, place.value, place.aim = bytes(place.word[:-1]), bytearray(), None
        places = self._keys.get(names.get(place.key, place.key))
        if places is not None:
            link = place.link
            after = self._cursor.get(place.key, -1) if link is None else link
            at = bisect_right(places, after)
            place.aim = places[at] if at < len(places) else None

    def _end(self, place: Place, names: Names, drawn: bool) -> None:
        """A value is complete: where it was what the prompt has, the object goes on from there."""
        key, value, aim = place.key, bytes(place.value or b""), place.aim
        place.key = place.value = place.aim = None
        place.word.clear()
        if key is None or not value:
            return
        if aim is None or self._values.get(aim) != value:
            found = self._equal(place, value)
            if found is None:
                return
            aim, theirs = found
            if key not in self._keys and drawn:
                names[key] = theirs
            elif names.get(key, key) != theirs:
                return
        place.link = aim
        if drawn:
            self._cursor[key] = aim

    def _equal(self, place: Place, value: bytes) -> tuple[int, bytes] | None:
        """An equal value of the same record, or the first one that is a string."""
        found = self._found.get(value)
        if found is None:
            return None
        if place.link is None:
            return found[0] if value[0] == _QUOTE else None
        at = bisect_right(found, (place.link, b"\xff"))
        return found[at] if at < len(found) and found[at][0] - place.link <= NEAR else None
