"""Whatever goes wrong, the client gets OpenAI's error body, a request id and no secret."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from provider.errors import ApiError, ContextTooLong, RateLimited
from provider.sdk_http import httpx
from server.headers import encoded
from tests.server.conftest import Client
from tests.server.live import live
from tests.server.scripted import Scripted, fails, says
from tests.server.wire import connected, post

CHAT = "/v1/chat/completions"


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error, after checking that it is OpenAI-shaped."""
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    assert response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"
    return error


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1/foo", 404),
        ("POST", "/v1//chat/completions", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1/x/%2e%2e/load_lora_adapter", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/embeddings", 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/a", 405),
        ("POST", "/health", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("TRACE", "/v1/chat/completions", 405),
        ("PROPFIND", "/v1/foo", 405),
        ("GET", "/v1/load_lora_adapter", 405),
    ],
)
async def test_paths_and_methods(client: Client, method: str, path: str, status: int) -> None:
    async with client() as c:
        response = await c.request(method, path)
    error = error_of(response)
    assert response.status_code == status
    assert error["type"] == "invalid_request_error"
    if status == 404:
        assert error["message"].startswith(f"Invalid URL ({method} /")
    else:
        assert error["code"] == "method_not_supported"
        assert response.headers["allow"]


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"a": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a": "\\ud800"}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", None, 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_unreadable_bodies(
    client: Client, scripted: Scripted, content: bytes, content_type: str | None, status: int
) -> None:
    from tests.server.scripted import echoes

    scripted.scripts[CHAT] = echoes
    async with client() as c:
        headers = {"content-type": content_type} if content_type else {}
        response = await c.post(CHAT, content=content, headers=headers)
    assert response.status_code == status
    assert error_of(response)["type"] == "invalid_request_error"


async def test_a_body_compressed_on_the_way_is_refused(client: Client) -> None:
    headers = {"content-type": "application/json", "transfer-encoding": "gzip, chunked"}
    async with client() as c:
        response = await c.post(CHAT, content=b"{}", headers=headers)
    assert response.status_code == 400
    assert "Transfer-Encoding" in error_of(response)["message"]


async def test_a_compressed_body_is_refused_by_name(client: Client) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    async with client() as c:
        response = await c.post(CHAT, content=b"{}", headers=headers)
    assert response.status_code == 415
    assert "gzip" in error_of(response)["message"]


async def test_a_provider_error_keeps_status_param_code_and_headers(
    client: Client, scripted: Scripted
) -> None:
    scripted.scripts[CHAT] = fails(ContextTooLong.of(100, 200))
    scripted.scripts["/v1/embeddings"] = fails(RateLimited("full", retry_after=3))
    async with client() as c:
        long = await c.post(CHAT, json={})
        busy = await c.post("/v1/embeddings", json={})
    assert (long.status_code, error_of(long)["code"]) == (400, "context_length_exceeded")
    assert error_of(long)["param"] == "messages"
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "3")


async def test_an_unexpected_failure_tells_the_client_nothing_but_the_id(
    client: Client, scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.scripts[CHAT] = fails(ValueError("the prompt was: secret sauce"))
    async with client() as c:
        response = await c.post(CHAT, json={}, headers={"x-request-id": "mine-1"})
    assert response.status_code == 500
    assert "mine-1" in error_of(response)["message"]
    assert "sauce" not in response.text
    assert "sauce" not in caplog.text


async def test_a_cancellation_that_escapes_a_provider_is_a_failure(
    client: Client, scripted: Scripted
) -> None:
    scripted.scripts[CHAT] = fails(asyncio.CancelledError())
    async with client() as c:
        response = await c.post(CHAT, json={})
    assert response.status_code == 500
    assert error_of(response)["type"] == "server_error"


async def test_an_error_answer_of_the_provider_passes_as_it_is(
    client: Client, scripted: Scripted
) -> None:
    body = {"error": {"message": "m", "type": "t", "param": None, "code": "c"}}
    scripted.scripts[CHAT] = says(body, 418, x_request_id="up-1", openai_organization="acme")
    async with client() as c:
        response = await c.post(CHAT, json={})
    assert (response.status_code, response.json()) == (418, body)
    assert response.headers["x-upstream-request-id"] == "up-1"
    assert response.headers["x-request-id"] != "up-1"
    assert "openai-organization" not in response.headers


@pytest.mark.parametrize("kind", ApiError.__subclasses__())
async def test_every_error_of_the_tree_can_be_sent(
    client: Client, scripted: Scripted, kind: type[ApiError]
) -> None:
    scripted.scripts[CHAT] = fails(kind("왜냐하면 \ud800", headers={"x-why": "한글"}))
    async with client() as c:
        response = await c.post(CHAT, json={})
    assert response.status_code == kind.status
    assert error_of(response)["message"] == "왜냐하면 \ud800"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", b"plain"),
        ("caf\xe9", b"caf\xe9"),
        ("한글", b"%ED%95%9C%EA%B8%80"),
        ("a\r\nset-cookie: b", b"a%0D%0Aset-cookie: b"),
        ("nul\x00 del\x7f", b"nul%00 del%7F"),
        ("half \ud800", b"half %3F"),
    ],
)
def test_whatever_a_header_holds_can_be_written(
    scripted: Scripted, value: str, written: bytes
) -> None:
    """Over a real connection: one that cannot be written would have dropped it."""
    scripted.scripts[CHAT] = says({}, x_note=value)
    with live(scripted) as server, connected(server.port) as sock:
        sock.sendall(post(b"{}"))
        raw = sock.recv(65536)
    assert raw.startswith(b"HTTP/1.1 200 OK")
    assert b"x-note: " + written + b"\r\n" in raw
    assert b"\nset-cookie" not in raw


def test_a_header_without_a_name_is_left_out() -> None:
    assert encoded({"a b": "1", "": "2", "이름": "3", "X-Ok": "4"}) == [(b"x-ok", b"4")]


async def test_an_error_s_header_is_written_too(client: Client, scripted: Scripted) -> None:
    scripted.scripts[CHAT] = fails(ApiError("no", headers={"x-why": "한\n"}))
    async with client() as c:
        assert (await c.post(CHAT, json={})).headers["x-why"] == "%ED%95%9C%0A"
