"""How a request reaches the hosted side from an event loop: two ways that carry the same bytes.

`Wired`, HTTP/1.1 at the least cost, where httptools is installed; `Pooled`, the SDK's HTTP library,
for HTTP/2, proxies and a password in the address. Without a loop: `provider.blocking`.
"""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Protocol

from provider.base import ByteStream
from provider.sdk_http import httpx
from provider.streams import Gathered

if TYPE_CHECKING:
    from provider.settings import Settings
    from provider.wire.dialing import Origin
    from provider.wire.incoming import Incoming

CONNECT_SECONDS = 5.0
LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=100)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it is to go out; `headers` without the host and the content's length."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A response whose head is there. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: ByteStream

    @property
    def events(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


class Carrier(Protocol):
    """Raises the HTTP library's or the wire's exceptions."""

    async def send(self, outgoing: Outgoing) -> Received: ...
    async def aclose(self) -> None: ...


def carrier(settings: Settings, trust: SSLContext) -> Carrier:
    """The cheapest way to the settings' address on the running event loop."""
    return Wired(settings, trust) if may_be_wired(settings) else Pooled(settings, trust)


def may_be_wired(settings: Settings) -> bool:
    """Whether nothing stands between here and the server, and all that is asked for is HTTP/1.1."""
    url = httpx.URL(settings.openai_base_url)
    proxied = {"http", "https", "all"} & set(urllib.request.getproxies())
    return (
        url.scheme in {"http", "https"}
        and not url.userinfo
        and not proxied
        and settings.openai_http2 == "off"
        and find_spec("httptools") is not None
    )


def origin_of(url: httpx.URL, trust: SSLContext) -> Origin:
    """The server of an address, for the wire."""
    from provider.wire.dialing import Origin

    secure = url.scheme == "https"
    if secure:
        trust.set_alpn_protocols(["http/1.1"])
    port = url.port or (443 if secure else 80)
    return Origin(url.raw_host.decode("ascii"), port, trust if secure else None)


def wire_request(outgoing: Outgoing) -> bytes:
    """A request as the wire takes it."""
    from provider.wire.request import request_bytes

    headers = {"host": outgoing.url.netloc.decode("ascii"), **outgoing.headers}
    return request_bytes(outgoing.method, outgoing.url.raw_path, headers, outgoing.body)


def library_request(outgoing: Outgoing, **extensions: Any) -> httpx.Request:
    """A request as the HTTP library takes it."""
    return httpx.Request(
        outgoing.method,
        outgoing.url,
        headers=outgoing.headers,
        content=outgoing.body or None,
        extensions=extensions,
    )


def compressed(headers: Mapping[str, str]) -> dict[str, str]:
    """The coding of a body that came compressed although it was not asked to: the HTTP library
    decodes it. Empty for one that came as it is."""
    coding = headers.get("content-encoding", "identity")
    return {} if coding == "identity" else {"content-encoding": coding}


def timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))


def no_cookies() -> CookieJar:
    """One client's cookies must not travel with another client's requests."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


class Wired:
    """Over `provider.wire`."""

    def __init__(self, settings: Settings, trust: SSLContext) -> None:
        from provider.wire.pool import Pool

        origin = origin_of(httpx.URL(settings.openai_base_url), trust)
        self._pool = Pool(origin, connect=CONNECT_SECONDS, silence=settings.openai_timeout)

    async def send(self, outgoing: Outgoing) -> Received:
        incoming = await self._pool.exchange(wire_request(outgoing))
        body: ByteStream = incoming
        if coding := compressed(incoming.headers):
            body = _Pieces(httpx.Response(incoming.status, headers=coding, stream=_Raw(incoming)))
        return Received(incoming.status, incoming.headers, body)

    async def aclose(self) -> None:
        await self._pool.aclose()


class Pooled:
    """Over the HTTP library's async client."""

    def __init__(self, settings: Settings, trust: SSLContext) -> None:
        self._client = httpx.AsyncClient(
            verify=trust,
            http2=settings.openai_http2 == "on",
            timeout=timeout(settings.openai_timeout),
            limits=LIMITS,
            cookies=no_cookies(),
        )

    async def send(self, outgoing: Outgoing) -> Received:
        response = await self._client.send(library_request(outgoing), stream=True)
        headers = {name.lower(): value for name, value in response.headers.items()}
        received = Received(response.status_code, headers, _Pieces(response))
        return replace(received, body=Gathered(received.body)) if received.events else received

    async def aclose(self) -> None:
        await self._client.aclose()


class _Pieces:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_bytes():
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


class _Raw(httpx.AsyncByteStream):
    """The wire's bytes for the HTTP library."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._incoming:
            yield piece

    async def aclose(self) -> None:
        await self._incoming.aclose()
