"""Tools: every kind of tool_choice, streams, results going back in, legacy functions."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest
from pydantic import BaseModel

from tests.contract.both import all_of, entered, settled
from tests.contract.requests import ASKED, CITY, TIME, WEATHER, Grade, ask, tool

SCHEMAS = {item["function"]["name"]: item["function"]["parameters"] for item in (WEATHER, TIME)}
NAMED = {"type": "function", "function": {"name": "get_time"}}


def called(**more: Any) -> dict[str, Any]:
    return ask(messages=ASKED, tools=[WEATHER, TIME], max_tokens=300, **more)


def check_calls(calls: list[Any]) -> None:
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.id
        assert call.type == "function"
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


async def test_auto_is_text_or_a_call(client: Any) -> None:
    for choice in ({}, {"tool_choice": "auto"}):
        answer = (await settled(client.chat.completions.create(**called(**choice)))).choices[0]
        if answer.message.tool_calls:
            assert answer.finish_reason in ("tool_calls", "length")
            if answer.finish_reason == "tool_calls":
                check_calls(answer.message.tool_calls)
        else:
            assert isinstance(answer.message.content, str)


async def test_none_is_text(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**called(tool_choice="none")))
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason in ("stop", "length")


async def test_required_is_a_call(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**called(tool_choice="required")))
    assert answer.choices[0].message.content is None
    assert answer.choices[0].finish_reason == "tool_calls"
    check_calls(answer.choices[0].message.tool_calls)


async def test_named_is_that_call(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**called(tool_choice=NAMED)))
    calls = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_time"]
    assert answer.choices[0].finish_reason == "stop"
    check_calls(calls)


async def test_one_call_when_not_parallel(client: Any) -> None:
    request = called(tool_choice="required", parallel_tool_calls=False)
    for seed in (1, 2, 3):
        answer = await settled(client.chat.completions.create(**request | {"seed": seed}))
        assert len(answer.choices[0].message.tool_calls) == 1


async def test_parallel_calls_are_told_apart(client: Any) -> None:
    request = called(tool_choice="required", parallel_tool_calls=True)
    for seed in (1, 2, 3):
        answer = await settled(client.chat.completions.create(**request | {"seed": seed}))
        check_calls(answer.choices[0].message.tool_calls)


async def test_every_answer_has_its_own_call_ids(client: Any) -> None:
    answer = await settled(client.chat.completions.create(**called(tool_choice="required", n=2)))
    ids = [call.id for choice in answer.choices for call in choice.message.tool_calls]
    assert len(set(ids)) == len(ids)


async def test_results_go_back_in(client: Any) -> None:
    request = called(tool_choice="required")
    message = (await settled(client.chat.completions.create(**request))).choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"answer": "맑음"})}
        for call in message.tool_calls
    ]
    turns = [*ASKED, message, *results]
    final = await settled(
        client.chat.completions.create(
            **ask(messages=turns, tools=[WEATHER, TIME], tool_choice="none")
        )
    )
    assert isinstance(final.choices[0].message.content, str)
    without = await settled(client.chat.completions.create(**ask(messages=ASKED)))
    assert final.usage.prompt_tokens > without.usage.prompt_tokens


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_streamed_calls_are_the_whole_calls(client: Any, choice: Any) -> None:
    request = called(tool_choice=choice)
    whole = (await settled(client.chat.completions.create(**request))).choices[0]
    chunks = await all_of(await settled(client.chat.completions.create(**request, stream=True)))
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for delta in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(delta.index, {"name": "", "arguments": "", "id": ""})
            call["id"] += delta.id or ""
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
    expected = [(call.function.name, call.function.arguments) for call in whole.message.tool_calls]
    assert [(call["name"], call["arguments"]) for call in calls.values()] == expected
    assert list(calls) == list(range(len(calls)))
    assert all(call["id"] for call in calls.values())
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason


async def test_event_stream_of_calls(client: Any) -> None:
    request = called(tool_choice="required")
    async with entered(client.chat.completions.stream(**request)) as stream:
        final = await settled(stream.get_final_completion())
    check_calls(final.choices[0].message.tool_calls)


class GetGrade(BaseModel):
    """Looks up the grade."""

    grade: Grade
    lit: bool


async def test_parse_of_a_pydantic_tool(client: Any) -> None:
    request = ask(
        messages=ASKED,
        tools=[openai.pydantic_function_tool(GetGrade)],
        tool_choice="required",
        parallel_tool_calls=False,  # as OpenAI advises with strict tools
        max_tokens=300,
    )
    answer = await settled(client.chat.completions.parse(**request))
    parsed = answer.choices[0].message.tool_calls[0].function.parsed_arguments
    assert isinstance(parsed, GetGrade)


@pytest.mark.parametrize(
    "item",
    [
        tool("get_weather", strict=False, city=CITY),
        {"type": "function", "function": {"name": "get_weather"}},
        {"type": "function", "function": {"name": "get_weather", "parameters": {
            "type": "object", "properties": {}}}},
    ],
    ids=["not-strict", "no-parameters", "no-properties"],
)  # fmt: skip
async def test_tools_of_every_make(client: Any, item: dict[str, Any]) -> None:
    request = ask(messages=ASKED, tools=[item], tool_choice="required", max_tokens=300)
    answer = await settled(client.chat.completions.create(**request))
    if answer.choices[0].finish_reason == "length":
        return
    for call in answer.choices[0].message.tool_calls:
        assert isinstance(json.loads(call.function.arguments), dict)


async def test_cut_calls_end_length(client: Any) -> None:
    answer = await settled(
        client.chat.completions.create(**called(tool_choice=NAMED) | {"max_tokens": 3})
    )
    assert answer.choices[0].finish_reason == "length"


LEGACY = [{"name": "get_weather", "description": "Weather.", "parameters": SCHEMAS["get_weather"]}]


async def test_legacy_function(client: Any) -> None:
    request = ask(
        messages=ASKED, functions=LEGACY, function_call={"name": "get_weather"}, max_tokens=300
    )
    message = (await settled(client.chat.completions.create(**request))).choices[0].message
    assert message.function_call.name == "get_weather"
    assert message.tool_calls is None
    jsonschema.validate(json.loads(message.function_call.arguments), SCHEMAS["get_weather"])
    turns = [
        *ASKED,
        {"role": "assistant", "content": None,
         "function_call": message.function_call.model_dump()},
        {"role": "function", "name": "get_weather", "content": "맑음"},
    ]  # fmt: skip
    final = await settled(client.chat.completions.create(**ask(messages=turns)))
    assert isinstance(final.choices[0].message.content, str)


async def test_legacy_function_streamed(client: Any) -> None:
    request = ask(
        messages=ASKED, functions=LEGACY, function_call={"name": "get_weather"}, max_tokens=300
    )
    chunks = await all_of(await settled(client.chat.completions.create(**request, stream=True)))
    deltas = [chunk.choices[0].delta.function_call for chunk in chunks]
    arguments = "".join(delta.arguments or "" for delta in deltas if delta)
    jsonschema.validate(json.loads(arguments), SCHEMAS["get_weather"])
    assert [delta.name for delta in deltas if delta and delta.name] == ["get_weather"]


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_legacy_choices(client: Any, choice: str) -> None:
    request = ask(messages=ASKED, functions=LEGACY, function_call=choice, max_tokens=300)
    answer = (await settled(client.chat.completions.create(**request))).choices[0]
    if choice == "none":
        assert answer.message.function_call is None
    elif answer.message.function_call is not None:
        assert answer.finish_reason in ("function_call", "length")
