"""Which provider is active is decided at each request; what is under way ends where it began."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from provider.base import (
    ApiRequest,
    ApiResponse,
    ByteStream,
    Holder,
    Provider,
    Sample,
    describe_of,
    health_of,
    samples_of,
    warm_up,
)
from provider.errors import ConfigurationError, Conflict, InvalidRequest, MethodNotAllowed
from provider.here import NeedsLoop, answers_here, asked_here
from provider.overrides import SIDES, Overrides, Side
from provider.portal import portal

log = logging.getLogger(__name__)

ADMIN_PATH = "/admin/providers"


@dataclass
class _Standing:
    """A provider that was built, and how many requests it is answering."""

    provider: Provider
    under_way: int = 0


class Switch:
    """A provider that hands each request to the side's active provider.

    `make` builds a provider by its name, at its first use. `cold` names those that are closed when
    they are switched away from and have finished (to give the GPU back, at the next request that
    ends); the others stay warm.
    `ready` names those that are made ready at start although they are not active, so that a switch
    to them costs nothing.
    """

    def __init__(
        self,
        side: Side,
        default: str,
        overrides: Overrides,
        make: Callable[[str], Provider],
        cold: frozenset[str] = frozenset(),
        ready: frozenset[str] = frozenset(),
    ) -> None:
        self._side = side
        self._default = default
        self._overrides = overrides
        self._make = make
        self._cold = cold
        self._ready = ready
        self._lock = threading.Lock()
        self._standing: dict[str, _Standing] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> str:
        return self._overrides.state().of(self._side) or self._default

    async def answer(self, request: ApiRequest) -> ApiResponse:
        name = self.active
        standing = self._enter(name)
        here = asked_here(request)
        try:
            if here and not answers_here(standing.provider):
                raise NeedsLoop
            response = await standing.provider.answer(request)
        except BaseException:
            self._leave(standing, here)
            raise
        headers = {**response.headers, "x-sllm-provider": name}
        if isinstance(response.body, bytes):
            self._leave(standing, here)
            return replace(response, headers=headers)
        body = _Held(response.body, lambda: self._leave(standing, here))
        return replace(response, headers=headers, body=body)

    @property
    def here(self) -> bool:
        """Which provider answers is known when it is asked."""
        return True

    async def aclose(self) -> None:
        with self._lock:
            standing, self._standing = list(self._standing.values()), {}
        for one in standing:
            await one.provider.aclose()
        here = [task for task in self._closing if task.get_loop() is asyncio.get_running_loop()]
        await asyncio.gather(*here)

    def health(self) -> Mapping[str, Any]:
        name = self.active
        with self._lock:
            provider = self._stand(name).provider
        return {**health_of(provider), f"{self._side}_provider": name}

    def describe(self) -> list[str]:
        name = self.active
        with self._lock:
            return describe_of(self._stand(name).provider)

    def warm_up(self) -> None:
        names = {self.active, *self._ready}
        with self._lock:
            providers = [self._stand(name).provider for name in sorted(names)]
        for provider in providers:
            warm_up(provider)

    def samples(self) -> Iterable[Sample]:
        for name in sorted(self._overrides.known):
            yield Sample(
                "sllm_active_provider",
                "gauge",
                "1 for the provider that answers new requests.",
                (("side", self._side), ("provider", name)),
                float(name == self.active),
            )
        with self._lock:
            standing = [one.provider for one in self._standing.values()]
        for provider in standing:
            yield from samples_of(provider)

    def _enter(self, name: str) -> _Standing:
        with self._lock:
            standing = self._stand(name)
            standing.under_way += 1
            return standing

    def _stand(self, name: str) -> _Standing:
        if name not in self._standing:
            self._standing[name] = _Standing(self._make(name))
        return self._standing[name]

    def _leave(self, standing: _Standing, here: bool) -> None:
        with self._lock:
            standing.under_way -= 1
            idle = [name for name in self._cold if self._is_idle(name)]
            closing = [(name, self._standing.pop(name).provider) for name in idle]
        for name, provider in closing:
            log.info("%s is switched away from and has finished: closing it", name)
            if here:  # there is no event loop on this thread, or it is somebody else's
                portal().start(provider.aclose())
                continue
            task = asyncio.create_task(provider.aclose())  # no request waits for it
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _is_idle(self, name: str) -> bool:
        standing = self._standing.get(name)
        return standing is not None and standing.under_way == 0 and name != self.active


class _Held:
    """A stream that says when it is over, however it ends."""

    def __init__(self, body: ByteStream, leave: Callable[[], None]) -> None:
        self._body, self._leave, self._over = body, leave, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                yield piece
        finally:
            self._end()

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._leave()


class Switchboard(Holder):
    """Answers `/admin/providers`; every other request goes on.

    `GET` tells which provider each side uses, why, and the newest changes. `PUT` with
    `{"llm": "openai" | "local" | "default", "embedding": ...}` switches. Who may call it is the
    server's business.
    """

    forwards_here = True

    def __init__(self, inner: Provider, overrides: Overrides, defaults: dict[Side, str]) -> None:
        super().__init__(inner)
        self._overrides = overrides
        self._defaults = defaults

    async def answer(self, request: ApiRequest) -> ApiResponse:
        if request.path != ADMIN_PATH:
            return await self._inner.answer(request)
        if request.method == "PUT":
            changes = self._changes(request)
            try:
                self._overrides.set(changes, request.headers.get("x-sllm-changed-by"))
            except ConfigurationError as error:
                raise Conflict(str(error)) from error
        elif request.method != "GET":
            raise MethodNotAllowed(f"Not allowed to {request.method} on {ADMIN_PATH}.")
        return ApiResponse.from_json(self.report())

    def health(self) -> Mapping[str, Any]:
        return {**super().health(), "providers": self.report()}

    def report(self) -> dict[str, Any]:
        state = self._overrides.state()
        sides: dict[str, Any] = {
            side: {
                "active": state.of(side) or self._defaults[side],
                "default": self._defaults[side],
                "overridden": state.of(side) is not None,
            }
            for side in SIDES
        }
        return {
            "object": "providers",
            **sides,
            "changed_at": state.changed_at,
            "changed_by": state.changed_by,
            "history": self._overrides.history(),
        }

    def _changes(self, request: ApiRequest) -> dict[Side, str | None]:
        unknown = sorted(set(request.json) - set(SIDES))
        if unknown or not request.json:
            raise InvalidRequest(
                f"Expected an object with 'llm', 'embedding' or both, but got "
                f"{json.dumps(request.json, ensure_ascii=False)[:200]}.",
                param=unknown[0] if unknown else None,
            )
        return {
            side: self._change(side, request.json[side]) for side in SIDES if side in request.json
        }

    def _change(self, side: Side, name: Any) -> str | None:
        if name == "default":
            return None
        if not isinstance(name, str) or name not in self._overrides.known:
            known = ", ".join([*sorted(self._overrides.known), "default"])
            raise InvalidRequest(
                f"Invalid value: {name!r}. Supported values are: {known}.", param=side
            )
        return name
