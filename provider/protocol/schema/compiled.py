"""Constraints of schemas that were compiled before, found without writing the schema out again."""

from __future__ import annotations

import hashlib
import marshal
import threading
from collections import OrderedDict
from typing import Any

from provider.protocol.schema.constraint import Constraint


class Compiled:
    """The last `limit` constraints by schema, key order included. Safe to use from any thread."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._found: OrderedDict[bytes, Constraint] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Constraint | None:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: bytes, constraint: Constraint) -> None:
        with self._lock:
            self._found[key] = constraint
            while len(self._found) > self._limit:
                self._found.popitem(last=False)


def identity(schema: Any) -> bytes | None:
    """Equal for equal JSON with equal key order, and for nothing else; None for what is no JSON.

    marshal's second version writes plain dicts, lists and scalars by value and type, ten times as
    fast as JSON; its later ones also depend on which objects are shared.
    """
    try:
        return hashlib.blake2b(marshal.dumps(schema, 2), digest_size=32).digest()
    except ValueError:
        return None
