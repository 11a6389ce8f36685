"""What is refused, and that it is refused before the first byte."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from provider.base import ApiRequest
from provider.client import AsyncOpenAI
from provider.errors import ApiError
from provider.local import LocalProvider
from tests.local.asking import ASK, CHAT, answered, refused

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


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a"', b"\xff", b'{"a": NaN}', b"[" * 99999])
async def test_a_body_that_is_no_object(provider: LocalProvider, body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        await provider.answer(ApiRequest("POST", CHAT, body=body))
    assert caught.value.status == 400


async def test_paths_and_methods(provider: LocalProvider) -> None:
    with pytest.raises(ApiError) as unknown:
        await answered(provider, "/v1/foo")
    assert (unknown.value.status, unknown.value.message) == (404, "Invalid URL (POST /v1/foo)")
    with pytest.raises(ApiError, match=r"\(POST /v1/conversations\)\. .* /v1/chat/completions"):
        await answered(provider, "/v1/conversations")
    with pytest.raises(ApiError) as wrong:
        await provider.answer(ApiRequest("GET", CHAT))
    assert wrong.value.status == 405
    assert wrong.value.message.startswith("Not allowed to GET on /v1/chat/completions")
    assert wrong.value.headers["allow"] == "POST"
