"""Answering on the thread that asks, without an event loop.

A synchronous client would have to hand each request to a loop on another thread and wait for it,
which costs two changes of thread. A provider that only forwards need not: asked with `HERE` in the
request's context, it does its work, blocking, before it returns, and its coroutine never waits.
Those that hold it are written once for both: a coroutine that never waits is run by `driven`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from provider.base import ApiRequest

T = TypeVar("T")

HERE = "here"
"""In a request's context: the seconds that the caller waits at most (None: for ever)."""


class NeedsLoop(Exception):
    """The provider that would answer waits for things and has not begun: ask it on a loop."""


class CallerTimeout(TimeoutError):
    """The seconds that the caller waits are over."""


def asked_here(request: ApiRequest) -> bool:
    """Whether the answer is to be made on the calling thread."""
    return HERE in request.context


def answers_here(provider: object) -> bool:
    """Whether a provider can do that for the requests that it is asked now."""
    return bool(getattr(provider, "here", False))


def driven(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("a provider that answers on the calling thread has waited for something")
