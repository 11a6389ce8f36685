"""Liveness and readiness, as a provider reports them."""

from __future__ import annotations

from starlette.responses import JSONResponse

from provider.base import Provider, health_of
from server.drain import Drain


def health(provider: Provider) -> JSONResponse:
    """200 while the process and the engine live, 503 when only a restart can help."""
    alive = health_of(provider)["alive"]
    return JSONResponse({"status": "ok" if alive else "dead"}, 200 if alive else 503)


def ready(provider: Provider, drain: Drain, *, details: bool) -> JSONResponse:
    """200 while requests are welcome; 503 while loading, draining or broken.

    `details` adds what the provider says of itself: not for strangers.
    """
    facts = health_of(provider)
    if drain.draining:
        status = "draining"
    elif not facts["alive"]:
        status = "dead"
    else:
        status = "ready" if facts["ready"] else "loading"
    return JSONResponse(
        {"status": status, **(facts if details else {})}, 200 if status == "ready" else 503
    )
