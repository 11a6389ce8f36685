"""Function calls: how they are described, constrained, read back and streamed."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from provider.errors import InvalidRequest
from provider.protocol.chat import ChatRequest, parse
from provider.protocol.constraints import constraint, reader
from provider.protocol.conversation import conversation
from provider.protocol.deltas import CallArguments, CallStart, Delta, Plain, Text
from provider.protocol.schema import SchemaRefused
from provider.protocol.tools import CallReader, new_call_id, written

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "날씨",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
NOW: dict[str, Any] = {"name": "now"}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": NOW}]
SEOUL = written("get_weather", '{"city": "서울", "days": 2}')
NONE = written("now", "{}")


def request(**more: Any) -> ChatRequest:
    return parse({"model": "m", "messages": [{"role": "user", "content": "?"}], **more})


class Bytes:
    """A tokenizer of single bytes, for walking a grammar."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<eos>")
    special_token_ids = (256,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


TOKENIZER = LLTokenizer(TokenizerWrapper(Bytes()))


def accepts(asked: ChatRequest, text: str) -> bool:
    """Whether the constraint lets the model write exactly `text`."""
    bound = constraint(asked)
    if bound is None:
        return True
    matcher = bound.matcher(TOKENIZER)
    assert not matcher.is_error(), matcher.get_error()
    return bool(matcher.consume_tokens(list(text.encode())) and matcher.is_accepting())


CHOICES: list[tuple[dict[str, Any], dict[str, bool]]] = [
    ({}, {"": True, "hi": True, SEOUL: True, SEOUL + NONE: True, "hi " + NONE: True}),
    ({"tool_choice": "auto"}, {"<tool": True, "<tool_call>{": False, SEOUL + "hi": False}),
    ({"tool_choice": "none"}, {"hi": True, SEOUL: True}),
    ({"tool_choice": "required"}, {"": False, "hi": False, SEOUL: True, NONE + SEOUL: True}),
    (
        {"tool_choice": {"type": "function", "function": {"name": "now"}}},
        {SEOUL: False, NONE: True, NONE + NONE: False},
    ),
    ({"parallel_tool_calls": False}, {"hi": True, SEOUL: True, SEOUL + NONE: False}),
    (
        {
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "now"}}],
                },
            }
        },
        {SEOUL: False, NONE: True, "hi": False},
    ),
]


@pytest.mark.parametrize(("choice", "texts"), CHOICES)
def test_what_the_model_may_write(choice: dict[str, Any], texts: dict[str, bool]) -> None:
    asked = request(tools=TOOLS, **choice)
    assert {text: accepts(asked, text) for text in texts} == texts


@pytest.mark.parametrize(
    "arguments",
    ['{"city":"서울"}', '{"city":"서울","days":0}', '{"days":1,"city":"서울"}', "{}", "1"],
)
def test_arguments_are_bound_by_the_schema(arguments: str) -> None:
    assert not accepts(request(tools=TOOLS), written("get_weather", arguments))


@pytest.mark.parametrize("draft", ["http://json-schema.org/draft-07/schema#", None])
def test_arguments_are_an_object_where_a_reference_hides_the_type(draft: str | None) -> None:
    parameters = {
        **({"$schema": draft} if draft else {}),
        "$ref": "#/definitions/Stale",
        "definitions": {"Stale": {"properties": {"days": {"type": "integer"}}}},
    }
    function = {"name": "stale", "parameters": parameters}
    asked = request(tools=[{"type": "function", "function": function}])
    assert accepts(asked, written("stale", '{"days":60}'))
    assert not accepts(asked, written("stale", '{"days":"x"}'))
    assert not accepts(asked, written("stale", '"a text"'))


