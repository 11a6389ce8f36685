"""How the spans of each provider are made: their kind and where the model is."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind, Tracer

from provider.base import Provider
from provider.tracing.attributes import Attributes
from provider.tracing.traced import Manner, Traced

if TYPE_CHECKING:
    from provider.settings import Settings


def traced(provider: Provider, name: str, settings: Settings, tracer: Tracer) -> Traced:
    """`provider` with spans. A model in this process is an internal operation, any other a call
    to the server whose address the span tells, where there is one alone."""
    here = name == "local" and not settings.local_llm_base_url
    manner = Manner(
        tracer,
        SpanKind.INTERNAL if here else SpanKind.CLIENT,
        _place(name, settings),
        settings.llm_tracing_content == "on",
    )
    return Traced(provider, name, manner)


def _place(name: str, settings: Settings) -> Attributes:
    urls = {"openai": [settings.openai_base_url], "local": settings.local_llm_base_url}.get(
        name, []
    )
    if len(urls) != 1:
        return {}
    parts = urlsplit(urls[0])
    port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    return {"server.address": parts.hostname or "", "server.port": port}
