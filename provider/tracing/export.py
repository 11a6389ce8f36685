"""Where spans go: to the app's own OpenTelemetry set-up, or to the one that the settings name."""

from __future__ import annotations

import atexit
import sys
import threading
import time
from functools import cache
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)

from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from provider.settings import Settings

_SCOPE = "sllm"
_UNNAMED = "unknown_service"
_SPOKEN = ("http/protobuf",)
_LAST_SECONDS = 3.0


def tracer_for(settings: Settings) -> trace.Tracer:
    """The tracer that `LLM_TRACING` asks for.

    An app that has set OpenTelemetry up itself gets our spans where its own go; otherwise they have
    a set-up of their own, which nothing else in the process is drawn into. The SDK reads the
    standard `OTEL_*` variables (endpoint, headers, sampler, resource). Raises `ConfigurationError`
    for an OTLP protocol that is not spoken.
    """
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return trace.get_tracer(_SCOPE)
    if settings.llm_tracing == "otlp" and settings.otel_exporter_otlp_protocol not in _SPOKEN:
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={settings.otel_exporter_otlp_protocol!r} is not spoken "
            f"here; expected {' or '.join(_SPOKEN)} (a collector takes that on port 4318)."
        )
    return _own(settings.llm_tracing).get_tracer(_SCOPE)


@cache
def _own(kind: str) -> TracerProvider:
    """This process's provider of spans; what it holds is sent when the process ends."""
    provider = TracerProvider(resource=_resource())
    provider.add_span_processor(_console() if kind == "console" else _otlp())
    return provider


def _resource() -> Resource:
    """`OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`; without a name the service is ours."""
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: _SCOPE}))
    return resource


def _console() -> SpanProcessor:
    return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr))


def _otlp() -> SpanProcessor:
    """Sends batches from a thread. At the end of the process a collector that does not answer is
    given up after `_LAST_SECONDS`, not after all its retries."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter, ending = OTLPSpanExporter(), threading.Event()

    def give_up() -> None:
        ending.wait()
        time.sleep(_LAST_SECONDS)
        exporter.shutdown()  # type: ignore[no-untyped-call]

    threading.Thread(target=give_up, name="sllm-tracing", daemon=True).start()
    atexit.register(ending.set)
    return BatchSpanProcessor(exporter)
