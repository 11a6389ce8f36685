"""A scripted provider and clients of the app in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from provider.sdk_http import httpx
from server.app import create_app
from tests.server.live import settings
from tests.server.scripted import Scripted

Client = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def client(scripted: Scripted) -> Client:
    """`async with client(sllm_max_body=10) as c`: the app in process, without a socket."""

    @asynccontextmanager
    async def make(**values: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(scripted, settings(**values))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
            yield made

    return make
