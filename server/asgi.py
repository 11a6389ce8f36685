"""The app for servers that want one by name, several processes of it for instance.

    uvicorn --factory server.asgi:app --workers 4
    gunicorn -k uvicorn_worker.UvicornWorker "server.asgi:app()"

`sllm serve` guards each connection better (see `server.connection`); behind a proxy that does, this
is as good.
"""

from __future__ import annotations

from fastapi import FastAPI

from provider.base import warm_up
from provider.factory import build
from provider.settings import Settings
from server.app import create_app
from server.logs import set_up
from server.settling import settle


def app() -> FastAPI:
    """The app that the environment asks for, its models loaded. Raises `ConfigurationError`."""
    settings = Settings()
    set_up(settings.sllm_log_format)
    provider = build(settings)
    warm_up(provider)
    made = create_app(provider, settings)
    settle()
    return made
