"""The app: OpenAI's API over one provider.

    app = create_app(provider, settings)

Every /v1 request goes to `provider.answer` as it came; the rest of this package is what a network
needs around that: keys, limits, deadlines, errors, health, metrics and a graceful end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from provider.base import Provider
from provider.factory import tracer
from server import health, openapi, paths
from server.auth import Keys
from server.azure import AzurePaths
from server.boundary import Boundary
from server.carry import Carrier
from server.drain import Drain
from server.errors import replace_default_handlers
from server.exchange import exchange_of
from server.limits import Limits
from server.metrics import CONTENT_TYPE, Metrics
from server.tracing import spans

if TYPE_CHECKING:
    from provider.settings import Settings

_ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_app(provider: Provider, settings: Settings) -> FastAPI:
    """The server's app; it closes `provider` when it shuts down."""
    drain = Drain()
    metrics = Metrics(provider, lambda: drain.running)
    carrier = Carrier(provider, settings, _keys(settings), _limits(settings), drain)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await provider.aclose()

    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are `server.tracing`
        lifespan=lifespan,
    )
    app.state.drain = drain
    app.openapi = cache(openapi.document)  # type: ignore[method-assign]
    _add_operations(app, carrier, drain, metrics)
    _add_api(app, carrier)
    replace_default_handlers(app)
    app.add_middleware(Boundary, metrics=metrics, spans=spans(tracer(settings)))
    app.add_middleware(AzurePaths)
    if settings.sllm_cors_origins:
        _allow_origins(app, settings.sllm_cors_origins)
    return app


def _keys(settings: Settings) -> Keys:
    admin = settings.sllm_admin_key
    return Keys.of(
        settings.sllm_api_keys,
        [admin.get_secret_value()] if admin is not None else [],
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        total=settings.sllm_max_requests,
        per_caller=settings.sllm_max_requests_per_key,
        per_minute=settings.sllm_requests_per_minute,
    )


def _add_operations(app: FastAPI, carrier: Carrier, drain: Drain, metrics: Metrics) -> None:
    """What an operator asks: is it alive, is it ready, how is it doing."""

    @app.get("/health")
    async def _health(request: Request) -> Response:
        exchange_of(request.scope).route = "/health"
        return health.health(carrier.provider)

    @app.get("/ready")
    async def _ready(request: Request) -> Response:
        exchange = exchange_of(request.scope)
        exchange.route = "/ready"
        known = carrier.keys.knows(exchange.headers, exchange.client)
        return health.ready(carrier.provider, drain, details=known)

    @app.get("/metrics")
    async def _metrics(request: Request) -> Response:
        exchange = exchange_of(request.scope)
        exchange.route = "/metrics"
        carrier.keys.caller(exchange.headers, exchange.client)
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _add_api(app: FastAPI, carrier: Carrier) -> None:
    """The paths that are documented, then every other one of the API."""

    def add(path: str, methods: list[str], endpoint: ASGIApp) -> None:
        app.router.routes.append(Route(path, endpoint, methods=methods))

    def carried(path: str, method: str, **how: Any) -> None:
        add(path, [method], carrier.endpoint(path, **how))

    carried(paths.CHAT, "POST", json=True)
    carried(paths.COMPLETIONS, "POST", json=True)
    carried(paths.RESPONSES, "POST", json=True)
    carried(paths.RESPONSES + "/input_tokens", "POST", json=True)
    carried(paths.RESPONSES + "/{id}", "GET")
    carried(paths.RESPONSES + "/{id}", "DELETE")
    carried(paths.RESPONSES + "/{id}/cancel", "POST")
    carried(paths.RESPONSES + "/{id}/input_items", "GET")
    carried(paths.EMBEDDINGS, "POST", json=True)
    carried(paths.MODELS, "GET")
    carried(paths.MODELS + "/{model:path}", "GET")
    carried(paths.LOAD_ADAPTER, "POST", json=True, admin=True)
    carried(paths.UNLOAD_ADAPTER, "POST", json=True, admin=True)
    add(paths.ADMIN, ["GET", "PUT"], carrier.endpoint(paths.ADMIN, admin=True))
    add("/v1/{other:path}", _ANY, carrier.endpoint("/v1/{other}"))


def _allow_origins(app: FastAPI, origins: list[str]) -> None:
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],  # the SDKs add headers of their own (x-stainless-...)
        expose_headers=["x-request-id", "retry-after", "x-ignored-params", "x-portability"],
    )
