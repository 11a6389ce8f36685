"""Prometheus metrics: the HTTP face's own, and those that the provider gives as plain samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from provider.base import Provider, Sample, samples_of
from server.exchange import Exchange

Labels = tuple[tuple[str, str], ...]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    120,
    300,
)


class Metrics:
    """One registry per app, so that two apps in a process do not meet."""

    def __init__(self, provider: Provider, running: Callable[[], int]) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(_Provided(provider))
        self._requests = Counter(
            "sllm_http_requests",
            "Requests by route, method, status and outcome.",
            ["route", "method", "status", "outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "sllm_http_request_seconds",
            "Seconds from a request's head to its answer's last byte.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first_byte = Histogram(
            "sllm_http_first_byte_seconds",
            "Seconds from a request's head to its answer's first byte.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._bytes = Counter(
            "sllm_http_bytes",
            "Bytes of bodies received (in) and sent (out).",
            ["direction"],
            registry=self.registry,
        )
        gauge = Gauge(
            "sllm_http_requests_running", "Requests being answered.", registry=self.registry
        )
        gauge.set_function(running)

    def request_done(self, exchange: Exchange) -> None:
        route = exchange.route
        self._requests.labels(route, exchange.method, exchange.status, exchange.outcome).inc()
        self._seconds.labels(route).observe(exchange.seconds)
        if exchange.first_byte is not None:
            self._first_byte.labels(route).observe(exchange.first_byte)
        self._bytes.labels("in").inc(exchange.bytes_in)
        self._bytes.labels("out").inc(exchange.bytes_out)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Provided(Collector):
    """The provider's samples, asked for anew at each scrape."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for (name, labels), (sample, value) in self._summed().items():
            family = _family(name, sample.kind)
            if family not in families:
                families[family] = Metric(family, sample.help, sample.kind)
            families[family].add_sample(name, dict(labels), value)
        return families.values()

    def _summed(self) -> dict[tuple[str, Labels], tuple[Sample, float]]:
        """One value per name and labels: two sides that use one provider count together."""
        values: dict[tuple[str, Labels], tuple[Sample, float]] = {}
        for sample in samples_of(self._provider):
            key = (sample.name, sample.labels)
            before = values[key][1] if key in values and sample.kind != "gauge" else 0.0
            values[key] = (sample, before + sample.value)
        return values


def _family(sample: str, kind: str) -> str:
    """The name under which a sample's help and type stand: without the suffix of its kind."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    for suffix in suffixes.get(kind, ()):
        sample = sample.removesuffix(suffix)
    return sample
