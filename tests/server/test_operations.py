"""Health, readiness, metrics, the OpenAPI document, logs, and the end of a server."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from provider.base import Sample
from provider.sdk_http import httpx
from server.exchange import Exchange
from server.logs import JsonLines, PlainLines, request_done
from tests.server.conftest import Client
from tests.server.live import live
from tests.server.scripted import Pieces, Scripted, echoes, never, streams
from tests.server.wire import CHAT, broken_off


async def test_health_and_readiness_follow_the_provider(client: Client, scripted: Scripted) -> None:
    async with client(sllm_api_keys=["k"]) as c:
        scripted.state = {"engine": {"queue": 0}}
        assert (await c.get("/ready")).json() == {"status": "ready"}
        known = await c.get("/ready", headers={"authorization": "Bearer k"})
        assert known.json()["engine"] == {"queue": 0}
        for state, health, ready, status in (
            ({}, 200, 200, "ready"),
            ({"ready": False}, 200, 503, "loading"),
            ({"alive": False, "ready": False}, 503, 503, "dead"),
        ):
            scripted.state = state
            assert (await c.get("/health")).status_code == health
            answer = await c.get("/ready")
            assert (answer.status_code, answer.json()["status"]) == (ready, status)


async def test_metrics_count_by_template_never_by_what_clients_write(
    client: Client, scripted: Scripted
) -> None:
    scripted.scripts[CHAT] = echoes
    async with client(sllm_api_keys=["k"]) as c:
        c.headers["authorization"] = "Bearer k"
        await c.post(CHAT, json={"text": "a"})
        for number in range(5):
            await c.get(f"/v1/models/guess-{number}")
            await c.get(f"/guess-{number}")
            await c.get(f"/v1/guess-{number}")
        text = (await c.get("/metrics")).text
        del c.headers["authorization"]
        assert (await c.get("/metrics")).status_code == 401
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counted = {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for sample in families["sllm_http_requests"].samples
        if sample.name.endswith("_total")
    }
    assert counted == {
        (CHAT, "200"): 1,
        ("/v1/models/{model:path}", "404"): 5,
        ("/v1/{other}", "404"): 5,
        ("unmatched", "404"): 5,
    }
    assert "guess" not in text
    assert "Bearer" not in text


async def test_the_provider_s_samples_stand_beside_the_server_s(
    client: Client, scripted: Scripted
) -> None:
    labels = (("route", "/v1/x"),)
    scripted.metrics = [
        Sample("sllm_tokens_total", "counter", "Tokens.", labels, 3.0),
        Sample("sllm_tokens_total", "counter", "Tokens.", labels, 4.0),
        Sample("sllm_queue", "gauge", "Waiting.", (), 2.0),
        Sample("sllm_took_bucket", "histogram", "Seconds.", (("le", "+Inf"),), 1.0),
        Sample("sllm_took_sum", "histogram", "Seconds.", (), 0.5),
        Sample("sllm_took_count", "histogram", "Seconds.", (), 1.0),
    ]
    async with client() as c:
        text = (await c.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert [sample.value for sample in families["sllm_tokens"].samples] == [7.0]
    assert families["sllm_queue"].type == "gauge"
    assert {sample.name for sample in families["sllm_took"].samples} == {
        "sllm_took_bucket",
        "sllm_took_sum",
        "sllm_took_count",
    }


async def test_the_openapi_document_names_what_is_served(client: Client) -> None:
    async with client() as c:
        document = (await c.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {CHAT, "/v1/embeddings", "/v1/models", "/v1/models/{model}"}
    assert set(document["paths"]["/v1/responses/{id}"]) == {"get", "delete"}
    references = [part.split('"')[0] for part in json.dumps(document).split("#/components/")[1:]]
    for reference in references:
        assert reference.removeprefix("schemas/") in schemas
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1"):
                assert {"400", "401", "404", "429", "500"} <= set(operation["responses"])


def test_a_drain_finishes_what_is_quick_and_fails_what_is_not() -> None:
    provider = Scripted({"/v1/embeddings": never})
    stream = Pieces(b"data: {}\n\n", pause=0.01, endless=True)
    provider.scripts[CHAT] = streams(stream)
    got: dict[str, httpx.Response | bytes] = {}

    def plain(url: str) -> None:
        got["plain"] = httpx.post(f"{url}/v1/embeddings", json={}, timeout=30)

    def streamed(url: str) -> None:
        with httpx.stream("POST", f"{url}{CHAT}", json={}, timeout=30) as answer:
            got["streamed"] = broken_off(answer.iter_raw())

    with live(provider, sllm_drain_timeout=0.3) as server:
        threads = [threading.Thread(target=run, args=(server.url,)) for run in (plain, streamed)]
        for thread in threads:
            thread.start()
        while len(provider.seen) < 2:
            threading.Event().wait(0.005)
        server.stop()
        for thread in threads:
            thread.join(20)
    refused = got["plain"]
    assert isinstance(refused, httpx.Response)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "service_unavailable"
    assert refused.headers["retry-after"]
    received = got["streamed"]
    assert isinstance(received, bytes)
    last = received.strip().split(b"\n\n")[-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "service_unavailable"
    assert stream.closed.is_set()
    assert provider.cancelled == 1
    assert provider.closed


def test_a_request_that_finishes_in_time_is_not_cut_by_the_drain() -> None:
    stream = Pieces(*[b"data: {}\n\n"] * 20, pause=0.02)
    provider = Scripted({CHAT: streams(stream)})
    with live(provider, sllm_drain_timeout=20) as server:
        with httpx.stream("POST", f"{server.url}{CHAT}", json={}, timeout=30) as answer:
            pieces = answer.iter_raw()
            received = next(pieces)
            server.server.should_exit = True
            received += b"".join(pieces)
        server.thread.join(20)
        assert received == b"data: {}\n\n" * 20
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health")


def test_log_lines_are_json_or_plain(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange("POST", "/v1/x", {}, "127.0.0.1", "id-1", route="/v1/x", status=200)
    with caplog.at_level(logging.INFO, "sllm.server"):
        request_done(exchange)
    (record,) = caplog.records
    line = json.loads(JsonLines().format(record))
    assert (line["event"], line["request_id"], line["status"]) == ("request", "id-1", 200)
    assert line["time"].endswith("Z")
    assert "request_id=id-1" in PlainLines().format(record)


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("sllm", "provider", "uvicorn")]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    yield
    for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.mark.usefixtures("logging_as_it_was")
async def test_the_app_by_name_is_built_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from server.asgi import app

    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("SLLM_API_KEYS", "mine")
    transport = httpx.ASGITransport(app=app())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as c:
        assert (await c.get("/ready")).json() == {"status": "ready"}
        assert (await c.get("/v1/models")).status_code == 401
