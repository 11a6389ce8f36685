"""How the tests ask the local provider, and what they check of every answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from provider.base import ApiRequest, ApiResponse
from provider.errors import ApiError
from provider.local import LocalProvider
from tests.protocol.components import CHUNK, COMPLETION, check

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "거실은 남향? json"}],
    "max_tokens": 12,
    "seed": 7,
}


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


async def settled(provider: LocalProvider) -> None:
    """Waits until the engine has nothing under way."""
    engine = (await provider.language.get()).engine
    for _ in range(500):
        stats = engine.stats()
        if not stats["running"] and not stats["waiting"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"still busy: {engine.stats()}")
