"""Heavy parts, built at their first use, once per process and configuration."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from provider.errors import ServerError

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value that is built when it is first asked for; safe to ask from any thread or loop.

    It belongs to the process that built it: its threads do not come along when that forks.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._value: T | None = None
        self._process = os.getpid()

    @classmethod
    def of(cls, value: T) -> Lazy[T]:
        """One that is already there."""
        lazy = cls(lambda: value)
        lazy.now()
        return lazy

    @property
    def built(self) -> T | None:
        """The value if it is there; never builds and never waits."""
        return self._value

    def now(self) -> T:
        """The value, built by this call if need be. Raises what building raises, each time, and
        `ServerError` in a process that was forked from the one that built it."""
        self._check_process()
        with self._lock:
            if self._value is None:
                self._value = self._make()
            return self._value

    async def get(self) -> T:
        """As `now`, without blocking the event loop."""
        self._check_process()
        if self._value is not None:
            return self._value
        return await asyncio.to_thread(self.now)

    def _check_process(self) -> None:
        if self._process == (here := os.getpid()):
            return
        if self._value is not None:
            raise ServerError(
                f"The model was loaded by process {self._process}, of which this one is a fork; a "
                "fork can compute nothing with it. Ask for it first in the worker (gunicorn: "
                "without --preload, or no request before the fork), or use 'sllm serve'.",
                code="forked",
                headers={"x-should-retry": "false"},
            )
        self._lock, self._process = threading.Lock(), here


class Shared(Generic[T]):
    """Lazy values by key, counted: the last holder to let go closes."""

    def __init__(self, close: Callable[[T], None]) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._held: dict[Hashable, tuple[Lazy[T], int]] = {}

    def hold(self, key: Hashable, make: Callable[[], T]) -> Lazy[T]:
        with self._lock:
            lazy, holders = self._held.get(key, (Lazy(make), 0))
            self._held[key] = (lazy, holders + 1)
            return lazy

    def let_go(self, key: Hashable) -> None:
        with self._lock:
            lazy, holders = self._held[key]
            if holders > 1:
                self._held[key] = (lazy, holders - 1)
                return
            del self._held[key]
        if lazy.built is not None:
            self._close(lazy.built)
