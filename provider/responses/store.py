"""Responses that are kept: in this process's memory, bounded in number and in bytes.

A response belongs to the caller who made it; another caller's does not exist. What was not used
for the longest time makes room.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """A response, the whole conversation that it answers (`input`, without instructions), and what
    goes on from it (`conversation`: that and its output)."""

    response: Mapping[str, Any]
    input: tuple[Item, ...]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        size = len(json.dumps([self.response, self.input], ensure_ascii=False).encode())
        object.__setattr__(self, "size", size)

    @property
    def id(self) -> str:
        found: str = self.response["id"]
        return found

    @property
    def conversation(self) -> tuple[Item, ...]:
        return (*self.input, *self.response["output"])


class Store:
    """At most `most` responses of `most_bytes` in all. Safe for several threads."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, str], Kept] = OrderedDict()
        self._items: dict[tuple[Any, str], Item] = {}
        self._uses: Counter[tuple[Any, str]] = Counter()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        return self._bytes

    def keep(self, caller: Any, kept: Kept) -> bool:
        """Whether there is room for it at all."""
        if self._most < 1 or kept.size > self._most_bytes:
            return False
        with self._lock:
            if (caller, kept.id) in self._kept:
                self._forget((caller, kept.id))
            self._kept[caller, kept.id] = kept
            self._bytes += kept.size
            for item in kept.conversation:
                self._items[caller, item["id"]] = item
                self._uses[caller, item["id"]] += 1
            while len(self._kept) > self._most or self._bytes > self._most_bytes:
                self._forget(next(iter(self._kept)))
        return True

    def get(self, caller: Any, id: str) -> Kept | None:
        with self._lock:
            kept = self._kept.get((caller, id))
            if kept is not None:
                self._kept.move_to_end((caller, id))
            return kept

    def item(self, caller: Any, id: str) -> Item | None:
        """An item of one of the caller's responses."""
        with self._lock:
            return self._items.get((caller, id))

    def delete(self, caller: Any, id: str) -> bool:
        """Whether it was there."""
        with self._lock:
            found = (caller, id) in self._kept
            if found:
                self._forget((caller, id))
            return found

    def _forget(self, key: tuple[Any, str]) -> None:
        kept = self._kept.pop(key)
        self._bytes -= kept.size
        for item in kept.conversation:
            place = (key[0], item["id"])
            self._uses[place] -= 1
            if not self._uses[place]:
                del self._uses[place], self._items[place]
