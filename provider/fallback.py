"""When the first provider cannot answer, the second one does, before the first byte has gone out.

Retries are tenacity's: jittered, honouring `Retry-After`, under one total deadline, and only for
answers that say the request was not carried out (it never arrived, 429, 503). Anything else that
counts as a reason goes to the second provider at once. After the first byte there is no way back:
the stream's error is the client's, and the breaker's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

import tenacity

from provider.base import (
    ApiRequest,
    ApiResponse,
    ByteStream,
    Provider,
    Sample,
    describe_of,
    health_of,
    samples_of,
    warm_up,
)
from provider.breaker import Breaker, Permit
from provider.errors import ApiError, ContextTooLong, Unavailable, Unreachable, UpstreamTimeout
from provider.protocol.responses.exchange import kept_elsewhere
from provider.streams import primed

log = logging.getLogger(__name__)

REASONS = ("connect", "timeout", "server_error", "queue_full", "context")
"""Why a request may fall back. `connect` is a request that never arrived, `server_error` any other
5xx and an answer that broke off, `queue_full` 429 and 503."""

_NOT_CARRIED_OUT = frozenset({"connect", "queue_full"})
_OUTAGE = frozenset({"connect", "timeout", "server_error"})


@dataclass(frozen=True, slots=True)
class Policy:
    """Which reasons count, how often a request is tried, and for how long in all (seconds)."""

    reasons: Collection[str] = REASONS
    attempts: int = 2
    deadline: float = 30.0


class _Failed(Exception):
    """An attempt that may be tried again or elsewhere."""

    def __init__(self, reason: str, response: ApiResponse | None, error: ApiError | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.response = response
        self.error = error

    @property
    def retry_after(self) -> float | None:
        told = self.response or self.error
        return seconds_told(told.headers) if told else None

    @property
    def again(self) -> bool:
        """Whether the same request may be sent to the same provider once more."""
        spent = self.response is not None and _has(self.response, b"insufficient_quota")
        return self.reason in _NOT_CARRIED_OUT and not spent


class Fallback:
    """A provider of two: the second answers what the first cannot.

    `adapt` makes the second provider's request out of the first's (its model name, for one).
    """

    def __init__(
        self,
        first: Provider,
        second: Provider,
        breaker: Breaker,
        policy: Policy | None = None,
        adapt: Callable[[ApiRequest], ApiRequest] = lambda request: request,
    ) -> None:
        self._first = first
        self._second = second
        self.breaker = breaker
        self._policy = policy or Policy()
        self._adapt = adapt
        self._counts: dict[tuple[str, str], int] = {}

    async def answer(self, request: ApiRequest) -> ApiResponse:
        try:
            return await self._retried(request)
        except _Failed as failed:
            if failed.reason not in {*self._policy.reasons, "breaker_open"} or _bound(request):
                return _passed_on(failed)
            log.warning("falling back: %s", failed.reason)
            self._observe("fallback", failed.reason)
            response = await self._second.answer(self._adapt(request))
            headers = {**response.headers, "x-sllm-fallback": failed.reason}
            return replace(response, headers=headers)

    async def aclose(self) -> None:
        await self._first.aclose()
        await self._second.aclose()

    def health(self) -> Mapping[str, Any]:
        """Ready as long as either can answer."""
        first, second = health_of(self._first), health_of(self._second)
        either = {name: first[name] or second[name] for name in ("alive", "ready")}
        return {**second, **first, **either, "breaker": self.breaker.state}

    def describe(self) -> list[str]:
        return [*describe_of(self._first), *describe_of(self._second)]

    def warm_up(self) -> None:
        warm_up(self._first)
        warm_up(self._second)

    def samples(self) -> Iterable[Sample]:
        yield from samples_of(self._first)
        yield from samples_of(self._second)
        for (event, reason), count in sorted(self._counts.items()):
            yield Sample(
                f"sllm_{event}_total",
                "counter",
                "Requests that were tried again or answered by the second provider, by reason.",
                (("reason", reason),),
                count,
            )
        for state in ("closed", "open", "half-open"):
            yield Sample(
                "sllm_breaker_state",
                "gauge",
                "1 for the state that the circuit breaker is in.",
                (("state", state),),
                float(self.breaker.state == state),
            )

    def _observe(self, event: str, reason: str) -> None:
        key = (event, reason)
        self._counts[key] = self._counts.get(key, 0) + 1

    async def _retried(self, request: ApiRequest) -> ApiResponse:
        started = time.monotonic()

        def again(state: tenacity.RetryCallState) -> bool:
            failed = state.outcome.exception() if state.outcome else None
            if not isinstance(failed, _Failed) or not failed.again:
                return False
            left = self._policy.deadline - (time.monotonic() - started)
            return (failed.retry_after or 0.0) < left

        retrying = tenacity.AsyncRetrying(
            retry=again,
            stop=tenacity.stop_after_attempt(self._policy.attempts)
            | tenacity.stop_before_delay(self._policy.deadline),
            wait=_wait,
            before_sleep=lambda state: self._observe("retry", _reason_of(state)),
            reraise=True,
        )
        result: ApiResponse = await retrying(self._attempt, request)
        return result

    async def _attempt(self, request: ApiRequest) -> ApiResponse:
        permit = self.breaker.admit()
        if permit is None:
            raise _Failed("breaker_open", None, None)
        try:
            response = await primed(await self._first.answer(request))
        except ApiError as error:
            reason = reason_for(error.status, error)
            _settle(permit, reason)
            if reason is None:
                raise
            raise _Failed(reason, None, error) from error
        except BaseException:
            permit.abandoned()
            raise
        reason = reason_for(response.status) or _too_long(response)
        if reason is None and not isinstance(response.body, bytes):
            permit.began()
            return replace(response, body=_Watched(response.body, permit))
        _settle(permit, reason)
        if reason is not None:
            raise _Failed(reason, response, None)
        return response


class _Watched:
    """A stream whose end tells the breaker how it went."""

    def __init__(self, body: ByteStream, permit: Permit) -> None:
        self._body, self._permit = body, permit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                yield piece
        except ApiError:
            self._permit.failed()
            raise
        self._permit.succeeded()

    async def aclose(self) -> None:
        self._permit.abandoned()
        await self._body.aclose()


def _settle(permit: Permit, reason: str | None) -> None:
    """A full queue or a long prompt says that the upstream is alive."""
    if reason in _OUTAGE:
        permit.failed()
    else:
        permit.succeeded()


def reason_for(status: int, error: ApiError | None = None) -> str | None:
    """Why an answer of this status may be answered elsewhere; None when it may not."""
    if isinstance(error, ContextTooLong):
        return "context"
    if isinstance(error, Unreachable):
        return "connect"
    if isinstance(error, UpstreamTimeout) or status == 504:
        return "timeout"
    if status in {429, 503}:
        return "queue_full"
    return "server_error" if status >= 500 else None


def _too_long(response: ApiResponse) -> str | None:
    """An upstream's 400 says in its body whether the context was too long."""
    told = response.status == 400 and _has(response, b"context_length_exceeded")
    return "context" if told else None


