"""Drives an engine as clients do and gathers what they are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from provider.engine.engine import Engine, Ticket
from provider.engine.request import (
    Done,
    Event,
    Finished,
    GenerationRequest,
    Piece,
    TokenLogprob,
    Usage,
)
from provider.errors import ApiError

PATIENCE = 60.0


@dataclass
class Client:
    """One request's events, in the order in which they came."""

    events: list[Event | ApiError] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    first: threading.Event = field(default_factory=threading.Event)
    submitting: threading.Lock = field(default_factory=threading.Lock)
    ticket: Ticket | None = None
    cancel_after: int | None = None

    def __call__(self, event: Event | ApiError) -> None:
        self.events.append(event)
        self.first.set()
        if isinstance(event, Done | ApiError):
            self.over.set()
        elif len(self.events) == self.cancel_after:
            with self.submitting:
                assert self.ticket is not None
                self.ticket.cancel()
            self.over.set()

    def wait(self) -> Client:
        assert self.over.wait(PATIENCE), "the engine did not answer in time"
        return self

    def text(self, index: int = 0) -> str:
        return "".join(e.text for e in self.events if isinstance(e, Piece) and e.index == index)

    def reason(self, index: int = 0) -> str:
        assert not isinstance(self.events[-1], ApiError), self.events[-1]
        return next(e.reason for e in self.events if isinstance(e, Finished) and e.index == index)

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [score for e in self.events if isinstance(e, Piece) for score in e.logprobs]

    @property
    def usage(self) -> Usage:
        assert isinstance(self.events[-1], Done), self.events[-1]
        return self.events[-1].usage

    @property
    def error(self) -> ApiError:
        assert isinstance(self.events[-1], ApiError), self.events[-1]
        return self.events[-1]


def submit(engine: Engine, request: GenerationRequest, cancel_after: int | None = None) -> Client:
    """Hands a request in; with `cancel_after`, cancels at that event."""
    client = Client(cancel_after=cancel_after)
    with client.submitting:
        client.ticket = engine.submit(request, client)
    return client


def serve(engine: Engine, requests: Sequence[GenerationRequest]) -> list[Client]:
    """All requests at once; returns when all are over."""
    clients = [submit(engine, request) for request in requests]
    return [client.wait() for client in clients]


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true; for what the engine's thread does after an answer."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
