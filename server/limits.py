"""How much at once, and how often: in all and per caller. One more is a 429 with Retry-After."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from provider.errors import RateLimited

_CALLERS_REMEMBERED = 10_000


@dataclass(slots=True)
class _Usage:
    running: int = 0
    tokens: float = 0.0
    updated: float = 0.0


class Limits:
    """Counts running requests and the rate of each caller (a token bucket of one minute).

    `per_caller` and `per_minute` None mean no limit. Not thread-safe: one event loop uses it.
    """

    def __init__(
        self,
        *,
        total: int,
        per_caller: int | None = None,
        per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._per_caller = per_caller
        self._per_minute = per_minute
        self._clock = clock
        self._running = 0
        self._callers: OrderedDict[str, _Usage] = OrderedDict()

    @property
    def running(self) -> int:
        return self._running

    @contextmanager
    def admitted(self, caller: str) -> Iterator[dict[str, str]]:
        """Holds a place while the request runs; yields OpenAI's rate-limit response headers.

        Raises `RateLimited` (429) when there is none.
        """
        usage = self._usage(caller)
        self._check_running(usage)
        headers = self._take(usage)
        self._running += 1
        usage.running += 1
        try:
            yield headers
        finally:
            self._running -= 1
            usage.running -= 1

    def _check_running(self, usage: _Usage) -> None:
        if self._running >= self._total:
            raise RateLimited(
                f"The server is answering {self._total} requests, the most it takes at once. "
                "Please try again shortly.",
                code="server_busy",
                retry_after=1,
            )
        if self._per_caller is not None and usage.running >= self._per_caller:
            raise RateLimited(
                f"Your key has {usage.running} requests under way, the most it may have at once.",
                code="concurrency_limit_exceeded",
                retry_after=1,
            )

    def _take(self, usage: _Usage) -> dict[str, str]:
        if self._per_minute is None:
            return {}
        limit, now = self._per_minute, self._clock()
        usage.tokens = min(limit, usage.tokens + (now - usage.updated) * limit / 60)
        usage.updated = now
        wait = (1 - usage.tokens) * 60 / limit
        if wait > 0:
            raise RateLimited(
                f"Rate limit reached: {limit} requests per minute. "
                f"Please try again in {wait:.1f}s.",
                headers=self._headers(limit, 0, wait),
                retry_after=math.ceil(wait),
            )
        usage.tokens -= 1
        return self._headers(limit, int(usage.tokens), (limit - usage.tokens) * 60 / limit)

    @staticmethod
    def _headers(limit: int, remaining: int, reset: float) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(limit),
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }

    def _usage(self, caller: str) -> _Usage:
        usage = self._callers.get(caller)
        if usage is None:
            usage = _Usage(tokens=self._per_minute or 0, updated=self._clock())
            self._callers[caller] = usage
            self._forget()
        self._callers.move_to_end(caller)
        return usage

    def _forget(self) -> None:
        """Bounds memory under many addresses; whoever has a request under way is kept."""
        if len(self._callers) <= _CALLERS_REMEMBERED:
            return
        oldest = next(name for name, usage in self._callers.items() if not usage.running)
        del self._callers[oldest]