def _has(response: ApiResponse, code: bytes) -> bool:
    return isinstance(response.body, bytes) and code in response.body


def seconds_told(headers: Mapping[str, str]) -> float | None:
    """The pause that an upstream asks for: OpenAI's `retry-after-ms`, or `Retry-After` in seconds
    or as a date (RFC 9110, section 10.2.3); None where it does not say, or not in a way to be
    understood."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            told = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if told == told:
            return max(0.0, told)
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, OverflowError):
        return None


def _passed_on(failed: _Failed) -> ApiResponse:
    if failed.response is not None:
        return failed.response
    raise failed.error or Unavailable(
        "The provider that keeps what this request refers to does not answer now, and the other "
        "one does not have it; send the whole conversation instead of an id, or try again."
    )


def _bound(request: ApiRequest) -> bool:
    """Whether only the provider that was asked first can answer: it keeps the response that the
    request is about or goes on from."""
    if request.path == _RESPONSES:
        return request.method == "POST" and kept_elsewhere(request.json)
    return request.path.startswith(f"{_RESPONSES}/")


_RESPONSES = "/v1/responses"


_jittered = tenacity.wait_random_exponential(multiplier=0.25, max=8)


def _wait(state: tenacity.RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    told = failed.retry_after if isinstance(failed, _Failed) else None
    return told if told is not None else _jittered(state)


def _reason_of(state: tenacity.RetryCallState) -> str:
    failed: Any = state.outcome.exception() if state.outcome else None
    return failed.reason if isinstance(failed, _Failed) else "unknown"
