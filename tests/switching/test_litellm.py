"""LiteLLM both ways. It caps the OpenAI SDK, so this runs where it is installed (`make core`)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from provider.errors import InvalidRequest, NotFound
from provider.litellm import LiteLLMProvider, register
from provider.settings import Settings
from tests.standin import StandIn, serve
from tests.switching.parts import chat, content_of

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        find_spec("litellm") is None,
        reason="LiteLLM is not installed here",
    ),
]

MESSAGES = [{"role": "user", "content": "안녕"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with serve() as served:
        yield served


@pytest.fixture
def settings(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OPENAI_API_KEY", standin.key)
    monkeypatch.setenv("OPENAI_BASE_URL", standin.base_url)
    return Settings(_env_file=None, llm_model="openai/gpt-4o-mini")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_goes_through_litellm(settings: Settings, stream: bool) -> None:
    response = await LiteLLMProvider(settings).answer(chat(stream=stream))
    assert "안녕" in await content_of(response)


async def test_its_errors_are_openais(settings: Settings) -> None:
    one = LiteLLMProvider(settings)
    with pytest.raises(InvalidRequest):
        await one.answer(chat(n=0))
    elsewhere = settings.model_copy(update={"llm_model": "openai/no-such-model"})
    with pytest.raises(NotFound):
        await LiteLLMProvider(elsewhere).answer(chat())


async def test_embeddings_go_through(settings: Settings) -> None:
    body = json.dumps({"model": "text-embedding-3-small", "input": ["a", "b"]}).encode()
    request = type(chat())("POST", "/v1/embeddings", {}, body)
    answer = json.loads(await (await LiteLLMProvider(settings).answer(request)).read())
    assert [len(item["embedding"]) for item in answer["data"]] == [1536, 1536]


def test_an_app_on_litellm_reaches_us(settings: Settings) -> None:
    import litellm

    register(settings)
    register(settings)
    assert [entry["provider"] for entry in litellm.custom_provider_map].count("sllm") == 1
    model = "sllm/gpt-4o-mini"
    plain = litellm.completion(model=model, messages=MESSAGES, max_tokens=20)
    assert "안녕" in plain.choices[0].message.content
    chunks = litellm.completion(model=model, messages=MESSAGES, stream=True)
    assert "안녕" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    tool = {"name": "f", "parameters": SCHEMA, "strict": True}
    called = litellm.completion(
        model=model,
        messages=MESSAGES,
        tools=[{"type": "function", "function": tool}],
        tool_choice="required",
    )
    assert called.choices[0].message.tool_calls[0].function.name == "f"
    vectors = litellm.embedding(model="sllm/text-embedding-3-small", input=["a"])
    assert len(vectors.data[0]["embedding"]) == 1536


async def test_an_async_app_on_litellm_reaches_us(settings: Settings) -> None:
    import litellm

    register(settings)
    format_ = {
        "type": "json_schema",
        "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
    }
    answer = await litellm.acompletion(
        model="sllm/gpt-4o-mini", messages=MESSAGES, response_format=format_
    )
    assert set(json.loads(answer.choices[0].message.content)) == {"a"}
    chunks = await litellm.acompletion(model="sllm/gpt-4o-mini", messages=MESSAGES, stream=True)
    texts = [chunk.choices[0].delta.content or "" async for chunk in chunks]
    assert "안녕" in "".join(texts)
    with pytest.raises(litellm.exceptions.NotFoundError):
        await litellm.acompletion(model="sllm/nope", messages=MESSAGES)


def test_importing_it_asks_no_network_and_waits_for_the_first_request() -> None:
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = no\n"
        "import provider.litellm as p\n"
        "assert 'litellm' not in sys.modules\n"
        "p._litellm()\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", ["api_base", "api_key", "fallbacks", "timeout", "mock_response"])
async def test_a_client_cannot_use_litellms_own_arguments(
    settings: Settings, standin: StandIn, name: str
) -> None:
    """`api_base` in a body would send the server's key to whoever asks for it."""
    before = len(standin.requests)
    with pytest.raises(InvalidRequest) as refused:
        await LiteLLMProvider(settings).answer(chat(**{name: "http://127.0.0.1:9/v1"}))
    assert refused.value.param == name
    assert len(standin.requests) == before


async def test_errors_keep_the_hosted_sides_code_and_parameter(settings: Settings) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await LiteLLMProvider(settings).answer(chat(n=0))
    assert (refused.value.param, refused.value.code) == ("n", "integer_below_min_value")
