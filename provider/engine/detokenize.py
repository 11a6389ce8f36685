"""Tokens to text: whole characters only, and nothing that may still become a stop string."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence

from provider.engine.request import TokenLogprob


class TextAssembler:
    """The text of one answer as its tokens arrive.

    A byte-level token may end inside a character, so bytes are held back until the character is
    whole; bytes that never become UTF-8 turn into U+FFFD. Text that may be the start of a stop
    string is held back until it is decided. Bytes left over when the answer ends are dropped.
    A stop string is not part of the text unless `keep`.
    """

    def __init__(self, stops: Sequence[str] = (), *, keep: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._keep = keep
        self._held = ""
        self._decoded = 0
        self._released = 0
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self.stopped = False

    def push(self, data: bytes, logprob: TokenLogprob | None = None, *, stops: bool = True) -> str:
        """The text that one more token releases (often empty); sets `stopped` at a stop string.

        Without `stops` no stop string is looked for, and none can begin in this text.
        """
        if self.stopped:
            return ""
        text = self._decoder.decode(data)
        self._decoded += len(text)
        if logprob is not None:
            inside = bool(self._decoder.getstate()[0])
            self._waiting.append((self._decoded + inside, logprob))
        self._held += text
        return self._release() if stops else self.flush()

    def flush(self) -> str:
        """What is left when the answer ends without a stop string."""
        text, self._held = self._held, ""
        self._released += len(text)
        return text

    def logprobs(self, *, everything: bool = False) -> tuple[TokenLogprob, ...]:
        """Of the tokens whose text has been released since the last call.

        With `everything`, also of tokens that end in a cut character.
        """
        limit = self._released + (1 if everything else 0)
        ready = []
        while self._waiting and self._waiting[0][0] <= limit:
            ready.append(self._waiting.popleft()[1])
        return tuple(ready)

    def _release(self) -> str:
        if not self._stops:
            return self.flush()
        found = [
            (at, at + len(stop) * self._keep)
            for stop in self._stops
            if (at := self._held.find(stop)) >= 0
        ]
        if found:
            self.stopped = True
            self._held = self._held[: min(found)[1]]
            return self.flush()
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        text = self._held[: len(self._held) - keep]
        self._held = self._held[len(text) :]
        self._released += len(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
