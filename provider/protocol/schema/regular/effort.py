"""A bound on the work that one schema may cause, counted in steps, not in seconds.

Counting makes a refusal the same on every machine and under every load.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class TooComplex(Exception):
    """A question that would take more work than we are willing to spend."""


class _Allowance:
    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps


_current: ContextVar[_Allowance | None] = ContextVar("effort", default=None)


@contextmanager
def allowance(steps: int) -> Iterator[None]:
    """At most so many steps inside the block; then `spend` raises `TooComplex`."""
    token = _current.set(_Allowance(steps))
    try:
        yield
    finally:
        _current.reset(token)


def spend(steps: int = 1) -> None:
    found = _current.get()
    if found is not None:
        found.left -= steps
        if found.left < 0:
            raise TooComplex
