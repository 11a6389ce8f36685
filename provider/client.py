"""The official SDK's own clients over a provider.

`OpenAI` and `AsyncOpenAI` are `openai.OpenAI` and `openai.AsyncOpenAI`: `create`, `parse`,
streaming, tools, typed errors, raw responses and retries are the SDK's. Only the transport below
them differs: it hands the request to a provider instead of a socket. When the settings ask for
OpenAI and nothing else, not even that: the client is the stock one, which makes a rollback the
original code path.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any

import openai

from provider.base import ApiRequest, ApiResponse, ByteStream, Provider
from provider.errors import ApiError, ServerError
from provider.factory import build
from provider.here import HERE, CallerTimeout, NeedsLoop, answers_here, driven
from provider.portal import portal
from provider.sdk_http import httpx
from provider.settings import Settings

log = logging.getLogger(__name__)

Run = Callable[..., Any]
"""Runs a coroutine, for some seconds at most, and returns its result."""

IN_PROCESS_URL = "http://in-process.sllm/v1"
_UNUSED_KEY = "sllm-in-process"


class OpenAI(openai.OpenAI):
    """`openai.OpenAI`, answered by the provider that the settings name.

    `settings` and `provider` are ours and optional; everything else is the SDK's.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        provider: Provider | None = None,
        **options: Any,
    ) -> None:
        _prepare(options, settings, provider, Transport, httpx.Client)
        super().__init__(**options)


class AsyncOpenAI(openai.AsyncOpenAI):
    """`openai.AsyncOpenAI`, answered by the provider that the settings name."""

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        provider: Provider | None = None,
        **options: Any,
    ) -> None:
        _prepare(options, settings, provider, AsyncTransport, httpx.AsyncClient)
        super().__init__(**options)


def _prepare(
    options: dict[str, Any],
    settings: Settings | None,
    provider: Provider | None,
    transport: type[Transport] | type[AsyncTransport],
    client: type[httpx.Client] | type[httpx.AsyncClient],
) -> None:
    """Put our transport below the SDK's client, unless the stock client is what is asked for."""
    given = options.get("http_client")
    if given is not None and isinstance(getattr(given, "_transport", None), transport):
        return  # the SDK copies a client by passing its HTTP client on (`with_options`)
    if provider is None:
        settings = settings or Settings()
        if settings.stock_client:
            _stock(options, settings)
            return
        provider = shared_provider(_with_explicit(settings, options))
    if given is not None:
        log.warning("http_client is not used: requests are answered in this process")
    if options.get("api_key") is None:
        options["api_key"] = _own_key(settings)
    options["base_url"] = IN_PROCESS_URL
    options["http_client"] = client(
        transport=transport(provider),  # type: ignore[arg-type]
        timeout=openai.DEFAULT_TIMEOUT,
    )


def _stock(options: dict[str, Any], settings: Settings) -> None:
    """The stock client sees the settings of `.env` and of the caller, not the environment alone."""
    if options.get("api_key") is None and settings.openai_api_key is not None:
        options["api_key"] = settings.openai_api_key.get_secret_value()
    if options.get("base_url") is None and "openai_base_url" in settings.model_fields_set:
        options["base_url"] = settings.openai_base_url


def _own_key(settings: Settings | None) -> str:
    """The settings' key, which may come from `.env` or code, where the SDK does not look."""
    if settings is None or settings.openai_api_key is None:
        return _UNUSED_KEY
    return settings.openai_api_key.get_secret_value()


