"""Chat requests: what is parsed, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider.errors import InvalidRequest
from provider.protocol.chat import ChatRequest, Format, parse
from provider.protocol.conversation import conversation
from provider.protocol.messages import Call, Message
from provider.protocol.parameters import CHAT

USER: dict[str, Any] = {"role": "user", "content": "안녕"}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f"}}


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **more}


def refusal(request: Any) -> tuple[str, str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        parse(request)
    assert caught.value.status == 400
    return caught.value.message, caught.value.param, caught.value.code


def test_the_least_that_can_be_asked() -> None:
    assert parse(body()) == ChatRequest(
        model="m", messages=(Message("user", "안녕"),), max_tokens_param="max_completion_tokens"
    )


def test_everything_that_is_honoured_arrives() -> None:
    request = parse(
        body(
            n=2,
            max_completion_tokens=7,
            temperature=0,
            top_p=0.5,
            seed=-3,
            stop=["a", "나"],
            frequency_penalty=-2,
            presence_penalty=2,
            logit_bias={"12": -100, "7": 0.5},
            logprobs=True,
            top_logprobs=3,
            stream=True,
            stream_options={"include_usage": True},
            prediction={"type": "content", "content": [{"type": "text", "text": "ab"}]},
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
            },
        )
    )
    assert request == ChatRequest(
        model="m",
        messages=(Message("user", "안녕"),),
        n=2,
        max_tokens=7,
        max_tokens_param="max_completion_tokens",
        temperature=0,
        top_p=0.5,
        seed=-3,
        stop=("a", "나"),
        frequency_penalty=-2,
        presence_penalty=2,
        logit_bias=((12, -100.0), (7, 0.5)),
        logprobs=3,
        format=Format("json_schema", {"type": "object"}, True),
        prediction="ab",
        stream=True,
        include_usage=True,
    )


def test_harmless_fields_are_named_once_each() -> None:
    part = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
    request = parse(
        body(
            messages=[{"role": "user", "content": [part, part]}],
            user="u",
            store=True,
            service_tier="flex",
            metadata={"a": "b"},
        )
    )
    assert set(request.ignored) == {
        "messages[].content[].prompt_cache_breakpoint",
        "user",
        "store",
        "service_tier",
        "metadata",
    }


@pytest.mark.parametrize(
    "silent",
    [
        {"store": False},
        {"service_tier": "auto"},
        {"modalities": ["text"]},
        {"verbosity": "medium"},
        {"reasoning_effort": "none"},
        {"audio": None},
        {"metadata": None},
    ],
)
def test_what_asks_for_nothing_passes_in_silence(silent: dict[str, Any]) -> None:
    assert parse(body(**silent)).ignored == ()


REFUSED: list[tuple[dict[str, Any], str, str | None, str | None]] = [
    ({}, "Missing required parameter: 'model'.", "model", "missing_required_parameter"),
    (
        {"model": "m"},
        "Missing required parameter: 'messages'.",
        "messages",
        "missing_required_parameter",
    ),
    (
        body(messages=[]),
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an "
        "empty array instead.",
        "messages",
        "empty_array",
    ),
    (
        body(messages="hi"),
        "Invalid type for 'messages': expected an array of objects, but got a string instead.",
        "messages",
        "invalid_type",
    ),
    (
        body(messages=None),
        "Invalid type for 'messages': expected an array of objects, but got null instead.",
        "messages",
        "invalid_type",
    ),
    (
        body(messages=["hi"]),
        "Invalid type for 'messages[0]': expected an object, but got a string instead.",
        "messages[0]",
        "invalid_type",
    ),
    (
        body(messages=[{"content": "x"}]),
        "Missing required parameter: 'messages[0].role'.",
        "messages[0].role",
        "missing_required_parameter",
    ),
    (
        body(messages=[{"role": "bogus", "content": "x"}]),
        "Invalid value: 'bogus'. Supported values are: 'system', 'assistant', 'user', 'function', "
        "'tool', and 'developer'.",
        "messages[0].role",
        "invalid_value",
    ),
    (
        body(messages=[{"role": "user", "content": 7}]),
        "Invalid type for 'messages[0].content': expected one of a string or array of objects, "
        "but got an integer instead.",
        "messages[0].content",
        "invalid_type",
    ),
    (
        body(messages=[USER, {"role": "assistant", "content": None}]),
        "Invalid value for 'content': expected a string, got null.",
        "messages.[1].content",
        None,
    ),
    (
        body(temperature="hot"),
        "Invalid type for 'temperature': expected a decimal, but got a string instead.",
        "temperature",
        "invalid_type",
    ),
    (
        body(temperature=3),
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 "
        "instead.",
        "temperature",
        "decimal_above_max_value",
    ),
    (
        body(temperature=True),
        "Invalid type for 'temperature': expected a decimal, but got a boolean instead.",
        "temperature",
        "invalid_type",
    ),
    (
        body(n=0),
        "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.",
        "n",
        "integer_below_min_value",
    ),
    (
        body(seed=1.5),
        "Invalid type for 'seed': expected an integer, but got a decimal number instead.",
        "seed",
        "invalid_type",
    ),
    (
        body(stop=list("abcde")),
        "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an "
        "array with length 5 instead.",
        "stop",
        "array_above_max_length",
    ),
    (
        body(stop=""),
        "Invalid 'stop': empty string. Expected a string with minimum length 1, but got an empty "
        "string instead.",
        "stop",
        "empty_string",
    ),
    (body(foo=1), "Unknown parameter: 'foo'.", "foo", "unknown_parameter"),
    (
        body(top_logprobs=1),
        "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
        "top_logprobs",
        None,
    ),
    (
        body(stream_options={}),
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        "stream_options",
        None,
    ),
    (
        body(max_tokens=1, max_completion_tokens=1),
        "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        "max_tokens",
        "invalid_parameter_combination",
    ),
    (
        body(logit_bias={"hello": 1}),
        "Invalid key in 'logit_bias': hello. You should only be submitting non-negative integers.",
        "logit_bias",
        None,
    ),
    (
        body(response_format={"type": "json_object"}),
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
        "'json_object'.",
        "messages",
        None,
    ),
    (
        body(response_format={"type": "json_schema", "json_schema": {"name": "a b"}}),
        "Invalid 'response_format.json_schema.name': string does not match pattern. Expected a "
        "string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
        "response_format.json_schema.name",
        "invalid_value",
    ),
    (
        body(response_format={}),
        "Missing required parameter: 'response_format.type'.",
        "response_format.type",
        "missing_required_parameter",
    ),
    (
        body(metadata={"k": "x" * 600}),
        "Invalid 'metadata.k': string too long. Expected a string with maximum length 512, but got "
        "a string with length 600 instead.",
        "metadata.k",
        "string_above_max_length",
    ),
    (
        body(tool_choice="auto"),
        "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are "
        "specified.",
        "tool_choice",
        None,
    ),
    (
        body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}),
        "Tool choice 'g' not found in 'tools' parameter.",
        "tool_choice",
        "invalid_value",
    ),
    (
        body(tools=[{"type": "function", "function": {"parameters": {}}}]),
        "Missing required parameter: 'tools[0].function.name'.",
        "tools[0].function.name",
        "missing_required_parameter",
    ),
    (
        body(
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]
        ),
        "Invalid schema for function 'f': schema must be a JSON Schema of 'type: \"object\"', got "
        "'type: \"array\"'.",
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    (
        body(verbosity="low"),
        "Unsupported value: 'verbosity' does not support 'low' with this model. Supported values "
        "are: 'medium'. The local model has no verbosity control; ask for length in the prompt.",
        "verbosity",
        "unsupported_value",
    ),
    (
        body(audio={"format": "wav", "voice": "alloy"}),
        "Unsupported parameter: 'audio' is not supported with this model. This model reads and "
        "writes text only.",
        "audio",
        "unsupported_parameter",
    ),
    (
        body(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": "data:,"}},
                    ],
                }
            ]
        ),
        "Unsupported parameter: 'messages[0].content[1]' is not supported with this model. This "
        "model reads text only; send the content as text parts.",
        "messages[0].content[1]",
        "unsupported_parameter",
    ),
    (
        body(messages=[USER, {"role": "tool", "content": "1", "tool_call_id": "c"}]),
        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
        "with 'tool_calls'.",
        "messages.[1].role",
        None,
    ),
    (
        body(messages=[{"role": "user", "content": "\ud800"}]),
        "Invalid 'messages[0].content': the string contains a lone surrogate, not Unicode text.",
        "messages[0].content",
        "invalid_value",
    ),
]


@pytest.mark.parametrize(("request_", "message", "param", "code"), REFUSED)
def test_refusals(request_: Any, message: str, param: str | None, code: str | None) -> None:
    assert refusal(request_) == (message, param, code)


def test_an_unanswered_call_is_named() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"role": "assistant", "tool_calls": [call]}
    message, param, _ = refusal(body(messages=[USER, asked, USER]))
    assert param == "messages.[2].role"
    assert message.endswith("did not have response messages: call_1")
    assert refusal(body(messages=[USER, asked]))[1] == "messages"


def test_a_hostile_schema_is_refused_before_it_is_walked() -> None:
    deep: Any = {}
    for _ in range(10_000):
        deep = {"properties": deep}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": deep}}
    assert refusal(body(response_format=form))[1] == "response_format.json_schema.schema"


def test_roles_and_parts_become_turns_of_the_template() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{ "a": 1 }'}}
    second = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "broken"}}
    request = parse(
        body(
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "name": "kim", "content": [{"type": "text", "text": "날씨"}] * 2},
                {"role": "assistant", "content": None, "tool_calls": [call, second]},
                {"role": "tool", "tool_call_id": "c2", "content": "2"},
                {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "1"}]},
                {"role": "assistant", "refusal": "No."},
            ]
        )
    )
    assert request.messages[2].calls == (Call("c1", "f", '{ "a": 1 }'), Call("c2", "g", "broken"))
    assert conversation(request) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "kim: 날씨날씨"},
        {
            "role": "assistant",
            "content": '<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>'
            '<tool_call>{"name":"g","arguments":broken}</tool_call>',
        },
        {
            "role": "user",
            "content": '<tool_result>{"name":"f","content":"1"}</tool_result>\n'
            '<tool_result>{"name":"g","content":"2"}</tool_result>',
        },
        {"role": "assistant", "content": "No."},
    ]


def test_a_request_without_tools_reaches_the_template_unchanged() -> None:
    chat = [{"role": "system", "content": "지침"}, {"role": "user", "content": '{"rooms":[]}'}]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    assert conversation(parse(body(messages=chat, response_format=form))) == chat


# Lone surrogates included: JSON can spell them and UTF-8 cannot carry them.
WORDS = st.text(st.characters(exclude_categories=()), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
LIKELY: dict[str, Any] = body(
    messages=[
        {"role": "system", "name": "a", "content": [{"type": "text", "text": "json"}]},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ],
    tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}},
    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    logit_bias={"1": 1},
    metadata={"a": "b"},
    stop=["a"],
    stream=True,
    stream_options={"include_usage": True},
    prediction={"type": "content", "content": "x"},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value)
    nested = [places(item, (*path, key)) for key, item in children if isinstance(item, dict | list)]
    own = [(*path, key) for key in (value if isinstance(value, dict) else range(len(value)))]
    return own + [place for inner in nested for place in inner]


def test_the_likely_request_is_a_good_one() -> None:
    assert isinstance(parse(LIKELY), ChatRequest)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(places(LIKELY)), value=JSON)
def test_any_value_anywhere_is_a_request_or_a_refusal(place: tuple[Any, ...], value: Any) -> None:
    request = json.loads(json.dumps(LIKELY))
    target = request
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    answers_or_refuses(request)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(CHAT.fields)) | WORDS, JSON))
def test_any_fields_are_a_request_or_a_refusal(more: dict[str, Any]) -> None:
    answers_or_refuses(body(**more) if "messages" not in more else {"model": "m", **more})


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_is_a_request_or_a_refusal(anything: Any) -> None:
    answers_or_refuses(anything)


def answers_or_refuses(request: Any) -> None:
    try:
        parsed = parse(request)
    except InvalidRequest as refused:
        # The body of the refusal can be sent.
        json.dumps(refused.body(), ensure_ascii=False, allow_nan=False).encode()
    else:
        json.dumps(conversation(parsed), ensure_ascii=False).encode()