def test_text_beside_tools_may_be_bound_too() -> None:
    form = {
        "type": "json_schema",
        "json_schema": {
            "name": "x",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }
    asked = request(tools=TOOLS, response_format=form)
    assert accepts(asked, '{"a":"<tool_call>"}')
    assert accepts(asked, SEOUL)
    assert not accepts(asked, "hi")
    read = reader(asked).feed('{"a":"<tool_call>"}')
    assert read == [Text('{"a":"<tool_call>"}')]


def test_a_tools_schema_that_cannot_be_enforced_names_the_tool() -> None:
    broken = {"type": "object", "properties": {"a": {"$ref": "https://example.com/s"}}}
    tools = [TOOLS[0], {"type": "function", "function": {"name": "g", "parameters": broken}}]
    with pytest.raises(SchemaRefused) as caught:
        constraint(request(tools=tools))
    assert caught.value.param == "tools[1].function.parameters"
    assert caught.value.status == 400


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(tools=[TOOLS[1], TOOLS[1]])
    assert caught.value.param == "tools[1].function.name"


def test_tools_are_described_after_the_system_message() -> None:
    asked = parse(
        {
            "model": "m",
            "messages": [{"role": "system", "content": "지침"}, {"role": "user", "content": "?"}],
            "tools": TOOLS,
            "parallel_tool_calls": False,
        }
    )
    assert conversation(asked)[0] == {
        "role": "system",
        "content": "지침\n\n# Functions\n"
        '{"name":"get_weather","description":"날씨","parameters":{"type":"object","properties":'
        '{"city":{"type":"string"},"days":{"type":"integer","minimum":1}},"required":["city",'
        '"days"],"additionalProperties":false}}\n'
        '{"name":"now","parameters":{"type":"object","properties":{},"additionalProperties":'
        "false}}\n\n"
        'A call is written <tool_call>{"name":"NAME","arguments":{...}}</tool_call>, and its '
        'result comes back as <tool_result>{"name":"NAME","content":"..."}</tool_result>.\n'
        "Answer in text, or call functions when they help. Call at most one function per turn.",
    }


def test_legacy_functions_are_tools_by_another_name() -> None:
    asked = request(functions=[WEATHER, NOW], function_call={"name": "now"})
    assert asked.tools.legacy
    assert accepts(asked, NONE)
    assert not accepts(asked, NONE + NONE)
    assert not accepts(asked, SEOUL)


def test_without_calling_there_is_nothing_to_read() -> None:
    assert isinstance(reader(request()), Plain)
    assert isinstance(reader(request(tools=TOOLS, tool_choice="none")), Plain)
    assert isinstance(reader(request(tools=TOOLS)), CallReader)


def read(pieces: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """Text and calls, and that deltas come in the order that OpenAI's do."""
    calls = CallReader(new_id=lambda: "id")
    deltas: list[Delta] = [delta for piece in pieces for delta in calls.feed(piece)]
    deltas += calls.close()
    text = "".join(delta.text for delta in deltas if isinstance(delta, Text))
    starts = [delta for delta in deltas if isinstance(delta, CallStart)]
    assert [start.index for start in starts] == list(range(len(starts)))
    arguments = [""] * len(starts)
    for delta in deltas:
        if isinstance(delta, CallArguments):
            arguments[delta.index] += delta.text
    return text, list(zip([start.name for start in starts], arguments, strict=True))


HARD = written("f", json.dumps({"a": '}"\\', "b": [{}, "<tool_call>", "</tool_call>"], "ㄱ": "끝"}))
WHOLE: list[tuple[str, tuple[str, list[tuple[str, str]]]]] = [
    ("", ("", [])),
    ("안녕 <tool", ("안녕 <tool", [])),
    ("1 < 2 <<tool_cal", ("1 < 2 <<tool_cal", [])),
    (
        "보자. " + SEOUL + NONE,
        ("보자. ", [("get_weather", '{"city":"서울","days":2}'), ("now", "{}")]),
    ),
    (
        HARD,
        ("", [("f", '{"a":"}\\"\\\\","b":[{},"<tool_call>","</tool_call>"],"ㄱ":"끝"}')]),
    ),
    (SEOUL[:20], ("", [])),
    (SEOUL[:53], ("", [("get_weather", '{"city":')])),
]


@pytest.mark.parametrize(("text", "expected"), WHOLE)
@settings(deadline=None)
@given(data=st.data())
def test_a_turn_reads_the_same_however_it_is_cut(
    text: str, expected: tuple[str, list[tuple[str, str]]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edges = [0, *cuts, len(text)]
    assert read([text[a:b] for a, b in pairwise(edges)]) == expected


def test_arguments_go_out_as_they_are_written() -> None:
    calls = CallReader(new_id=lambda: "id")
    assert calls.feed('<tool_call>{"name":"f","arguments":') == [CallStart(0, "id", "f")]
    assert calls.feed('{"a"') == [CallArguments(0, '{"a"')]
    assert calls.feed(":1") == [CallArguments(0, ":1")]
    assert calls.feed("}}</tool_call>") == [CallArguments(0, "}")]
    assert calls.close() == []


def test_ids_are_unique_and_look_like_openais() -> None:
    ids = {new_call_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == 29 and one.startswith("call_") and one[5:].isalnum() for one in ids)


def test_the_grammar_is_one_that_llguidance_takes() -> None:
    bound = constraint(request(tools=TOOLS))
    assert bound is not None
    assert LLMatcher.validate_grammar(bound.grammar) == ""


def test_tools_that_are_too_large_together_are_refused_before_an_answer_begins() -> None:
    """llguidance would only say so, by a panic, when the model is about to write."""
    fields = {f"p{n}": {"type": "string"} for n in range(400)}
    schemas = [
        {"type": "object", "properties": {f"t{t}_{name}": kind for name, kind in fields.items()}}
        for t in range(100)
    ]
    tools = [
        {"type": "function", "function": {"name": f"f{at}", "parameters": parameters}}
        for at, parameters in enumerate(schemas)
    ]
    with pytest.raises(SchemaRefused) as caught:
        constraint(request(tools=tools))
    assert caught.value.param == "tools"
    assert "fewer tools" in caught.value.message
