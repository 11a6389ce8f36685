"""One request under way: its answers and its only way back to the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from provider.engine.request import Done, Event, Finished, GenerationRequest, Usage
from provider.errors import ApiError

if TYPE_CHECKING:
    from provider.engine.adapters import Adapter
    from provider.engine.answer import Answer

OnEvent = Callable[[Event | ApiError], None]


class Job:
    """One request: its answers and its only way back to the client.

    After `Done`, an error or `cancel` nothing more is delivered. A callback that raises counts as
    a client that has gone.
    """

    def __init__(self, request: GenerationRequest, on_event: OnEvent) -> None:
        self.request = request
        self.adapter: Adapter | None = None
        self.answers: list[Answer] = []
        self.prompt = np.asarray(request.prompt, dtype=np.int32)
        self.cached = 0
        self.closed = False
        self._ended = 0
        self._on_event = on_event

    def deliver(self, event: Event | ApiError) -> None:
        if self.closed:
            return
        if isinstance(event, Done | ApiError):
            self.closed = True
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001  (the client's code; the engine must outlive it)
            self.closed = True

    def end(self, answer: Answer, reason: Literal["stop", "length"]) -> None:
        """Delivers the end of an answer, and `Done` after the last one."""
        self.deliver(Finished(answer.index, reason, self.running()))
        self._ended += 1
        if self._ended == len(self.answers):
            self.deliver(Done(self.usage()))

    def running(self) -> Usage | None:
        """What was counted so far, if the client asks for that."""
        return self.usage() if self.request.running_usage else None

    def usage(self) -> Usage:
        return Usage(
            prompt=len(self.request.prompt) + len(self.request.given),
            completion=sum(max(0, answer.generated) for answer in self.answers),
            cached=self.cached,
            accepted_prediction=sum(answer.accepted for answer in self.answers),
            rejected_prediction=sum(answer.rejected for answer in self.answers),
        )
