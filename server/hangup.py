"""Cancels the work on a request when its client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from server.errors import ClientGone


@asynccontextmanager
async def cancelled_by_hangup(receive: Receive) -> AsyncIterator[None]:
    """Cancels the body of this block as soon as `receive` reports a disconnect.

    Raises `ClientGone` in place of that cancellation; any other one passes unchanged.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a request is answered by a task")
    cancelling = task.cancelling()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() <= cancelling:
            raise ClientGone from None
        raise
    finally:
        watcher.cancel()
