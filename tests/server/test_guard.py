"""Keys, limits, headers: who may send what, and what nobody gets to see."""

from __future__ import annotations

import asyncio
import hashlib
import logging

import pytest

from provider.errors import ConfigurationError, RateLimited
from server.auth import Keys
from server.limits import Limits
from tests.server.conftest import Client
from tests.server.live import settings
from tests.server.scripted import Scripted, echoes, never, says
from tests.server.wire import CHAT

HASHED = f"sha256:{hashlib.sha256(b'second-key').hexdigest()}"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_each_key_opens_and_nothing_else_does(client: Client, scripted: Scripted) -> None:
    scripted.scripts[CHAT] = echoes
    async with client(sllm_api_keys=["first-key", HASHED]) as c:
        for key in ("first-key", "second-key"):
            assert (await c.post(CHAT, json={}, headers=bearer(key))).status_code == 200
        for headers in ({}, bearer("wrong"), bearer(HASHED), {"authorization": "Basic Zmlyc3Q="}):
            refused = await c.post(CHAT, json={}, headers=headers)
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
            assert "wrong" not in refused.text
    assert len(scripted.seen) == 2


async def test_our_key_never_travels_on(client: Client, scripted: Scripted) -> None:
    scripted.scripts[CHAT] = echoes
    async with client(sllm_api_keys=["first-key"]) as c:
        await c.post(CHAT, json={}, headers={**bearer("first-key"), "cookie": "a=b"})
    (request,) = scripted.seen
    assert not {"authorization", "cookie", "host", "content-length"} & set(request.headers)
    assert "first-key" not in repr(request)
    assert request.context["caller"].startswith("key-")


async def test_without_keys_the_clients_own_key_travels_on(
    client: Client, scripted: Scripted
) -> None:
    scripted.scripts[CHAT] = echoes
    async with client() as c:
        await c.post(CHAT, json={}, headers=bearer("sk-own"))
    assert scripted.seen[0].headers["authorization"] == "Bearer sk-own"


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/load_lora_adapter", "POST"),
        ("/v1/unload_lora_adapter", "POST"),
        ("/admin/providers", "PUT"),
        ("/admin/providers", "GET"),
    ],
)
async def test_the_admin_key_is_another_key(
    client: Client, scripted: Scripted, path: str, method: str
) -> None:
    scripted.scripts[path] = says({"done": True})
    async with client(sllm_api_keys=["user"], sllm_admin_key="admin") as c:
        statuses = [
            (await c.request(method, path, json={}, headers=headers)).status_code
            for headers in ({}, bearer("user"), bearer("admin"))
        ]
    assert statuses == [401, 403, 200]
    async with client() as c:
        closed = await c.request(method, path, json={})
    assert closed.status_code == 403
    assert "SLLM_ADMIN_KEY" in closed.json()["error"]["message"]


async def test_a_server_without_keys_answers_localhost_only(
    client: Client, scripted: Scripted
) -> None:
    """DNS rebinding: a web page whose name was pointed at 127.0.0.1."""
    scripted.scripts[CHAT] = echoes
    async with client() as c:
        for host, status in (
            ("localhost:8000", 200),
            ("127.0.0.1", 200),
            ("[::1]:8000", 200),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
        ):
            answer = await c.post(CHAT, json={}, headers={"host": host})
            assert answer.status_code == status, host


def test_keys_are_kept_as_digests_only() -> None:
    assert "plain-key" not in repr(Keys.of(["plain-key"], ["other-key"]))
    with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
        Keys.of(["sha256:abc"])


def test_another_address_needs_keys() -> None:
    with pytest.raises(ConfigurationError, match="SLLM_API_KEYS"):
        settings(sllm_host="0.0.0.0")


async def test_one_request_more_than_fit_is_refused(client: Client, scripted: Scripted) -> None:
    scripted.scripts[CHAT] = never
    async with client(sllm_max_requests=2) as c:
        running = [asyncio.create_task(c.post(CHAT, json={})) for _ in range(2)]
        await scripted.reached(2)
        refused = await c.post(CHAT, json={})
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        scripted.scripts[CHAT] = echoes
        assert (await c.post(CHAT, json={})).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["code"] == "server_busy"


