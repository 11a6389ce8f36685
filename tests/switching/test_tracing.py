"""Traces: OpenTelemetry's GenAI conventions, what was asked for and nothing that was said."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from provider import ConfigurationError, Settings
from provider.base import ApiRequest, ApiResponse, Provider
from provider.errors import BadGateway, RateLimited
from provider.factory import build
from tests.standin import StandIn, serve
from tests.switching.parts import CHAT, Named, Pieces, chat, chunk, completion

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from provider.tracing.around import traced
from provider.tracing.traced import Manner, Traced

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

SECRET = "주민등록번호를 알려 줘"


class Kept:
    """A tracer and the spans that it made."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(**options)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def tracer(self) -> Tracer:
        return self._provider.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def only(self) -> ReadableSpan:
        [span] = self.spans
        return span


@pytest.fixture
def kept() -> Kept:
    return Kept()


def watched(inner: Provider, kept: Kept, *, content: bool = False) -> Traced:
    return Traced(inner, "openai", Manner(kept.tracer, content=content))


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_chat_is_one_span_in_the_conventions_words(kept: Kept) -> None:
    request = chat(
        SECRET,
        temperature=0,
        max_tokens=9,
        n=2,
        seed=7,
        stop="끝",
        response_format={"type": "json_object"},
        reasoning_effort="low",
    )
    body = {**completion("{}"), "service_tier": "default", "system_fingerprint": "fp_1"}
    answer = ApiResponse.from_json(body)
    await watched(Named("n", [answer]), kept).answer(request)
    assert (kept.only.name, kept.only.kind) == ("chat gpt-4o-mini", SpanKind.CLIENT)
    assert facts(kept.only) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("끝",),
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "c",
        "gen_ai.response.model": "named-model",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "openai.api.type": "chat_completions",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
    }
    assert kept.only.status.status_code is StatusCode.UNSET


async def test_a_stream_is_timed_and_ends_with_its_last_piece(kept: Kept) -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    pieces = [chunk("안"), chunk(finish="length"), chunk(usage=usage), b"data: [DONE]\n\n"]
    provider = watched(Named("n", stream=lambda: Pieces(pieces)), kept)
    response = await provider.answer(chat(stream=True))
    assert kept.spans == []
    await response.read()
    found = facts(kept.only)
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.response.time_to_first_chunk"] >= 0
    assert found["gen_ai.response.finish_reasons"] == ("length",)
    assert found["gen_ai.usage.cache_read.input_tokens"] == 1
    assert found["gen_ai.usage.reasoning.output_tokens"] == 2
    assert "error.type" not in found


async def test_failures_have_a_type_and_no_words(kept: Kept) -> None:
    refused = ApiResponse.from_json({"error": {"message": SECRET, "code": "bad_thing"}}, 400)
    bare = ApiResponse(500, {}, SECRET.encode())
    provider = watched(Named("n", [RateLimited(SECRET), refused, bare]), kept)
    with pytest.raises(RateLimited):
        await provider.answer(chat())
    await provider.answer(chat())
    await provider.answer(chat())
    types = [facts(span)["error.type"] for span in kept.spans]
    assert types == ["rate_limit_exceeded", "bad_thing", "500"]
    assert all(span.status.status_code is StatusCode.ERROR for span in kept.spans)
    assert SECRET not in "".join(span.to_json(indent=None) for span in kept.spans)


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([chunk("half"), BadGateway("gone")], "bad_gateway"),
        ([chunk("half"), b'data: {"error": {"code": "overloaded"}}\n\n'], "overloaded"),
    ],
)
async def test_a_stream_that_breaks_is_an_error(
    kept: Kept, pieces: list[bytes | Exception], kind: str
) -> None:
    provider = watched(Named("n", stream=lambda: Pieces(pieces)), kept)
    response = await provider.answer(chat(stream=True))
    if isinstance(pieces[1], Exception):
        with pytest.raises(BadGateway):
            await response.read()
    else:
        await response.read()
    assert facts(kept.only)["error.type"] == kind


async def test_a_stream_that_is_left_ends_its_span_without_an_error(kept: Kept) -> None:
    response = await watched(Named("n"), kept).answer(chat(stream=True))
    assert not isinstance(response.body, bytes)
    async for _ in response.body:
        break
    await response.body.aclose()
    assert facts(kept.only)["sllm.stream.left"] is True
    assert "error.type" not in facts(kept.only)


async def test_a_cancelled_request_ends_its_span(kept: Kept) -> None:
    task = asyncio.create_task(watched(Named("n", pause=60), kept).answer(chat()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "CancelledError" in facts(kept.only)["error.type"]


async def test_what_was_said_is_kept_only_where_it_is_asked_for(kept: Kept) -> None:
    asked = chat(SECRET)
    await watched(Named("n"), kept).answer(asked)
    assert SECRET not in kept.only.to_json()
    loud = Kept()
    await watched(Named("n"), loud, content=True).answer(asked)
    assert json.loads(facts(loud.only)["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": SECRET}]}
    ]
    streamed = Kept()
    await (await watched(Named("n"), streamed, content=True).answer(chat(stream=True))).read()
    for one, said in ((loud, "n"), (streamed, "nnnnn")):
        assert json.loads(facts(one.only)["gen_ai.output.messages"]) == [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": said}],
                "finish_reason": "stop",
            }
        ]