def _with_explicit(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """What the app says in code wins over the environment on the hosted side."""
    explicit: dict[str, Any] = {}
    if options.get("base_url") is not None:
        explicit["openai_base_url"] = str(options["base_url"]).rstrip("/")
    if options.get("api_key") is not None:
        # The SDK then sends that key with each request, and the provider passes it on.
        explicit["openai_api_key"] = None
    return settings.model_copy(update=explicit) if explicit else settings


_shared: dict[str, Provider] = {}
_shared_lock = threading.Lock()


def shared_provider(settings: Settings) -> Provider:
    """One provider per distinct settings in this process: clients share models and pools."""
    key = repr(sorted((name, str(value)) for name, value in settings.model_dump().items()))
    key += settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    with _shared_lock:
        if key not in _shared:
            _shared[key] = build(settings)
        return _shared[key]


class Transport(httpx.BaseTransport):
    """Carries a synchronous client's requests to a provider: on the calling thread where the
    provider only forwards, else through the process's portal."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        try:
            answer, run = self._answer(request, _read_timeout(request))
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        if isinstance(answer.body, bytes):
            return _response(answer, content=answer.body)
        return _response(answer, stream=_SyncStream(run, answer.body, request))

    def _answer(self, request: httpx.Request, seconds: float | None) -> tuple[ApiResponse, Run]:
        if request.method == "POST" and answers_here(self._provider):
            try:
                return driven(answered(self._provider, request, {HERE: seconds})), _here
            except NeedsLoop:
                pass
        run = portal().run
        return run(answered(self._provider, request), seconds), run


class AsyncTransport(httpx.AsyncBaseTransport):
    """Carries an async client's requests to a provider on the caller's own event loop."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        _check_asyncio()
        try:
            async with asyncio.timeout(_read_timeout(request)):
                answer = await answered(self._provider, request)
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        if isinstance(answer.body, bytes):
            return _response(answer, content=answer.body)
        return _response(answer, stream=_AsyncStream(answer.body, request))


def _check_asyncio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AsyncOpenAI is answered in this process on asyncio's event loop, which does not run "
            "here; under trio call `provider.OpenAI` in a thread (trio.to_thread.run_sync), or run "
            "the app under `sllm exec`."
        ) from None


async def answered(
    provider: Provider, request: httpx.Request, context: Mapping[str, Any] | None = None
) -> ApiResponse:
    """The provider's answer, its errors as OpenAI's error bodies.

    Asked with `HERE`, it raises `NeedsLoop` and `CallerTimeout`.
    """
    headers = {name.lower(): value for name, value in request.headers.items()}
    incoming = ApiRequest(
        method=request.method,
        path=request.url.raw_path.decode().split("?")[0],
        headers=headers,
        body=request.content,
        query=request.url.query.decode(),
        context=context or {},
    )
    try:
        return await provider.answer(incoming)
    except (NeedsLoop, CallerTimeout):
        raise
    except ApiError as error:
        return ApiResponse.from_json(error.body(), error.status, error.headers)
    except Exception:  # the outermost handler of the in-process face
        log.exception("the provider failed")
        failed = ServerError("The provider failed; its log has the reason.")
        return ApiResponse.from_json(failed.body(), failed.status)


def _here(work: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
    """The seconds are in the request's context already."""
    return driven(work)


class _SyncStream(httpx.SyncByteStream):
    def __init__(self, run: Run, body: ByteStream, request: httpx.Request) -> None:
        self._run, self._body, self._request = run, body, request

    def __iter__(self) -> Iterator[bytes]:
        pieces = aiter(self._body)
        timeout = _read_timeout(self._request)
        while True:
            try:
                piece = self._run(_next(pieces), timeout)
            except TimeoutError as error:
                raise httpx.ReadTimeout(str(error), request=self._request) from error
            except ApiError as error:
                raise httpx.ReadError(error.message, request=self._request) from error
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        self._run(self._body.aclose())


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, body: ByteStream, request: httpx.Request) -> None:
        self._body, self._request = body, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._body)
        timeout = _read_timeout(self._request)
        while True:
            try:
                async with asyncio.timeout(timeout):
                    piece = await _next(pieces)
            except TimeoutError as error:
                raise httpx.ReadTimeout(str(error), request=self._request) from error
            except ApiError as error:
                raise httpx.ReadError(error.message, request=self._request) from error
            if piece is None:
                return
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


def _read_timeout(request: httpx.Request) -> float | None:
    timeout = request.extensions.get("timeout", {}).get("read")
    return None if timeout is None else float(timeout)


def _response(answer: ApiResponse, **body: Any) -> httpx.Response:
    headers = [(name.encode("latin-1"), _value(text)) for name, text in answer.headers.items()]
    return httpx.Response(answer.status, headers=headers, **body)


def _value(text: str) -> bytes:
    """As it came where it came over the network; otherwise the SDK reads UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
