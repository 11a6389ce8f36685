"""Answers that come back as messages, with what SDKs and servers have put into them."""

from __future__ import annotations

from typing import Any

import pytest

from provider.errors import InvalidRequest
from provider.protocol.chat import ChatRequest, parse
from provider.protocol.conversation import conversation

USER: dict[str, Any] = {"role": "user", "content": "서울 날씨?"}
CALL: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"서울"}'},
}
ANSWERED: dict[str, Any] = {"role": "tool", "tool_call_id": "call_1", "content": "맑음"}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def request(assistant: dict[str, Any], answered: dict[str, Any] = ANSWERED) -> ChatRequest:
    return parse({"model": "m", "messages": [USER, assistant, answered], "tools": TOOLS})


def called(**more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{**CALL, **more}]}


PLAIN = request(called())

ECHOES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (called(), {**ANSWERED, "name": "weather"}, "messages[].name"),
    (called(), {**ANSWERED, "name": "another"}, "messages[].name"),
    (called(index=0), ANSWERED, "messages[].tool_calls[].index"),
    (
        called(function={**CALL["function"], "parsed_arguments": {"city": "서울"}}),
        ANSWERED,
        "messages[].tool_calls[].function.parsed_arguments",
    ),
    ({**called(), "parsed": {"a": [1]}}, ANSWERED, "messages[].parsed"),
    (
        {**called(), "provider_specific_fields": {"refusal": None}},
        ANSWERED,
        "messages[].provider_specific_fields",
    ),
    ({**called(), "reasoning_content": "음"}, ANSWERED, "messages[].reasoning_content"),
    ({**called(), "reasoning": "음"}, ANSWERED, "messages[].reasoning"),
    (
        {**called(), "reasoning_details": [{"type": "reasoning.text"}]},
        ANSWERED,
        "messages[].reasoning_details",
    ),
    (
        called(),
        {**ANSWERED, "cache_control": {"type": "ephemeral"}},
        "messages[].cache_control",
    ),
]


@pytest.mark.parametrize(("assistant", "answered", "path"), ECHOES)
def test_what_answers_carry_passes_and_is_named(
    assistant: dict[str, Any], answered: dict[str, Any], path: str
) -> None:
    read = request(assistant, answered)
    assert read.ignored == (path,)
    assert conversation(read) == conversation(PLAIN)


def test_a_cache_mark_on_a_part_passes() -> None:
    part = {"type": "text", "text": "안녕", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    for role in ("system", "user"):
        read = parse({"model": "m", "messages": [{"role": role, "content": [part]}, USER]})
        assert read.ignored == ("messages[].content[].cache_control",)
        assert read.messages[0].content == "안녕"


def test_null_says_nothing() -> None:
    read = request(
        {**called(), "parsed": None, "reasoning": None, "provider_specific_fields": None}
    )
    assert read.ignored == ()


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{**USER, "reasoning": "x"}], "messages[0].reasoning"),
        ([USER, {"role": "assistant", "content": "a", "weight": 1}], "messages[1].weight"),
        ([{**USER, "cache_control": {"type": "forever"}}], "messages[0].cache_control.type"),
        ([USER, called(index="0"), ANSWERED], "messages[1].tool_calls[0].index"),
    ],
)
def test_whatever_else_is_unknown_is_refused(messages: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse({"model": "m", "messages": messages})
    assert caught.value.param == param
