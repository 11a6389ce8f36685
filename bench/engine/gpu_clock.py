"""A benchmark's time: what is left of it, lines of progress, parts that may fail alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from provider.engine.device import works


class Broken(Exception):
    """The device does not compute any more; nothing can be measured in this process."""


class Clock:
    """Bounds a run to `minutes`. Progress goes to stderr, so that stdout is the report alone."""

    def __init__(self, minutes: float) -> None:
        self._started = time.monotonic()
        self._whole = minutes * 60

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._whole - (time.monotonic() - self._started)

    def say(self, text: str) -> None:
        passed = time.monotonic() - self._started
        print(f"[{passed:5.0f} s] {text}", file=sys.stderr, flush=True)

    def part(self, name: str, device: str, work: Callable[[], None]) -> bool:
        """Runs one part; says why it failed, if it did. Raises Broken if nothing more can run."""
        if self.left <= 0:
            print(f"{name}: not measured, the time is up", flush=True)
            return True
        self.say(name)
        try:
            work()
        except Exception as error:  # noqa: BLE001  (a part must not take the others with it)
            said = " ".join(str(error).split())[:300]
            print(f"{name}: failed, {type(error).__name__}: {said}", flush=True)
            self._check(device, error)
            return False
        return True

    def _check(self, device: str, error: Exception) -> None:
        if not works(torch.device(device)):
            raise Broken(f"{device} does not compute any more after {type(error).__name__}")
