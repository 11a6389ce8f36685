"""A circuit breaker: an upstream that keeps failing is left alone for a while.

closed -> open after `failures` in a row; open -> half-open after `seconds`; half-open lets a single
probe through: its success closes the circuit, its failure opens it again. It works with exactly
one deployment: there is no group to be exempt from (Nygard, Release It!, chapter 5).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

BreakerState = Literal["closed", "open", "half-open"]


class Breaker:
    """Counts consecutive failures. Thread-safe; `clock` returns seconds and never goes back."""

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        with self._lock:
            return self._state()

    @property
    def retry_after(self) -> float:
        """Seconds until the next probe may go; 0 when one may go now."""
        with self._lock:
            if self._opened_at is None:
                return 0.0
            return max(0.0, self._opened_at + self._seconds - self._clock())

    def admit(self) -> bool:
        """Whether a request may go. A True must be answered by `succeeded`, `failed` or
        `abandoned`."""
        with self._lock:
            state = self._state()
            if state == "half-open" and not self._probing:
                self._probing = True
                return True
            return state == "closed"

    def succeeded(self) -> None:
        with self._lock:
            self._in_a_row, self._opened_at, self._probing = 0, None, False

    def failed(self) -> None:
        with self._lock:
            self._in_a_row += 1
            if self._probing or self._in_a_row >= self._limit:
                self._opened_at = self._clock()
            self._probing = False

    def abandoned(self) -> None:
        """The request ended without saying anything about the upstream (it was cancelled)."""
        with self._lock:
            self._probing = False

    def _state(self) -> BreakerState:
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._clock() >= self._opened_at + self._seconds else "open"
