"""Traces of the server: from the client's `traceparent`, through us, to the upstream's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from provider.sdk_http import httpx
from tests.server.process import Served, served
from tests.server.wire import CHAT
from tests.standin import StandIn, serve

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "비밀이야"}]}
TRACE, PARENT = "1" * 32, "2" * 16


class Collector:
    """What OTLP exporters sent: spans as plain dictionaries, and the headers of each request."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.resource: dict[str, Any] = {}
        self.headers: list[dict[str, str]] = []
        self.raw = b""
        self.port = 0

    def take(self, headers: dict[str, str], body: bytes) -> None:
        self.headers.append(headers)
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = values(resource.resource.attributes)
            for span in [one for scope in resource.scope_spans for one in scope.spans]:
                told = {
                    "name": span.name,
                    "kind": span.kind,
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "failed": span.status.code == 2,
                }
                self.spans.append({**told, **values(span.attributes)})

    def named(self, name: str) -> dict[str, Any]:
        [span] = [span for span in self.spans if span["name"] == name]
        return span


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A real OTLP/HTTP receiver on loopback."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            collector.take({k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as receiver:
        collector.port = receiver.server_address[1]
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield collector
        receiver.shutdown()


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with serve() as running:
        yield running


def hosted(standin: StandIn) -> dict[str, str]:
    return {"OPENAI_BASE_URL": standin.base_url, "OPENAI_API_KEY": standin.key}


def ask(server: Served, **more: Any) -> httpx.Response:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = httpx.post(f"{server.url}{CHAT[3:]}", json={**ASKED, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def test_one_trace_from_the_client_to_the_upstream(tmp_path: Path, standin: StandIn) -> None:
    with (
        collecting() as collector,
        served(
            tmp_path,
            **hosted(standin),
            LLM_TRACING="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}",
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=kim",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
            SLLM_LOG_FORMAT="json",
        ) as server,
    ):
        ask(server, stream=True, stream_options={"include_usage": True})
        seen = standin.last.headers["traceparent"].split("-")
        httpx.get(f"{server.url.removesuffix('/v1')}/health")
        assert server.end() == 0
    own, call = collector.named(f"POST {CHAT}"), collector.named("chat gpt-4o-mini")
    assert (own["trace"], own["parent"]) == (TRACE, PARENT)
    assert (call["trace"], call["parent"]) == (TRACE, own["id"])
    assert seen[1:3] == [TRACE, call["id"]]
    assert own["http.response.status_code"] == 200
    assert call["gen_ai.response.time_to_first_chunk"] > 0
    assert call["gen_ai.usage.output_tokens"] > 0
    assert len(collector.spans) == 2  # none for /health
    assert collector.resource["service.name"] == "sllm"
    assert collector.resource["deployment.environment"] == "test"
    assert collector.headers[0]["x-tenant"] == "kim"
    assert "비밀".encode() not in collector.raw
    [line] = [one for one in server.log().splitlines() if CHAT in one]
    assert json.loads(line)["trace_id"] == TRACE


def test_a_fallback_is_two_spans_of_one_trace(tmp_path: Path, standin: StandIn) -> None:
    with (
        collecting() as collector,
        served(
            tmp_path,
            **hosted(standin),
            LLM_PROVIDER="local",
            LOCAL_LLM_BASE_URL="http://127.0.0.1:9/v1",
            LLM_FALLBACK="openai",
            LLM_FALLBACK_ATTEMPTS="1",
            LLM_TRACING="otlp",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{collector.port}/v1/traces",
            OTEL_SERVICE_NAME="shop",
        ) as server,
    ):
        assert ask(server).headers["x-sllm-fallback"] == "connect"
        assert server.end() == 0
    assert collector.resource["service.name"] == "shop"
    calls = [span for span in collector.spans if span["name"] == "chat gpt-4o-mini"]
    assert [span["gen_ai.provider.name"] for span in calls] == ["local", "openai"]
    assert [span.get("error.type") for span in calls] == ["bad_gateway", None]
    assert {span["parent"] for span in calls} == {collector.named(f"POST {CHAT}")["id"]}


def test_a_collector_that_is_gone_fails_no_request(tmp_path: Path, standin: StandIn) -> None:
    with served(
        tmp_path,
        **hosted(standin),
        LLM_TRACING="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_BSP_SCHEDULE_DELAY="10",
    ) as server:
        for _ in range(5):
            ask(server)
        assert server.end() == 0


def test_the_console_shows_spans_beside_the_log(tmp_path: Path, standin: StandIn) -> None:
    with served(tmp_path, **hosted(standin), LLM_TRACING="console") as server:
        ask(server)
        server.end()
        assert '"name": "chat gpt-4o-mini"' in server.log()
