"""Asks again what may pass: a busy or failing server, not a wrong request or an empty account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

T = TypeVar("T")

_ATTEMPTS = 6
_FIRST, _LONGEST = 0.5, 60.0
"""Seconds."""


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer of `ask`, called up to six times, as far apart as the server wants or ever
    further. Raises what the last attempt raised."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(passes),
        wait=_wait,
        stop=stop_after_attempt(_ATTEMPTS),
        reraise=True,
    ):
        with attempt:
            return await ask()
    raise AssertionError("tenacity ends by returning or raising")


def passes(error: BaseException) -> bool:
    """Whether the same request may be answered later."""
    if isinstance(error, openai.RateLimitError):
        return error.code != "insufficient_quota"
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 409) or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, openai.APIStatusError):
        try:
            return min(_LONGEST, max(0.0, float(error.response.headers["retry-after"])))
        except (KeyError, ValueError):
            pass
    return float(min(_LONGEST, _FIRST * 2 ** (state.attempt_number - 1)))
