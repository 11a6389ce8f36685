"""The one seam: a provider answers an OpenAI request.

Everything that can answer is a `Provider`: a hosted endpoint, the local engine, or something that
holds other providers (routing, switching, fallback, metering). The in-process SDK client and the
HTTP server only carry `ApiRequest`s to a provider, so the two cannot drift apart.

This module is a leaf: no I/O, no torch, no HTTP library.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

from provider.errors import InvalidRequest
from provider.protocol.values import type_word


@dataclass(frozen=True)
class ApiRequest:
    """One request to an OpenAI API, as it came in.

    `path` starts with the API version (`/v1/chat/completions`) and carries no query string.
    `headers` have lower-case names. `body` is the exact bytes of the client, so that a provider
    that forwards can do so byte for byte. `context` carries facts of our own about the request
    (the key's id, the deadline); it never leaves the process.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    query: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object, parsed once.

        Raises `InvalidRequest` (400) for bytes that are not UTF-8, not JSON, or not an object.
        """
        return _parse_object(self.body)

    @property
    def request_id(self) -> str | None:
        """The id the server gave the request (`x-request-id`), if any."""
        return self.headers.get("x-request-id")

    def with_json(self, body: Mapping[str, Any]) -> ApiRequest:
        """The same request with another JSON body."""
        encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return replace(self, body=encoded)

    def with_headers(self, headers: Mapping[str, str]) -> ApiRequest:
        """The same request with other headers; a body that was parsed is not parsed again."""
        changed = replace(self, headers=headers)
        if "json" in self.__dict__:
            changed.__dict__["json"] = self.__dict__["json"]
        return changed


@runtime_checkable
class ByteStream(Protocol):
    """A body that arrives piece by piece; `aclose()` cancels the work that produces it."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


@dataclass(frozen=True)
class ApiResponse:
    """Status, headers (lower-case names), and either the whole body or a stream of it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | ByteStream = b""

    @property
    def streamed(self) -> bool:
        return not isinstance(self.body, bytes)

    async def read(self) -> bytes:
        """The whole body; a stream is read to its end and closed."""
        if isinstance(self.body, bytes):
            return self.body
        try:
            return b"".join([piece async for piece in self.body])
        finally:
            await self.body.aclose()

    @classmethod
    def from_json(
        cls, body: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> ApiResponse:
        encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(status, {"content-type": "application/json", **(headers or {})}, encoded)


class Provider(Protocol):
    """Answers OpenAI requests.

    `answer` raises `provider.errors.ApiError` for a request that fails before its first byte; the
    carriers (client, server) turn it into OpenAI's error body. It may also return a response with
    an error status, as a provider that forwards does. It is safe to call from several tasks.
    """

    async def answer(self, request: ApiRequest) -> ApiResponse: ...
    async def aclose(self) -> None: ...


@runtime_checkable
class Reporting(Protocol):
    """A provider that can tell how it is. Holders of providers pass the question on.

    Neither method does I/O or blocks. `health()` has at least `alive` (False: it will never answer
    again, restart the process) and `ready` (False: not now, a model is being loaded), and any
    further facts. `describe()` says what is loaded, in plain lines for a terminal.
    """

    def health(self) -> Mapping[str, Any]: ...
    def describe(self) -> list[str]: ...


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise InvalidRequest("The JSON body is nested too deeply.") from error
    except ValueError as error:
        raise InvalidRequest(
            "We could not parse the JSON body of your request. (HINT: This likely means you "
            "aren't using your HTTP library correctly. The API expects a JSON payload, but what "
            f"was sent was not valid JSON: {error}.)"
        ) from error
    if _MAY_BE_HALF_A_PAIR.search(body) and not _is_text(parsed):
        raise InvalidRequest(
            "The JSON body has half of a surrogate pair (an escape from \\ud800 to \\udfff without "
            "its other half), which is not Unicode text."
        )
    if not isinstance(parsed, dict):
        got = type_word(parsed)
        raise InvalidRequest(f"The JSON body must be an object, but got {got} instead.")
    return parsed


_MAY_BE_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def _is_text(parsed: Any) -> bool:
    try:
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a provider's own metrics, in Prometheus' terms: `kind` is `counter`, `gauge`
    or `histogram` (then `name` ends in `_bucket`, `_sum` or `_count`)."""

    name: str
    kind: str
    help: str
    labels: tuple[tuple[str, str], ...]
    value: float


def health_of(provider: Provider) -> dict[str, Any]:
    """What a provider says of itself; one that says nothing is well."""
    said = provider.health() if hasattr(provider, "health") else {}
    return {"alive": True, "ready": True, **said}


def describe_of(provider: Provider) -> list[str]:
    """What a provider has loaded, in plain lines for a terminal."""
    return list(provider.describe()) if hasattr(provider, "describe") else []


def warm_up(provider: Provider) -> None:
    """Load what the provider would otherwise load at its first request. Blocks; call it in a
    thread.

    Raises `ConfigurationError` for what cannot be loaded.
    """
    if hasattr(provider, "warm_up"):
        provider.warm_up()


def samples_of(provider: Provider) -> Iterable[Sample]:
    """A provider's metrics; none where it has none."""
    return provider.samples() if hasattr(provider, "samples") else ()


class Holder:
    """A provider that holds another: what all of them share."""

    def __init__(self, inner: Provider) -> None:
        self._inner = inner

    forwards_here: ClassVar[bool] = False
    """Whether it does nothing of its own that waits (`provider.here`)."""

    @property
    def here(self) -> bool:
        return self.forwards_here and bool(getattr(self._inner, "here", False))

    async def aclose(self) -> None:
        await self._inner.aclose()

    def health(self) -> Mapping[str, Any]:
        return health_of(self._inner)

    def describe(self) -> list[str]:
        return describe_of(self._inner)

    def warm_up(self) -> None:
        warm_up(self._inner)

    def samples(self) -> Iterable[Sample]:
        yield from samples_of(self._inner)
