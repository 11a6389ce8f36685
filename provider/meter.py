"""Counts what one provider answered: requests, seconds, tokens and dollars, by model and route.

Plain numbers in Prometheus' shapes, so that the core needs no metrics library; the server shows
them under `/metrics`. A price that is not known is counted as unknown, never as zero.
"""

from __future__ import annotations

import bisect
import re
import threading
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

from provider.base import ApiRequest, ApiResponse, ByteStream, Holder, Provider, Sample
from provider.errors import ApiError
from provider.prices import cost
from provider.transcript import Transcript

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the latency histograms, seconds."""

_MOST_MODELS = 100
"""Model names come from requests: past this many, further ones are counted as `other`."""

Labels = tuple[tuple[str, str], ...]


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def samples(self, name: str, text: str, labels: Labels) -> Iterable[Sample]:
        below = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self.counts, strict=True):
            below += count
            yield Sample(f"{name}_bucket", "histogram", text, (*labels, ("le", bound)), below)
        yield Sample(f"{name}_sum", "histogram", text, labels, self.sum)
        yield Sample(f"{name}_count", "histogram", text, labels, below)


_COUNTERS = {
    "sllm_requests_total": "Requests by provider, model, route and status.",
    "sllm_tokens_total": "Tokens by provider, model and direction.",
    "sllm_cost_usd_total": "Dollars by provider and model, where the price is known.",
    "sllm_cost_unknown_total": "Answers whose price is not known.",
}
_HISTOGRAMS = {
    "sllm_request_seconds": "Seconds from request to the answer's end.",
    "sllm_first_byte_seconds": "Seconds from request to the first byte of a stream.",
}


class Meter(Holder):
    """A provider that counts what the one it holds answers, under the name `name`."""

    forwards_here = True

    def __init__(self, inner: Provider, name: str) -> None:
        super().__init__(inner)
        self._name = name
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[tuple[str, Labels], _Histogram] = {}
        self._models: set[str] = set()

    async def answer(self, request: ApiRequest) -> ApiResponse:
        started = time.perf_counter()
        try:
            response = await self._inner.answer(request)
        except ApiError as error:
            self._done(request, error.status, time.perf_counter() - started, Transcript())
            raise
        if isinstance(response.body, bytes):
            took = time.perf_counter() - started
            self._done(request, response.status, took, Transcript.of_body(response.body))
            return response
        return replace(response, body=_Metered(response.body, self, request, started))

    def samples(self) -> Iterable[Sample]:
        yield from super().samples()
        with self._lock:
            counters, histograms = dict(self._counters), list(self._histograms.items())
        for (name, labels), value in counters.items():
            yield Sample(name, "counter", _COUNTERS[name], labels, value)
        for (name, labels), histogram in histograms:
            yield from histogram.samples(name, _HISTOGRAMS[name], labels)

    def _done(
        self, request: ApiRequest, status: int, seconds: float, transcript: Transcript
    ) -> None:
        labels = (("provider", self._name), ("route", _route(request.path)))
        model = ("model", self._model(transcript.model))
        with self._lock:
            self._count("sllm_requests_total", (*labels, model, ("status", str(status))), 1)
            self._observe("sllm_request_seconds", labels, seconds)
            if transcript.usage is not None:
                self._spent((("provider", self._name), model), transcript)

    def _spent(self, labels: Labels, transcript: Transcript) -> None:
        usage: dict[str, Any] = transcript.usage or {}
        for direction, field in (("in", "prompt_tokens"), ("out", "completion_tokens")):
            count = usage.get(field) or 0
            self._count("sllm_tokens_total", (*labels, ("direction", direction)), count)
        dollars = cost(transcript.model or "", usage)
        if dollars is None:
            self._count("sllm_cost_unknown_total", labels, 1)
        else:
            self._count("sllm_cost_usd_total", labels, dollars)

    def first_byte(self, request: ApiRequest, seconds: float) -> None:
        labels = (("provider", self._name), ("route", _route(request.path)))
        with self._lock:
            self._observe("sllm_first_byte_seconds", labels, seconds)

    def _count(self, name: str, labels: Labels, amount: float) -> None:
        self._counters[name, labels] = self._counters.get((name, labels), 0) + amount

    def _observe(self, name: str, labels: Labels, seconds: float) -> None:
        self._histograms.setdefault((name, labels), _Histogram()).observe(seconds)

    def _model(self, model: str | None) -> str:
        if model is None:
            return "unknown"
        if model not in self._models and len(self._models) >= _MOST_MODELS:
            return "other"
        self._models.add(model)
        return model


class _Metered:
    def __init__(self, body: ByteStream, meter: Meter, request: ApiRequest, started: float) -> None:
        self._body, self._meter, self._request = body, meter, request
        self._started = started
        self._transcript = Transcript()
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        first = True
        try:
            async for piece in self._body:
                if first:
                    first = False
                    self._meter.first_byte(self._request, time.perf_counter() - self._started)
                self._transcript.feed(piece)
                yield piece
        except ApiError as error:
            self._end(error.status)
            raise
        self._end(200)

    async def aclose(self) -> None:
        await self._body.aclose()
        self._end(499 if self._transcript.finish_reason is None else 200)

    def _end(self, status: int) -> None:
        """Counted once; a stream that is closed before its finish reason was left by the client
        (499). The SDK closes every stream at [DONE], without reading to the end."""
        if not self._over:
            self._over = True
            took = time.perf_counter() - self._started
            self._meter._done(self._request, status, took, self._transcript)


_BELOW = re.compile(r"/v1/(models|responses)/(?!input_tokens$|compact$)[^/]+")


def _route(path: str) -> str:
    """The path as a label: a model's name or a response's id in it must not make one each."""
    return _BELOW.sub(r"/v1/\1/{id}", path)