async def test_tools_and_pictures_keep_their_form(kept: Kept) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
    ]
    request = chat().with_json({"model": "m", "messages": messages})
    await watched(Named("n"), kept, content=True).answer(request)
    assert [one["parts"] for one in json.loads(facts(kept.only)["gen_ai.input.messages"])] == [
        [{"type": "text", "content": "a"}, {"type": "image_url"}],
        [{"type": "tool_call", "id": "1", "name": "f", "arguments": "{}"}],
        [{"type": "tool_call_response", "id": "1", "response": "42"}],
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"model": 3, "temperature": "warm", "max_tokens": true, "stop": {"a": 1}, "n": null}',
        b'{"model": "m", "seed": 99999999999999999999999, "messages": "no", "tool_calls": 3}',
        b'{"messages": [3, {"content": [3, null]}, {"tool_calls": ["x", {"function": null}]}]}',
    ],
)
async def test_odd_requests_are_the_provider_s_to_refuse(kept: Kept, body: bytes) -> None:
    refused = ApiResponse.from_json({"error": {"code": "no"}}, 400)
    request = ApiRequest("POST", CHAT, {}, body)
    await watched(Named("n", [refused]), kept, content=True).answer(request)
    assert facts(kept.only)["error.type"] == "no"


async def test_a_model_s_name_does_not_fill_the_trace(kept: Kept) -> None:
    await watched(Named("n"), kept).answer(chat(model="m" * 10_000))
    assert len(kept.only.name) < 300


async def test_the_trace_goes_on_upstream(kept: Kept) -> None:
    inner = Named("n")
    incoming = chat().with_headers({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
    await watched(inner, kept).answer(incoming)
    span, [sent] = kept.only, inner.requests
    assert span.parent is not None
    assert span.context is not None
    assert format_span_id(span.parent.span_id) == "2" * 16
    ids = (format_trace_id(span.context.trace_id), format_span_id(span.context.span_id))
    assert sent.headers["traceparent"] == f"00-{ids[0]}-{ids[1]}-01"
    assert ids[0] == "1" * 32


async def test_what_is_not_sampled_still_travels(kept: Kept) -> None:
    silent, inner = Kept(sampler=ALWAYS_OFF), Named("n")
    response = await watched(inner, silent).answer(chat(stream=True))
    assert b"[DONE]" in await response.read()
    assert silent.spans == []
    flags = int(inner.requests[0].headers["traceparent"].split("-")[3], 16)
    assert flags & 1 == 0


async def test_other_paths_have_no_genai_span(kept: Kept) -> None:
    await watched(Named("n", [ApiResponse(200)]), kept).answer(ApiRequest("GET", "/v1/models"))
    assert kept.spans == []


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with serve() as served:
        yield served


async def test_embeddings_and_the_place_of_the_model(kept: Kept, standin: StandIn) -> None:
    from provider.factory import make

    settings = Settings(
        _env_file=None,
        openai_base_url=standin.base_url,
        openai_api_key=SecretStr(standin.key),
    )
    provider = traced(make("openai", settings), "openai", settings, kept.tracer)
    body = {"model": "text-embedding-3-small", "input": "안녕", "dimensions": 512}
    await provider.answer(
        ApiRequest("POST", "/v1/embeddings", {"content-type": "application/json"}).with_json(body)
    )
    await provider.aclose()
    found = facts(kept.only)
    assert kept.only.name == "embeddings text-embedding-3-small"
    assert found["gen_ai.embeddings.dimension.count"] == 512
    assert found["server.address"] == "127.0.0.1"
    assert found["server.port"] == int(standin.base_url.split(":")[2].split("/")[0])
    assert found["gen_ai.usage.input_tokens"] > 0
    assert standin.last.headers["traceparent"]


def test_the_app_s_own_span_is_the_parent_in_process(kept: Kept) -> None:
    """The sync client answers in another thread; the trace is the same."""
    from provider import OpenAI

    with kept.tracer.start_as_current_span("app"):
        client = OpenAI(provider=watched(Named("n"), kept))
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a"}])
    call, app = kept.spans
    assert call.parent is not None
    assert app.context is not None
    assert (call.name, call.parent.span_id) == ("chat m", app.context.span_id)


def test_a_protocol_that_is_not_spoken_is_refused() -> None:
    code = (
        "from provider import Settings, build; build(Settings(_env_file=None, llm_tracing='otlp',"
        "openai_api_key='k'))._inner._llm._make('openai')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
    )
    assert "OTEL_EXPORTER_OTLP_PROTOCOL='grpc' is not spoken here" in done.stderr


def test_off_imports_nothing() -> None:
    code = (
        "import sys; from provider import Settings, build\n"
        "build(Settings(_env_file=None, openai_api_key='k'))._inner._llm._make('openai')\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "provider.tracing.export", None)
    with pytest.raises(ConfigurationError, match=r"sllm-provider\[tracing\]"):
        build(Settings(_env_file=None, llm_tracing="console"))._inner._llm._make("openai")  # type: ignore[attr-defined]
