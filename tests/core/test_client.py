"""The official SDK over a provider: sync, async, streams, errors, time-outs, early close."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import SecretStr

from provider import ApiRequest, ApiResponse, AsyncOpenAI, OpenAI, Settings
from provider.client import AsyncTransport
from provider.errors import ContextTooLong, RateLimited
from provider.sdk_http import httpx

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "안녕"}]


def chunk(text: str) -> bytes:
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [delta],
    }
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


class Numbers:
    """A stream without an end that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        number = 0
        while not self.closed.is_set():
            yield chunk(str(number))
            number += 1
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        self.closed.set()


class Echo:
    """Answers with the last message, and misbehaves when the model's name asks for it."""

    def __init__(self) -> None:
        self.requests: list[ApiRequest] = []
        self.stream = Numbers()

    async def answer(self, request: ApiRequest) -> ApiResponse:
        self.requests.append(request)
        model = request.json["model"]
        if model == "long":
            raise ContextTooLong.of(100, 200)
        if model == "busy":
            raise RateLimited("The queue is full.", retry_after=7)
        if model == "broken":
            raise RuntimeError("a bug")
        if model == "slow":
            await asyncio.sleep(30)
        if request.json.get("stream"):
            return ApiResponse(200, {"content-type": "text/event-stream"}, self.stream)
        message = {"role": "assistant", "content": request.json["messages"][-1]["content"]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        return ApiResponse.from_json(body, headers={"x-request-id": "req_1"})

    async def aclose(self) -> None:
        pass


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def client(echo: Echo) -> OpenAI:
    return OpenAI(provider=echo, max_retries=0)


def test_it_is_a_genuine_client(client: OpenAI) -> None:
    assert isinstance(client, openai.OpenAI)
    answer = client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == "안녕"
    assert answer._request_id == "req_1"


def test_the_request_arrives_as_it_was_sent(client: OpenAI, echo: Echo) -> None:
    client.chat.completions.create(
        model="m",
        messages=MESSAGES,
        extra_query={"api-version": "2"},
        extra_headers={"X-Trace": "7"},
    )
    [request] = echo.requests
    assert (request.method, request.path, request.query) == (
        "POST",
        "/v1/chat/completions",
        "api-version=2",
    )
    assert request.headers["x-trace"] == "7"
    assert json.loads(request.body) == {"model": "m", "messages": MESSAGES}


def test_errors_are_typed(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="long", messages=MESSAGES)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model="busy", messages=MESSAGES)
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="broken", messages=MESSAGES)


def test_a_timeout_is_honoured(client: OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.05).chat.completions.create(
            model="slow",
            messages=MESSAGES,
        )


async def test_a_timeout_is_honoured_async(echo: Echo) -> None:
    client = AsyncOpenAI(provider=echo, max_retries=0, timeout=0.05)
    with pytest.raises(openai.APITimeoutError):
        await client.chat.completions.create(model="slow", messages=MESSAGES)


def test_leaving_a_stream_early_closes_it(client: OpenAI, echo: Echo) -> None:
    with client.chat.completions.create(
        model="m",
        messages=MESSAGES,
        stream=True,
    ) as stream:
        first = next(iter(stream))
    assert first.choices[0].delta.content == "0"
    assert echo.stream.closed.wait(1)


async def test_leaving_an_async_stream_early_closes_it(echo: Echo) -> None:
    client = AsyncOpenAI(provider=echo)
    stream = await client.chat.completions.create(
        model="m",
        messages=MESSAGES,
        stream=True,
    )
    async with stream:
        async for item in stream:
            assert item.choices[0].delta.content == "0"
            break
    assert echo.stream.closed.is_set()


def test_many_threads_share_one_client(client: OpenAI) -> None:
    answers: list[str | None] = []

    def ask(number: int) -> None:
        answer = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": str(number)}]
        )
        answers.append(answer.choices[0].message.content)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=lambda text: int(text or 0)) == [str(n) for n in range(32)]


def test_one_async_client_per_event_loop_works_again_and_again(echo: Echo) -> None:
    async def ask() -> str | None:
        client = AsyncOpenAI(provider=echo)
        answer = await client.chat.completions.create(model="m", messages=MESSAGES)
        return answer.choices[0].message.content

    assert [asyncio.run(ask()) for _ in range(3)] == ["안녕"] * 3


def test_another_event_loop_than_asyncio_s_is_told(echo: Echo) -> None:
    request = httpx.Request("POST", "http://in-process.sllm/v1/chat/completions", json={})
    call = AsyncTransport(echo).handle_async_request(request)
    with pytest.raises(RuntimeError, match="under trio call"):
        call.send(None)


def test_with_openai_and_nothing_wrapped_it_is_the_stock_client() -> None:
    settings = Settings(_env_file=None, openai_api_key="sk-one")
    ours, stock = OpenAI(settings=settings), openai.OpenAI(api_key="sk-one")
    assert type(ours._client) is type(stock._client)
    assert type(ours._client._transport) is type(stock._client._transport)
    assert str(ours.base_url) == str(stock.base_url)
    assert ours.api_key == "sk-one"


def test_a_key_of_the_settings_needs_no_environment(tmp_path: Path) -> None:
    key = SecretStr("sk-from-dotenv")
    settings = Settings(_env_file=None, openai_api_key=key, llm_record=tmp_path / "record.jsonl")
    with OpenAI(settings=settings) as client:
        assert client.api_key == "sk-from-dotenv"


def test_a_copied_client_keeps_its_provider(client: OpenAI, echo: Echo) -> None:
    client.with_options(timeout=5).chat.completions.create(model="m", messages=MESSAGES)
    assert len(echo.requests) == 1


def test_an_http_client_of_the_app_is_not_an_error(echo: Echo) -> None:
    with httpx.Client() as own:
        client = OpenAI(provider=echo, http_client=own)
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert len(echo.requests) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_answers_too() -> None:
    code = """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from provider import ApiResponse, OpenAI
        class Yes:
            async def answer(self, request):
                return ApiResponse.from_json({"object": "list", "data": []})
            async def aclose(self): pass
        client = OpenAI(provider=Yes(), max_retries=0)
        client.models.list()
        child = os.fork()
        if child == 0:
            client.models.list()
            os._exit(7)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60)
    assert done.returncode == 7


def test_a_client_that_is_dropped_leaves_no_warning(echo: Echo) -> None:
    client = OpenAI(provider=echo)
    client.chat.completions.create(model="m", messages=MESSAGES)
    del client
    gc.collect()
