"""Function calls of the local provider."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
from pydantic import BaseModel

from provider.client import AsyncOpenAI
from provider.local import LocalProvider
from tests.local.asking import ASK, completion, events

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
# Strict, because openai 2.x gathers streams of strict functions only.
TOOLS: list[Any] = [
    {"type": "function", "function": {**function, "strict": True}}
    for function in (WEATHER, {"name": "now"})
]


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


class GetWeather(BaseModel):
    city: Literal["서울", "부산"]
    days: Literal[1, 2, 3]


async def test_a_pydantic_tool_comes_back_parsed(client: AsyncOpenAI) -> None:
    parsed = await client.chat.completions.parse(
        **{**ASK, "max_tokens": 300},
        tools=[openai.pydantic_function_tool(GetWeather)],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    [call] = parsed.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, GetWeather)


async def test_several_calls_in_one_turn(provider: LocalProvider) -> None:
    body = await completion(
        provider, tools=TOOLS, tool_choice="required", max_tokens=600, temperature=1.5, seed=2
    )
    choice = body["choices"][0]
    calls = choice["message"]["tool_calls"]
    assert len(calls) > 1
    assert len({call["id"] for call in calls}) == len(calls)
    whole = calls if choice["finish_reason"] == "tool_calls" else calls[:-1]
    for call in whole:
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
    chunks = await events(
        provider, tools=TOOLS, tool_choice="required", max_tokens=600, temperature=1.5, seed=2
    )
    deltas = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in chunks]
    assert max(delta[0]["index"] for delta in deltas if delta) == len(calls) - 1
