"""Responses over scripted chats, and how the tests ask for them."""

from __future__ import annotations

import json
from typing import Any

from provider.base import ApiRequest, ApiResponse, Provider
from provider.responses import Responses, Store
from tests.contract.official import check
from tests.contract.official_responses import check_events

PATH = "/v1/responses"


def over(inner: Provider, *, most: int = 100, most_bytes: int = 1 << 20) -> Responses:
    return Responses(inner, Store(most, most_bytes))


def request(method: str = "POST", path: str = PATH, *, caller: str = "", query: str = "",
            **body: Any) -> ApiRequest:  # fmt: skip
    content = json.dumps({"model": "gpt-4o-mini", **body}).encode() if method == "POST" else b""
    headers = {"content-type": "application/json"}
    return ApiRequest(method, path, headers, content, query, {"caller": caller} if caller else {})


def ask(said: Any = "안녕", **more: Any) -> ApiRequest:
    return request(input=said, **more)


async def response_of(answer: ApiResponse) -> dict[str, Any]:
    body = await answer.read()
    if answer.streamed:
        found: dict[str, Any] = check_events(body, complete=True)[-1]["response"]
        return found
    read: dict[str, Any] = json.loads(body)
    check("response", read)
    return read


def text_of(response: dict[str, Any]) -> str:
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )
