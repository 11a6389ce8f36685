"""Where a JSON text that is being written stands: in a string, in a number, how deep."""

from __future__ import annotations

_OPEN, _CLOSE, _NUMBER = b"[{", b"]}", b"0123456789.eE+-"
_QUOTE, _BACKSLASH = b'"'[0], b"\\"[0]


class JsonPlace:
    """Reads tokens of one text in order. `tokens` is how many; `depths` has the nesting after each.

    Text before the first bracket or quote is skipped.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.depths: list[int] = []
        self.in_string = False
        self.escaped = False
        self.string_since = 0
        self._depth = 0
        self._last = 0
        self._number_bytes = 0
        self._number_tokens = 0

    @property
    def in_number(self) -> bool:
        return not self.in_string and self._number_bytes > 0

    def in_number_since(self, count: int) -> bool:
        """Whether the last `count` tokens are of the number that is being written."""
        return self.in_number and self._number_tokens >= count

    @property
    def after_value(self) -> bool:
        """Whether a value (or nothing, in an empty list) stands before what comes next."""
        return not self.in_string and self._last not in b",:"

    def feed(self, data: bytes) -> None:
        self.tokens += 1
        for byte in data:
            self._byte(byte)
        self._number_tokens = self._number_tokens + 1 if self.in_number else 0
        self.depths.append(self._depth)
        if not self.in_string:
            self.string_since = self.tokens

    def _byte(self, byte: int) -> None:
        if self.in_string:
            if self.escaped:
                self.escaped = False
            elif byte == _BACKSLASH:
                self.escaped = True
            elif byte == _QUOTE:
                self.in_string = False
        elif byte == _QUOTE:
            self.in_string = True
            self.string_since = self.tokens
        elif byte in _OPEN:
            self._depth += 1
        elif byte in _CLOSE:
            self._depth = max(0, self._depth - 1)
        inside = not self.in_string and byte in _NUMBER
        self._number_bytes = self._number_bytes + 1 if inside else 0
        self._last = byte
