"""The local provider end to end: a tiny model with random weights behind the official SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
import torch
from pydantic import BaseModel, ConfigDict

from provider.base import ApiRequest, ApiResponse
from provider.client import AsyncOpenAI, OpenAI
from provider.engine import checkpoint
from provider.engine.engine import Engine
from provider.engine.exaone import CHAT_TEMPLATE, ExaoneForCausalLM
from provider.engine.limits import Limits
from provider.errors import ApiError
from provider.local import LocalProvider
from provider.local.parts import language_of
from provider.settings import Settings
from tests.engine.conftest import EXAONE_SPECIALS, exaone_config, train_tokenizer
from tests.protocol.components import CHUNK, COMPLETION, MODEL, MODELS, check

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "거실은 남향? json"}],
    "max_tokens": 12,
    "seed": 7,
}
WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"enum": ["서울", "부산"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
TOOLS: list[Any] = [
    {"type": "function", "function": WEATHER},
    {"type": "function", "function": {"name": "now"}},
]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProvider]:
    folder = tmp_path_factory.mktemp("local") / "exaone-tiny"
    tokenizer = train_tokenizer(
        EXAONE_SPECIALS, pad_token="[PAD]", bos_token="[BOS]", eos_token="[|endofturn|]"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    ExaoneForCausalLM(exaone_config(max_position_embeddings=1024)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded = checkpoint.load(folder, "cpu", "fp32", progress=False)
    engine = Engine(loaded, Limits(memory=256 << 20, max_batch=8, queue=16))
    engine.start()
    settings = Settings(llm_provider="local", local_llm_max_new_tokens=600)
    yield LocalProvider(settings, language=language_of(engine, loaded, settings))
    engine.close()


@pytest.fixture
def client(provider: LocalProvider) -> AsyncOpenAI:
    return AsyncOpenAI(provider=provider, max_retries=0)


async def answered(provider: LocalProvider, path: str = CHAT, **body: Any) -> ApiResponse:
    return await provider.answer(ApiRequest("POST", path, body=json.dumps(body).encode()))


async def completion(provider: LocalProvider, **more: Any) -> dict[str, Any]:
    response = await answered(provider, **{**ASK, **more})
    assert isinstance(response.body, bytes)
    body: dict[str, Any] = json.loads(response.body)
    check(body, COMPLETION)
    return body


async def events(provider: LocalProvider, **more: Any) -> list[dict[str, Any]]:
    response = await answered(provider, **{**ASK, **more, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = (await response.read()).split(b"\n\n")
    assert lines[-2:] == [b"data: [DONE]", b""]
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-2]]
    for chunk in chunks:
        check(chunk, CHUNK)
    return chunks


def content(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(c["delta"].get("content") or "" for c in choices if c["index"] == index)


async def refused(provider: LocalProvider, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await answered(provider, **{**ASK, **more})
    return caught.value


async def test_an_alias_is_answered_by_the_model_that_is_named(provider: LocalProvider) -> None:
    body = await completion(provider)
    assert body["model"] == "exaone-tiny"
    assert body["usage"]["total_tokens"] == (
        body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    )
    assert body["usage"]["completion_tokens"] <= 12
    assert (await completion(provider, model="exaone-tiny"))["choices"] == body["choices"]


async def test_the_same_seed_gives_the_same_text_alone_and_in_company(
    provider: LocalProvider,
) -> None:
    alone = await completion(provider, seed=3)
    busy = await asyncio.gather(*(completion(provider, seed=seed) for seed in (3, 4, 5, 3)))
    texts = [body["choices"][0]["message"]["content"] for body in busy]
    assert texts[0] == texts[3] == alone["choices"][0]["message"]["content"]
    assert len(set(texts)) > 1


async def test_a_stream_is_the_completion_in_pieces(provider: LocalProvider) -> None:
    whole = await completion(provider, n=2)
    chunks = await events(provider, n=2)
    for choice in whole["choices"]:
        assert content(chunks, choice["index"]) == choice["message"]["content"]
    firsts = {chunk["choices"][0]["index"]: chunk for chunk in reversed(chunks)}
    for first in firsts.values():
        delta = first["choices"][0]["delta"]
        assert delta == {"role": "assistant", "content": "", "refusal": None}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert len([reason for reason in reasons if reason]) == 2


async def test_usage_in_a_stream_only_on_request(provider: LocalProvider) -> None:
    assert all("usage" not in chunk for chunk in await events(provider))
    chunks = await events(provider, stream_options={"include_usage": True})
    whole = await completion(provider)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert {json.dumps(chunk["usage"]) for chunk in chunks[:-1]} == {"null"}


async def test_a_stop_string_is_not_part_of_the_text(provider: LocalProvider) -> None:
    text = (await completion(provider, max_tokens=40))["choices"][0]["message"]["content"]
    stop = text[len(text) // 2 :][:2]
    cut = (await completion(provider, max_tokens=40, stop=["never", stop]))["choices"][0]
    assert cut["message"]["content"] == text[: text.index(stop)]
    assert cut["finish_reason"] == "stop"
    assert content(await events(provider, max_tokens=40, stop=stop)) == text[: text.index(stop)]


async def test_logprobs_of_each_token(provider: LocalProvider) -> None:
    choice = (await completion(provider, logprobs=True, top_logprobs=2))["choices"][0]
    tokens = choice["logprobs"]["content"]
    joined = b"".join(bytes(token["bytes"]) for token in tokens)
    assert joined.decode("utf-8", "replace") == choice["message"]["content"]
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    assert all(token["logprob"] <= 0 for token in tokens)
    chunks = await events(provider, logprobs=True, top_logprobs=2)
    found = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    assert [token for item in found for token in item["content"]] == tokens


async def test_logit_bias_forces_and_bans(provider: LocalProvider) -> None:
    tokenizer = (await provider.language.get()).tokenizer
    wanted = tokenizer.encode("거")[0]
    body = await completion(provider, logit_bias={str(wanted): 100}, max_tokens=3)
    forced = tokenizer.token_bytes(wanted) * 3
    assert body["choices"][0]["message"]["content"] == forced.decode("utf-8", "replace")
    error = await refused(provider, logit_bias={"100000": 1})
    assert error.param == "logit_bias"


class Room(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["거실", "주방"]
    windows: Literal[1, 2, 3]


class Plan(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: Literal["평면도"]
    rooms: tuple[Room, Room] | None


async def test_a_pydantic_model_comes_back(client: AsyncOpenAI) -> None:
    parsed = await client.chat.completions.parse(**{**ASK, "max_tokens": 200}, response_format=Room)
    assert isinstance(parsed.choices[0].message.parsed, Room)
    assert parsed.choices[0].finish_reason == "stop"


async def test_json_that_is_cut_says_so(provider: LocalProvider) -> None:
    schema = Room.model_json_schema()
    form = {"type": "json_schema", "json_schema": {"name": "room", "schema": schema}}
    choice = (await completion(provider, response_format=form, max_tokens=3))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith('{"name"')


async def test_any_json_object(provider: LocalProvider) -> None:
    form = {"type": "json_object"}
    choice = (await completion(provider, response_format=form))["choices"][0]
    assert choice["message"]["content"].startswith("{")


async def test_a_schema_that_cannot_be_enforced_is_refused_by_keyword(
    provider: LocalProvider,
) -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "https://example.com/s"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    error = await refused(provider, response_format=form)
    assert error.status == 400
    assert error.param is not None
    assert error.param.startswith("response_format.json_schema.schema")
    assert "$ref" in error.message


async def test_a_named_call(provider: LocalProvider) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    body = await completion(provider, tools=TOOLS, tool_choice=named, max_tokens=300)
    choice = body["choices"][0]
    assert choice["finish_reason"] == "stop"
    [call] = choice["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert call["function"]["name"] == "get_weather"
    assert arguments["city"] in ("서울", "부산")
    assert 1 <= arguments["days"] <= 9
    assert choice["message"]["content"] is None


async def test_calls_stream_as_openais_do(provider: LocalProvider) -> None:
    how = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 300}
    how |= {"parallel_tool_calls": False}
    whole = (await completion(provider, **how))["choices"][0]
    chunks = await events(provider, **how)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert deltas[0]["role"] == "assistant"
    assert set(calls[0]) == {"index", "id", "type", "function"}
    assert calls[0]["function"]["arguments"] == ""
    assert all(set(call) == {"index", "function"} for call in calls[1:])
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "tool_calls"
    expected = whole["message"]["tool_calls"][0]["function"]
    assert calls[0]["function"]["name"] == expected["name"]
    assert "".join(call["function"]["arguments"] for call in calls) == expected["arguments"]


async def test_the_sdk_gathers_a_streamed_call(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(
        **{**ASK, "max_tokens": 300}, tools=TOOLS, tool_choice="required", parallel_tool_calls=False
    ) as stream:
        final = await stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) is not None


async def test_results_go_back_in(provider: LocalProvider) -> None:
    named = {"type": "function", "function": {"name": "now"}}
    first = await completion(provider, tools=TOOLS, tool_choice=named, max_tokens=300)
    message = first["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "15:00"}
    chat = [*ASK["messages"], message, result]
    second = await completion(provider, tools=TOOLS, tool_choice="none", messages=chat)
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    assert "tool_calls" not in second["choices"][0]["message"]


async def test_a_legacy_function_call(provider: LocalProvider) -> None:
    body = await completion(
        provider, functions=[WEATHER], function_call={"name": "get_weather"}, max_tokens=300
    )
    choice = body["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert json.loads(choice["message"]["function_call"]["arguments"])


async def test_text_or_call_is_the_models_choice(provider: LocalProvider) -> None:
    bodies = [await completion(provider, tools=TOOLS, seed=seed) for seed in range(3)]
    for body in bodies:
        message = body["choices"][0]["message"]
        assert "<tool_call>" not in (message["content"] or "")


async def test_a_prediction_is_reported(provider: LocalProvider) -> None:
    greedy = {"temperature": 0}
    plain = await completion(provider, **greedy)
    text = plain["choices"][0]["message"]["content"]
    prediction = {"type": "content", "content": text}
    body = await completion(provider, **greedy, prediction=prediction)
    assert body["choices"][0]["message"]["content"] == text
    details = body["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] + details["rejected_prediction_tokens"] >= 0


async def test_a_repeated_prompt_is_cached(provider: LocalProvider) -> None:
    chat = [{"role": "user", "content": "주방 " * 60}]
    await completion(provider, messages=chat)
    again = await completion(provider, messages=chat)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_harmless_fields_are_named_in_a_header(provider: LocalProvider) -> None:
    response = await answered(provider, **ASK, user="kim", metadata={"a": "b"}, store=False)
    assert response.headers["x-ignored-params"] == "metadata, user"
    assert "x-ignored-params" not in (await answered(provider, **ASK)).headers


REFUSALS: list[tuple[dict[str, Any], int, str | None, str | None]] = [
    ({"model": "gpt-9"}, 404, "model", "model_not_found"),
    ({"model": "text-embedding-3-small"}, 404, "model", None),
    ({"messages": []}, 400, "messages", "empty_array"),
    ({"max_tokens": 700}, 400, "max_tokens", "invalid_value"),
    ({"temperature": "hot"}, 400, "temperature", "invalid_type"),
    (
        {"messages": [{"role": "user", "content": "가나다 " * 400}]},
        400,
        "messages",
        "context_length_exceeded",
    ),
    (
        {"messages": [{"role": "user", "content": "가" * 5_000_000}]},
        400,
        "messages",
        "context_length_exceeded",
    ),
]


@pytest.mark.parametrize(("more", "status", "param", "code"), REFUSALS)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_come_before_the_first_byte(
    provider: LocalProvider,
    more: dict[str, Any],
    status: int,
    param: str | None,
    code: str | None,
    stream: bool,
) -> None:
    error = await refused(provider, **more, stream=stream)
    assert (error.status, error.param, error.code) == (status, param, code)


async def test_context_errors_are_worded_as_openais(provider: LocalProvider) -> None:
    chat = [{"role": "user", "content": "주방 " * 300}]
    error = await refused(provider, messages=chat, max_tokens=600)
    assert error.message.startswith("This model's maximum context length is 1024 tokens. However,")
    assert "in the messages, 600 in the completion" in error.message


async def test_typed_errors_of_the_sdk(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(**{**ASK, "model": "gpt-9"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(**{**ASK, "temperature": 3})
    assert bad.value.param == "temperature"


def test_the_sync_client(provider: LocalProvider) -> None:
    client = OpenAI(provider=provider, max_retries=0)
    whole = client.chat.completions.create(**ASK)
    stream = client.chat.completions.create(**ASK, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == whole.choices[0].message.content


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a"', b"\xff", b'{"a": NaN}', b"[" * 99999])
async def test_a_body_that_is_no_object(provider: LocalProvider, body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        await provider.answer(ApiRequest("POST", CHAT, body=body))
    assert caught.value.status == 400


async def settled(provider: LocalProvider) -> None:
    """Waits until the engine has nothing under way."""
    engine = (await provider.language.get()).engine
    for _ in range(500):
        stats = engine.stats()
        if not stats["running"] and not stats["waiting"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"still busy: {engine.stats()}")


LONG = {**ASK, "max_tokens": 600, "stream": True, "logit_bias": {"5": -100}}


async def test_hanging_up_frees_the_slot(provider: LocalProvider) -> None:
    engine = (await provider.language.get()).engine
    before = engine.stats()["cancelled"]
    for read in (0, 1, 3):
        response = await answered(provider, **LONG)
        assert not isinstance(response.body, bytes)
        pieces = aiter(response.body)
        for _ in range(read):
            await anext(pieces)
        await response.body.aclose()
        await response.body.aclose()
    await settled(provider)
    assert engine.stats()["cancelled"] == before + 3


async def test_a_cancelled_call_frees_the_slot(provider: LocalProvider) -> None:
    task = asyncio.create_task(answered(provider, **{**LONG, "stream": False}))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled(provider)


async def test_paths_and_methods(provider: LocalProvider) -> None:
    with pytest.raises(ApiError) as unknown:
        await answered(provider, "/v1/foo")
    assert (unknown.value.status, unknown.value.message) == (404, "Invalid URL (POST /v1/foo)")
    with pytest.raises(ApiError) as wrong:
        await provider.answer(ApiRequest("GET", CHAT))
    assert wrong.value.status == 405
    assert wrong.value.message.startswith("Not allowed to GET on /v1/chat/completions")
    assert wrong.value.headers["allow"] == "POST"


async def test_models(provider: LocalProvider, client: AsyncOpenAI) -> None:
    listed = json.loads(await (await provider.answer(ApiRequest("GET", "/v1/models"))).read())
    check(listed, MODELS)
    ids = [model["id"] for model in listed["data"]]
    assert ids[0] == "exaone-tiny"
    assert "gpt-4o-mini" in ids
    assert listed["data"][0]["licence"]
    one = await client.models.retrieve("exaone-tiny")
    check(json.loads(one.model_dump_json()), MODEL)
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("a/b:c")


async def test_it_says_how_it_is(provider: LocalProvider) -> None:
    provider.warm_up()
    health = provider.health()
    assert health["alive"]
    assert health["ready"]
    assert any("exaone-tiny" in line for line in provider.describe())
    names = {sample.name for sample in provider.samples()}
    assert {"sllm_engine_generated_tokens_total", "sllm_engine_running"} <= names
