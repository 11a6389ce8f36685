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


class Permit:
    """One request's leave to go. How it went is told once; what is told later is passed over."""

    def __init__(self, breaker: Breaker, era: int, probe: bool) -> None:
        self._breaker = breaker
        self._era = era
        self._probe = probe
        self._told = False

    def began(self) -> None:
        """The first byte of a long answer came: enough for a probe to close the circuit."""
        if self._probe:
            self._era, self._probe = self._breaker._closed(self._era), False

    def succeeded(self) -> None:
        self._tell(self._breaker._succeeded)

    def failed(self) -> None:
        self._tell(self._breaker._failed)

    def abandoned(self) -> None:
        """It ended without saying anything about the upstream (it was cancelled)."""
        self._tell(self._breaker._abandoned)

    def _tell(self, how: Callable[[int, bool], None]) -> None:
        if not self._told:
            self._told = True
            how(self._era, self._probe)


class Breaker:
    """Counts consecutive failures. Thread-safe; `clock` returns seconds and never goes back.

    An era ends when the circuit opens or closes. A request that began in an earlier one says
    nothing about the upstream of today, so it neither closes, opens nor holds up the circuit.
    """

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._era = 0
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

    def admit(self) -> Permit | None:
        """Leave for a request to go, or None while the upstream is left alone."""
        with self._lock:
            state = self._state()
            if state == "closed":
                return Permit(self, self._era, probe=False)
            if state == "half-open" and not self._probing:
                self._probing = True
                return Permit(self, self._era, probe=True)
            return None

    def _succeeded(self, era: int, probe: bool) -> None:
        with self._lock:
            if era == self._era:
                self._in_a_row = 0
                if probe:
                    self._turn(None)

    def _failed(self, era: int, probe: bool) -> None:
        with self._lock:
            if era == self._era:
                self._in_a_row += 1
                if probe or self._in_a_row >= self._limit:
                    self._turn(self._clock())

    def _abandoned(self, era: int, probe: bool) -> None:
        with self._lock:
            if era == self._era and probe:
                self._probing = False

    def _closed(self, era: int) -> int:
        """Closes the circuit for a probe of this era; the era that its request now belongs to."""
        with self._lock:
            if era == self._era:
                self._turn(None)
                return self._era
            return era

    def _turn(self, opened_at: float | None) -> None:
        self._era += 1
        self._opened_at, self._probing, self._in_a_row = opened_at, False, 0

    def _state(self) -> BreakerState:
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._clock() >= self._opened_at + self._seconds else "open"
