"""Reads JSON text as it is written, and tells when an array repeats an item that it must not."""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import Any

from provider.protocol.schema.sites import Site, kind

_VALUE, _STRING, _ESCAPE, _WORD, _AFTER, _NAME, _NAME_ESCAPE, _COLON, _DONE = range(9)
_QUOTE, _BACKSLASH, _COMMA = 0x22, 0x5C, 0x2C
_OPENERS = {0x5B: True, 0x7B: False}
_CLOSERS = frozenset(b"]}")
_TEXTS, _ESCAPES = (_STRING, _NAME), (_ESCAPE, _NAME_ESCAPE)
_WORDS = frozenset({b"true", b"false", b"null"})


class Frame:
    """An array or object under way. `used` has the items' values (None where items may be equal),
    `texts` how they were written, sorted."""

    __slots__ = ("array", "index", "rooms", "site", "start", "texts", "used")

    def __init__(self, site: Site | None, array: bool) -> None:
        self.site = site
        self.array = array
        self.index = 0
        self.start = -1
        self.used: frozenset[Any] | None = None
        self.texts: tuple[bytes, ...] = ()
        self.rooms: dict[bytes, int] = {}
        """How many tokens may follow a beginning of an item, as far as it has been seen."""

    def earlier(self, written: bytes) -> tuple[bytes, ...]:
        """The items that begin so."""
        first = bisect_left(self.texts, written)
        return self.texts[first : bisect_left(self.texts, written + b"\xff", first)]

    def continuations(self, written: bytes) -> list[int] | None:
        """The next bytes of the items that begin so; None when one of them is complete."""
        at = bisect_left(self.texts, written)
        found: list[int] = []
        while at < len(self.texts) and self.texts[at].startswith(written):
            if len(self.texts[at]) == len(written):
                return None
            found.append(self.texts[at][len(written)])
            at = bisect_left(self.texts, written + bytes([found[-1], 0xFF]), at)
        return found

    def copy(self) -> Frame:
        other = Frame(self.site, self.array)
        other.index, other.start = self.index, self.start
        other.used, other.texts, other.rooms = self.used, self.texts, self.rooms
        return other


class Reading:
    """The state after some text of one value. `feed` says whether the text may go on so."""

    __slots__ = ("frames", "mode", "name_start", "site", "text")

    def __init__(self, site: Site | None) -> None:
        self.site = site
        """Of the value that comes next."""
        self.frames: list[Frame] = []
        self.mode = _VALUE
        self.text = bytearray()
        self.name_start = 0

    def copy(self) -> Reading:
        other = Reading.__new__(Reading)
        other.site, other.mode, other.name_start = self.site, self.mode, self.name_start
        other.frames = [f.copy() for f in self.frames]
        other.text = self.text[:]
        return other

    @property
    def done(self) -> bool:
        return self.mode == _DONE

    @property
    def untouched(self) -> bool:
        return self.mode == _VALUE and not self.frames

    @property
    def in_string(self) -> bool:
        return self.mode in _TEXTS

    @property
    def watches(self) -> bool:
        """Whether an array with distinct items is under way."""
        return any(f.used is not None for f in self.frames)

    def partial(self) -> list[tuple[Frame, bytes]]:
        """For every array with distinct items: what has been written of the present item."""
        return [
            (f, bytes(self.text[f.start :]))
            for f in self.frames
            if f.used is not None and f.start >= 0
        ]

    def feed(self, data: bytes) -> bool:
        """Take more text; False when it repeats an item. What is no JSON is not noticed."""
        return all(self._step(c) for c in data)

    def _step(self, c: int) -> bool:
        mode = self.mode
        if mode in _TEXTS:
            return self._in_string(c)
        if mode in _ESCAPES:
            self.mode = _STRING if mode == _ESCAPE else _NAME
            self.text.append(c)
            return True
        if mode == _WORD:
            return self._in_word(c)
        if mode == _VALUE and c not in _CLOSERS:
            return self._begin(c)
        self.text.append(c)
        if mode == _COLON:
            self.mode = _VALUE
            return True
        if c in _CLOSERS:
            return self._close()
        return self._next(c)

    def _in_string(self, c: int) -> bool:
        self.text.append(c)
        if c == _BACKSLASH:
            self.mode = _ESCAPE if self.mode == _STRING else _NAME_ESCAPE
        elif c == _QUOTE:
            if self.mode == _NAME:
                self.mode = _COLON
                self._named()
            else:
                return self._finished()
        return True

    def _named(self) -> None:
        frame = self.frames[-1]
        name = json.loads(bytes(self.text[self.name_start :])) if frame.site is not None else ""
        self.site = frame.site.member(name) if frame.site is not None else None

    def _in_word(self, c: int) -> bool:
        if c == _COMMA or c in _CLOSERS:
            if not self._finished():
                return False
            return self._step(c)
        self.text.append(c)
        if c in b"el" and bytes(self.text[self.name_start :]) in _WORDS:
            return self._finished()
        return True

    def _begin(self, c: int) -> bool:
        """The first byte of a value, or of an object's first name."""
        frame = self.frames[-1] if self.frames else None
        at = len(self.text)
        self.text.append(c)
        if frame is not None and frame.array:
            if frame.index == 0 and frame.site is not None and kind(c) in frame.site.distinct:
                frame.used = frozenset()
            frame.start = at
        if c in _OPENERS:
            opened = Frame(self.site, _OPENERS[c])
            self.frames.append(opened)
            if opened.array:
                self.site = opened.site.item(0) if opened.site is not None else None
            else:
                self.mode = _AFTER
            return True
        self.name_start = at
        self.mode = _STRING if c == _QUOTE else _WORD
        return True

    def _next(self, c: int) -> bool:
        """After a value: a comma; or the first name of an object."""
        frame = self.frames[-1]
        if c == _QUOTE:
            self.name_start = len(self.text) - 1
            self.mode = _NAME
        elif frame.array:
            frame.index += 1
            frame.start = len(self.text)
            self.site = frame.site.item(frame.index) if frame.site is not None else None
            self.mode = _VALUE
        return True

    def _close(self) -> bool:
        self.frames.pop()
        return self._finished()

    def _finished(self) -> bool:
        """A value is complete; False when it is an item that was there before."""
        if not self.frames:
            self.mode = _DONE
            return True
        self.mode = _AFTER
        frame = self.frames[-1]
        if frame.used is None:
            if not self.watches:
                self.text.clear()
            return True
        text = bytes(self.text[frame.start :])
        value = comparable(json.loads(text, parse_int=_integer))
        frame.start = -1
        if value in frame.used:
            return False
        frame.used |= {value}
        at = bisect_left(frame.texts, text)
        frame.texts = (*frame.texts[:at], text, *frame.texts[at:])
        return True


def _integer(digits: str) -> int | tuple[str]:
    """Python reads no integer of more than 4,300 digits; grammars write them in one way only."""
    return int(digits) if len(digits) < 4000 else (digits,)


def comparable(value: Any) -> Any:
    """A key that equal JSON values share, and others do not; numbers compare as readers do."""
    if isinstance(value, bool) or value is None:
        return str(value), None
    if isinstance(value, str):
        return "s", value
    if isinstance(value, list):
        return "a", tuple(comparable(v) for v in value)
    if isinstance(value, dict):
        return "o", frozenset((k, comparable(v)) for k, v in value.items())
    return "n", value
