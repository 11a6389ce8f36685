"""One event loop in a thread of its own, for callers that are not async.

Synchronous faces hand coroutines to it, so that nothing is written twice. One portal per process;
a forked child gets its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Portal:
    """Runs coroutines on a daemon thread's event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="sllm-portal", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """The coroutine's result.

        Raises `TimeoutError` after `timeout` seconds; then, and when the caller is interrupted,
        the coroutine is cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError(f"no answer within {timeout} seconds") from None
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begins the coroutine, which nobody waits for; a failure of it is logged."""
        asyncio.run_coroutine_threadsafe(work, self._loop).add_done_callback(_logged)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


def _logged(done: concurrent.futures.Future[Any]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("work in the background failed", exc_info=error)


_portals: dict[int, Portal] = {}
_lock = threading.Lock()


def portal() -> Portal:
    """This process's portal, started at its first use."""
    with _lock:
        if os.getpid() not in _portals:
            _portals.clear()
            _portals[os.getpid()] = Portal()
        return _portals[os.getpid()]


def _fresh_lock() -> None:
    global _lock
    _lock = threading.Lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_fresh_lock)
