"""Liveness and readiness, as a provider reports them."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from provider.base import Provider, Reporting
from server.drain import Drain


def report(provider: Provider) -> dict[str, Any]:
    """What the provider says of itself; one that says nothing is well."""
    said = provider.health() if isinstance(provider, Reporting) else {}
    return {"alive": True, "ready": True, **said}


def health(provider: Provider) -> JSONResponse:
    """200 while the process and the engine live, 503 when only a restart can help."""
    alive = report(provider)["alive"]
    return JSONResponse({"status": "ok" if alive else "dead"}, 200 if alive else 503)


def ready(provider: Provider, drain: Drain) -> JSONResponse:
    """200 while requests are welcome; 503 while loading, draining or broken."""
    facts = report(provider)
    if drain.draining:
        status = "draining"
    elif not facts["alive"]:
        status = "dead"
    else:
        status = "ready" if facts["ready"] else "loading"
    return JSONResponse({"status": status, **facts}, 200 if status == "ready" else 503)
