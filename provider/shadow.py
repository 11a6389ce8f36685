"""A sample of live requests is also sent to the other provider, off the path.

The client's answer never waits for the shadow, and never fails because of it: shadows run as tasks
of their own, at most `concurrency` at a time and `budget` in all; what does not fit is dropped
and counted. What was seen is one JSON line per pair, which `sllm shadow report` reads.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from provider.base import ApiRequest, ApiResponse, ByteStream, Holder, Provider, Sample
from provider.errors import ApiError
from provider.prices import cost
from provider.record import CHAT, Journal
from provider.redact import personal_data
from provider.transcript import Transcript

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which requests are shadowed: `rate` (0 to 1) of them, `concurrency` at a time, `budget` in
    all (None: no limit); a shadow is given up after `timeout` seconds."""

    rate: float = 0.05
    concurrency: int = 4
    budget: int | None = None
    timeout: float = 120.0


class Shadow(Holder):
    """A provider that answers from `inner` and compares with `other`."""

    def __init__(
        self,
        inner: Provider,
        other: Provider,
        journal: Journal,
        sampling: Sampling,
        adapt: Callable[[ApiRequest], ApiRequest] = lambda request: request,
        draw: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(inner)
        self._other = other
        self._journal = journal
        self._sampling = sampling
        self._adapt = adapt
        self._draw = draw
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent = 0
        self.dropped = 0

    async def answer(self, request: ApiRequest) -> ApiResponse:
        started = time.perf_counter()
        response = await self._inner.answer(request)
        if response.status != 200 or not self._chosen(request):
            return response
        if isinstance(response.body, bytes):
            took = time.perf_counter() - started
            self._send(request, Transcript.of_body(response.body), took)
            return response
        return replace(response, body=_Watched(response.body, self, request, started))

    async def aclose(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._inner.aclose()
        await self._other.aclose()

    def samples(self) -> Iterable[Sample]:
        yield from super().samples()
        counts = (("sent", self._sent), ("dropped", self.dropped))
        for what, count in counts:
            yield Sample(
                "sllm_shadow_requests_total",
                "counter",
                "Shadow requests by what became of them.",
                (("outcome", what),),
                count,
            )

    def _chosen(self, request: ApiRequest) -> bool:
        if request.path != CHAT or self._draw() >= self._sampling.rate:
            return False
        budget = self._sampling.budget
        return budget is None or self._sent < budget

    def _send(self, request: ApiRequest, served: Transcript, took: float) -> None:
        if len(self._tasks) >= self._sampling.concurrency:
            self.dropped += 1
            return
        self._sent += 1
        task = asyncio.get_running_loop().create_task(self._compare(request, served, took))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, request: ApiRequest, served: Transcript, took: float) -> None:
        started = time.perf_counter()
        shadow, failure = Transcript(), None
        try:
            async with asyncio.timeout(self._sampling.timeout):
                shadow = await self._ask(request)
        except (ApiError, TimeoutError, OSError) as error:
            failure = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        entry = comparison(request.json, served, took, shadow, seconds, failure)
        try:
            await asyncio.to_thread(self._journal.append, entry)
        except OSError as error:
            log.error("%s does not take comparisons: %s", self._journal.path, error)

    async def _ask(self, request: ApiRequest) -> Transcript:
        body = {key: value for key, value in request.json.items() if key != "stream_options"}
        adapted = self._adapt(request.with_json({**body, "stream": False}))
        response = await self._other.answer(adapted)
        content = await response.read()
        if response.status != 200:
            raise ApiError(f"status {response.status}: {content[:300].decode(errors='replace')}")
        return Transcript.of_body(content)


class _Watched:
    """Compared when the stream ends, or is closed after its finish reason, as the SDK does."""

    def __init__(
        self, body: ByteStream, shadow: Shadow, request: ApiRequest, started: float
    ) -> None:
        self._body, self._shadow, self._request = body, shadow, request
        self._started = started
        self._transcript = Transcript()
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            self._transcript.feed(piece)
            yield piece
        self._end()

    async def aclose(self) -> None:
        await self._body.aclose()
        if self._transcript.finish_reason is not None:
            self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            took = time.perf_counter() - self._started
            self._shadow._send(self._request, self._transcript, took)


def comparison(
    asked: dict[str, Any],
    served: Transcript,
    served_seconds: float,
    shadow: Transcript,
    shadow_seconds: float,
    failure: str | None,
) -> dict[str, Any]:
    """One line of the shadow journal. Texts are kept only as far as a report's worst examples
    need them (2,000 characters), without personal data."""
    served_json, shadow_json = _as_json(served), _as_json(shadow)
    schema = _schema_of(asked)
    fields = agreement(served_json, shadow_json) if served_json is not None else {}
    return {
        "at": datetime.now(UTC).isoformat(),
        "failure": failure,
        "served": _facts(served, served_seconds, served_json, schema),
        "shadow": _facts(shadow, shadow_seconds, shadow_json, schema),
        "agreement": fields,
    }


def agreement(left: Any, right: Any, path: str = "") -> dict[str, bool]:
    """Leaf by leaf, whether two JSON values agree; list positions share a path (`rooms[].area`
    agrees when all do)."""
    if isinstance(left, dict):
        other = right if isinstance(right, dict) else {}
        found: dict[str, bool] = {}
        for key, value in left.items():
            below = agreement(value, other.get(key), f"{path}.{key}" if path else key)
            found.update(below)
        return found
    if isinstance(left, list):
        return _list_agreement(left, right, f"{path}[]")
    return {path or "$": left == right and isinstance(left, bool) == isinstance(right, bool)}


def _list_agreement(left: list[Any], right: Any, path: str) -> dict[str, bool]:
    other = right if isinstance(right, list) else []
    found = {f"{path}.length": len(left) == len(other)}
    for position, value in enumerate(left):
        below = agreement(value, other[position] if position < len(other) else None, path)
        for name, same in below.items():
            found[name] = found.get(name, True) and same
    return found


def _facts(
    transcript: Transcript, seconds: float, parsed: Any, schema: dict[str, Any] | None
) -> dict[str, Any]:
    message = transcript.message() or {}
    return {
        "model": transcript.model,
        "seconds": round(seconds, 4),
        "usage": transcript.usage,
        "cost_usd": cost(transcript.model or "", transcript.usage),
        "finish_reason": transcript.finish_reason,
        "valid": None if schema is None else _valid(parsed, schema),
        "text": personal_data(message.get("content") or "")[:2000],
    }


def _as_json(transcript: Transcript) -> Any:
    message = transcript.message()
    try:
        return json.loads((message or {}).get("content") or "")
    except ValueError:
        return None


def _schema_of(asked: dict[str, Any]) -> dict[str, Any] | None:
    wanted = asked.get("response_format") or {}
    schema = (wanted.get("json_schema") or {}).get("schema")
    return schema if isinstance(schema, dict) else None


def _valid(parsed: Any, schema: dict[str, Any]) -> bool | None:
    """Whether it fits the schema; None where jsonschema is not installed."""
    try:
        import jsonschema
    except ModuleNotFoundError:
        return None
    return parsed is not None and jsonschema.validators.validator_for(schema)(schema).is_valid(
        parsed
    )
