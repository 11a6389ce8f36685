"""The hosted side: forwards a request, byte for byte, to OpenAI or anything that speaks its API.

The body goes out as it came in and comes back as it was sent, streams unbuffered; only headers
that belong to one hop (RFC 9110, section 7.6.1), the client's key and cookies are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from ssl import SSLContext
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from provider.base import ApiRequest, ApiResponse
from provider.errors import (
    ApiError,
    BadGateway,
    ConfigurationError,
    Unavailable,
    Unreachable,
    UpstreamTimeout,
)
from provider.sdk_http import httpx
from provider.streams import Gathered

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
_FAILURES: tuple[tuple[type[Exception], type[ApiError], str], ...] = (
    (httpx.ConnectTimeout, Unreachable, "did not accept a connection in time"),
    (httpx.PoolTimeout, Unavailable, "has no connection left for another request"),
    (httpx.TimeoutException, UpstreamTimeout, "did not answer in time"),
    (httpx.ConnectError, Unreachable, "could not be reached"),
    (httpx.DecodingError, BadGateway, "sent a body that cannot be decoded"),
    (httpx.RemoteProtocolError, BadGateway, "broke off or did not speak HTTP"),
    (httpx.TransportError, BadGateway, "broke the connection"),
    (httpx.InvalidURL, BadGateway, "has an address that is not a URL"),
)


class OpenAIProvider:
    """Forwards to `openai_base_url`.

    The key of the settings replaces the request's; without one the request's own key is used.
    Raises `BadGateway` (502) and `UpstreamTimeout` (504) when there is no answer to pass on; any
    answer, errors included, is passed on as it is.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.openai_http2 == "on" and find_spec("h2") is None:
            raise ConfigurationError(
                "OPENAI_HTTP2='on' needs the package 'h2', which is not installed: "
                "pip install 'sllm-provider[http2]', or set OPENAI_HTTP2=off."
            )
        self._settings = settings
        self._base_url = settings.openai_base_url
        self._trust: SSLContext | None = None
        self._addresses = {path: _parsed(self._base_url, path) for path in _USUAL}
        # A connection pool belongs to the event loop that opened its sockets.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            WeakKeyDictionary()
        )

    async def answer(self, request: ApiRequest) -> ApiResponse:
        with self._translated():
            outgoing = httpx.Request(
                request.method,
                self._url(request),
                headers=self._headers(request),
                content=request.body or None,
            )
            response = await self._client().send(outgoing, stream=True)
        headers = kept(response.headers, NOT_RETURNED)
        stream = UpstreamStream(self, response)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return ApiResponse(response.status_code, headers, Gathered(stream))
        whole = ApiResponse(response.status_code, headers, stream)
        return ApiResponse(response.status_code, headers, await whole.read())

    def warm_up(self) -> None:
        """Reads the system's certificates, which takes longer than a request does."""
        if self._trust is None:
            self._trust = httpx.create_ssl_context()

    async def aclose(self) -> None:
        """Closes every event loop's pool, each in the loop that opened its sockets."""
        here = asyncio.get_running_loop()
        pools, self._clients = list(self._clients.items()), WeakKeyDictionary()
        for loop, client in pools:
            if loop is here:
                await client.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(client.aclose(), loop)
                await asyncio.wrap_future(closing)

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self.warm_up()
            self._clients[loop] = httpx.AsyncClient(
                verify=self._trust or True,
                http2=self._settings.openai_http2 == "on",
                timeout=httpx.Timeout(self._settings.openai_timeout, connect=5.0),
                limits=httpx.Limits(max_connections=1000, max_keepalive_connections=100),
                # One client's cookies must not travel with another client's requests.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )
        return self._clients[loop]

    def _url(self, request: ApiRequest) -> httpx.URL | str:
        """The address, parsed once for the paths that every app uses."""
        if request.path in self._addresses and not request.query:
            return self._addresses[request.path]
        url = self._base_url + request.path.removeprefix("/v1")
        return f"{url}?{request.query}" if request.query else url

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
        except tuple(kind for kind, _, _ in _FAILURES) as error:
            for kind, translated, what in _FAILURES:
                if isinstance(error, kind):
                    raise translated(f"The server at {self._base_url} {what}.") from error
            raise


class UpstreamStream:
    """The bytes of an upstream response as they arrive."""

    def __init__(self, provider: OpenAIProvider, response: httpx.Response) -> None:
        self._provider = provider
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._provider._translated():
            async for piece in self._response.aiter_bytes():
                yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


def _parsed(base_url: str, path: str) -> httpx.URL | str:
    """An address that is not a URL is said so when it is asked for."""
    url = base_url + path.removeprefix("/v1")
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        return url


def kept(headers: Mapping[str, str], left_out: frozenset[str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in left_out}


def build(settings: Settings) -> OpenAIProvider:
    return OpenAIProvider(settings)