async def test_the_rate_is_per_key_and_told_in_openai_s_headers(
    client: Client, scripted: Scripted
) -> None:
    scripted.scripts[CHAT] = echoes
    async with client(sllm_api_keys=["a", "b"], sllm_requests_per_minute=2) as c:
        first = await c.post(CHAT, json={}, headers=bearer("a"))
        await c.post(CHAT, json={}, headers=bearer("a"))
        refused = await c.post(CHAT, json={}, headers=bearer("a"))
        other = await c.post(CHAT, json={}, headers=bearer("b"))
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert (refused.status_code, other.status_code) == (429, 200)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 30


def test_a_rate_recovers_with_time() -> None:
    now = [0.0]
    limits = Limits(total=10, per_minute=60, clock=lambda: now[0])
    for _ in range(60):
        with limits.admitted("a"):
            pass
    with pytest.raises(RateLimited), limits.admitted("a"):
        pass
    now[0] = 1.0
    with limits.admitted("a"):
        assert limits.running == 1
    assert limits.running == 0


def test_a_caller_may_be_limited_alone() -> None:
    limits = Limits(total=10, per_caller=1)
    with (
        limits.admitted("a"),
        limits.admitted("b"),
        pytest.raises(RateLimited, match="under way"),
        limits.admitted("a"),
    ):
        pass
    with limits.admitted("a"):
        pass


def test_callers_without_number_are_forgotten() -> None:
    limits = Limits(total=10, per_minute=1)
    with limits.admitted("held"):
        for number in range(20_000):
            with limits.admitted(str(number)):
                pass
        assert len(limits._callers) <= 10_001
        with pytest.raises(RateLimited), limits.admitted("held"):
            pass


async def test_every_answer_carries_an_id_and_the_security_headers(
    client: Client, scripted: Scripted
) -> None:
    scripted.scripts[CHAT] = echoes
    async with client() as c:
        answers = [
            await c.post(CHAT, json={}),
            await c.post(CHAT, content=b"{"),
            await c.get("/nowhere"),
            await c.get("/health"),
            await c.get("/openapi.json"),
        ]
    for answer in answers:
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["openai-version"] == "2020-10-01"
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("x-request-id", "order-17", True),
        ("X-Client-Request-Id", "a.b:c_d-e", True),
        ("x-request-id", "a b", False),
        ("x-request-id", "x" * 129, False),
        ("x-request-id", "한글".encode().decode("latin-1"), False),
    ],
)
async def test_a_sane_id_of_the_client_is_kept(
    client: Client, scripted: Scripted, name: str, given: str, kept: bool
) -> None:
    scripted.scripts[CHAT] = echoes
    async with client() as c:
        answer = await c.post(CHAT, json={}, headers=[(name.encode(), given.encode("latin-1"))])
    assert (answer.headers["x-request-id"] == given) is kept
    assert scripted.seen[0].request_id == answer.headers["x-request-id"]


async def test_cors_is_off_unless_an_origin_is_named(client: Client, scripted: Scripted) -> None:
    scripted.scripts[CHAT] = echoes
    preflight = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    async with client() as c:
        assert (await c.options(CHAT, headers=preflight)).status_code == 405
        plain = await c.post(CHAT, json={}, headers={"origin": "https://app.example"})
        assert "access-control-allow-origin" not in plain.headers
    async with client(sllm_cors_origins=["https://app.example"]) as c:
        allowed = await c.options(CHAT, headers=preflight)
        foreign = await c.options(CHAT, headers={**preflight, "origin": "https://evil.example"})
        failed = await c.post(CHAT, content=b"{", headers={"origin": "https://app.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-stainless-os" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in foreign.headers
    assert failed.headers["access-control-allow-origin"] == "https://app.example"


async def test_logs_have_the_id_and_neither_prompt_nor_key(
    client: Client, scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.scripts[CHAT] = echoes
    with caplog.at_level(logging.DEBUG):
        async with client(sllm_api_keys=["very-secret-key"]) as c:
            headers = {**bearer("very-secret-key"), "x-request-id": "id-7"}
            await c.post(CHAT, json={"messages": "private words"}, headers=headers)
            await c.post(CHAT + "?q=private", json={}, headers=bearer("very-secret-guess"))
    lines = [record.__dict__.get("facts", {}) for record in caplog.records]
    assert any(line.get("request_id") == "id-7" and line["status"] == 200 for line in lines)
    said = " ".join(str(record.__dict__) for record in caplog.records if record.name[:4] == "sllm")
    assert "private" not in said
    assert "very-secret" not in said
