"""The hosted side: forwards a request, byte for byte, to OpenAI or anything that speaks its API.

The body goes out as it came in and comes back as it was sent, streams unbuffered; only headers
that belong to one hop (RFC 9110, section 7.6.1), the client's key and cookies are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from ssl import SSLContext
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from provider.base import ApiRequest, ApiResponse, ByteStream
from provider.blocking import Blocking
from provider.carriers import Carrier, Outgoing, Received, carrier
from provider.errors import (
    ApiError,
    BadGateway,
    ConfigurationError,
    Unavailable,
    Unreachable,
    UpstreamTimeout,
)
from provider.here import HERE, asked_here
from provider.sdk_http import httpx
from provider.wire.failures import (
    Broken,
    CannotConnect,
    ConnectTimedOut,
    NoConnectionLeft,
    TimedOut,
    Unsendable,
    WireFailure,
)

if TYPE_CHECKING:
    from provider.settings import Settings

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_SENT = HOP_BY_HOP | {"host", "content-length", "accept-encoding", "authorization", "cookie"}
NOT_RETURNED = HOP_BY_HOP | {"content-length", "content-encoding", "set-cookie", "date", "server"}

_USUAL = ("/v1/chat/completions", "/v1/embeddings", "/v1/models")
_FAILURES: tuple[tuple[tuple[type[Exception], ...], type[ApiError], str], ...] = (
    (
        (httpx.ConnectTimeout, ConnectTimedOut),
        Unreachable,
        "did not accept a connection in time",
    ),
    (
        (httpx.PoolTimeout, NoConnectionLeft),
        Unavailable,
        "has no connection left for another request",
    ),
    ((httpx.TimeoutException, TimedOut), UpstreamTimeout, "did not answer in time"),
    ((httpx.ConnectError, CannotConnect), Unreachable, "could not be reached"),
    ((httpx.DecodingError,), BadGateway, "sent a body that cannot be decoded"),
    ((httpx.RemoteProtocolError, Broken), BadGateway, "broke off or did not speak HTTP"),
    (
        (httpx.LocalProtocolError, Unsendable),
        BadGateway,
        "cannot be sent a header of this request",
    ),
    ((httpx.TransportError, WireFailure), BadGateway, "broke the connection"),
    ((httpx.InvalidURL,), BadGateway, "has an address that is not a URL"),
)
_FAILING = tuple(kind for kinds, _, _ in _FAILURES for kind in kinds)


class OpenAIProvider:
    """Forwards to `openai_base_url`.

    The key of the settings replaces the request's; without one the request's own key is used.
    Raises `BadGateway` (502) and `UpstreamTimeout` (504) when there is no answer to pass on; any
    answer, errors included, is passed on as it is.
    """

    here: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        if settings.openai_http2 == "on" and find_spec("h2") is None:
            raise ConfigurationError(
                "OPENAI_HTTP2='on' needs the package 'h2', which is not installed: "
                "pip install 'sllm-provider[http2]', or set OPENAI_HTTP2=off."
            )
        self._settings = settings
        self._base_url = settings.openai_base_url
        self._trust: SSLContext | None = None
        self._addresses: dict[str, httpx.URL] = {}
        # A connection pool belongs to the event loop that opened its sockets; for callers without
        # one, to the process.
        self._carriers: WeakKeyDictionary[asyncio.AbstractEventLoop, Carrier] = WeakKeyDictionary()
        self._blocking: dict[int, Blocking] = {}

    async def answer(self, request: ApiRequest) -> ApiResponse:
        with self._translated():
            received = await self._received(request)
        headers = kept(received.headers, NOT_RETURNED)
        stream = UpstreamStream(self, received.body)
        if received.events:
            return ApiResponse(received.status, headers, stream)
        whole = ApiResponse(received.status, headers, stream)
        return ApiResponse(received.status, headers, await whole.read())

    async def _received(self, request: ApiRequest) -> Received:
        outgoing = Outgoing(
            request.method, self._url(request), self._headers(request), request.body
        )
        if asked_here(request):
            return await self._blocking_carrier().send(outgoing, request.context[HERE])
        return await self._carrier().send(outgoing)

    def warm_up(self) -> None:
        """Reads the system's certificates and imports what carries requests, which takes longer
        than a request does."""
        self._certificates()
        if find_spec("httptools") is not None:
            import_module("provider.wire.pool")

    async def aclose(self) -> None:
        """Closes every event loop's pool, each in the loop that opened its sockets."""
        here = asyncio.get_running_loop()
        carriers, self._carriers = list(self._carriers.items()), WeakKeyDictionary()
        blocking, self._blocking = self._blocking.pop(os.getpid(), None), {}
        if blocking is not None:
            await blocking.aclose()
        for loop, one in carriers:
            if loop is here:
                await one.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(one.aclose(), loop)
                await asyncio.wrap_future(closing)

    def _carrier(self) -> Carrier:
        loop = asyncio.get_running_loop()
        if loop not in self._carriers:
            self._carriers[loop] = carrier(self._settings, self._certificates())
        return self._carriers[loop]

    def _blocking_carrier(self) -> Blocking:
        found = self._blocking.get(os.getpid())
        if found is None:
            made = Blocking(self._settings, self._certificates())
            found = self._blocking.setdefault(os.getpid(), made)
        return found

    def _certificates(self) -> SSLContext:
        if self._trust is None:
            self._trust = httpx.create_ssl_context()
        return self._trust

    def _url(self, request: ApiRequest) -> httpx.URL:
        """The address, parsed once for the paths that every app uses."""
        usual = request.path in _USUAL and not request.query
        if usual and request.path in self._addresses:
            return self._addresses[request.path]
        text = self._base_url + request.path.removeprefix("/v1")
        url = httpx.URL(f"{text}?{request.query}" if request.query else text)
        if usual:
            self._addresses[request.path] = url
        return url

    def _headers(self, request: ApiRequest) -> dict[str, str]:
        headers = kept(request.headers, _NOT_SENT)
        # Whoever wraps this provider reads the body, so it is asked for uncompressed.
        headers["accept-encoding"] = "identity"
        key = self._settings.openai_api_key
        if key is not None:
            headers["authorization"] = f"Bearer {key.get_secret_value()}"
        elif "authorization" in request.headers:
            headers["authorization"] = request.headers["authorization"]
        if self._settings.openai_org_id is not None:
            headers.setdefault("openai-organization", self._settings.openai_org_id)
        if self._settings.openai_project_id is not None:
            headers.setdefault("openai-project", self._settings.openai_project_id)
        return headers

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """The HTTP library's exceptions in OpenAI's vocabulary."""
        try:
            yield
        except _FAILING as error:
            for kinds, translated, what in _FAILURES:
                if isinstance(error, kinds):
                    raise translated(f"The server at {self._base_url} {what}.") from error
            raise


class UpstreamStream:
    """The bytes of an upstream response as they arrive."""

    def __init__(self, provider: OpenAIProvider, body: ByteStream) -> None:
        self._provider = provider
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._provider._translated():
            async for piece in self._body:
                yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


def kept(headers: Mapping[str, str], left_out: frozenset[str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in left_out}


def build(settings: Settings) -> OpenAIProvider:
    return OpenAIProvider(settings)
