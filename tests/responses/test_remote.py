"""Responses whose model is behind another server: text, schemas, functions and turns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provider.integrity import Integrity
from provider.remote import Remote
from provider.responses import Responses
from provider.settings import Settings
from tests.responses.asking import ask, over, response_of, text_of
from tests.switching.bounded import Bounded

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["서울", "부산"]}},
    "required": ["city"],
    "additionalProperties": False,
}
SEOUL = '{"city": "서울"}'
TOOLS = [{"type": "function", "name": "get_weather", "parameters": CITY, "strict": True}]


def remote(server: Bounded) -> Responses:
    return over(Remote(Settings(_env_file=None), [Integrity(server)]))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_text_goes_on(stream: bool) -> None:
    server = Bounded("맑습니다")
    one = remote(server)
    first = await response_of(await one.answer(ask(stream=stream)))
    assert text_of(first) == "맑습니다"
    asked = ask("그리고?", previous_response_id=first["id"], stream=stream)
    await response_of(await one.answer(asked))
    said = [message["content"] for message in server.requests[-1]["messages"]]
    assert said == ["안녕", "맑습니다", "그리고?"]


@pytest.mark.parametrize("stream", [False, True])
async def test_json_under_a_schema(stream: bool) -> None:
    form = {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}
    asked = ask(text={"format": form}, stream=stream)
    response = await response_of(await remote(Bounded(held=[SEOUL])).answer(asked))
    assert json.loads(text_of(response)) == {"city": "서울"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call(stream: bool) -> None:
    written = f'{{"tool_calls": [{{"name": "get_weather", "arguments": {SEOUL}}}]}}'
    asked = ask(tools=TOOLS, tool_choice="required", stream=stream)
    response = await response_of(await remote(Bounded(held=[written])).answer(asked))
    calls: list[Any] = response["output"]
    assert [(call["type"], call["name"]) for call in calls] == [("function_call", "get_weather")]
    assert json.loads(calls[0]["arguments"]) == {"city": "서울"}
