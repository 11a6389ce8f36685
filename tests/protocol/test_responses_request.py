"""Responses requests as chat requests: what becomes of each field and item, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.errors import InvalidRequest
from provider.protocol.chat import parse as parse_chat
from provider.protocol.responses.chat import as_said, chat_body, param_as_said
from provider.protocol.responses.objects import listed
from provider.protocol.responses.request import ResponsesRequest, parse
from provider.protocol.responses.turns import droppable, expendable, turns, without_oldest

USER: Any = {"role": "user", "content": "hi"}


def request(**more: Any) -> ResponsesRequest:
    return parse({"model": "m", "input": "hi", **more})


def chat(**more: Any) -> dict[str, Any]:
    asked = request(**more)
    body = chat_body(asked, turns(asked.input))
    parse_chat(body)  # what is made is a chat request that can be honoured
    return body


def said(*items: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = chat(input=list(items))["messages"]
    return messages


def call(call_id: str, name: str = "f") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"}


def output(call_id: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def called(*ids: str) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": "{}"}
    return [{"id": one, "type": "function", "function": function} for one in ids]


def result(call_id: str, text: str = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
FUNCTION = {"type": "function", "name": "f", "parameters": SCHEMA}
IN_CHAT = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 0.1}, {"temperature": 0.5, "top_p": 0.1}),
        ({"presence_penalty": 1, "frequency_penalty": -1},
         {"presence_penalty": 1, "frequency_penalty": -1}),
        ({"temperature": None, "tools": None, "text": None, "include": None}, {}),
        ({"max_output_tokens": 16}, {"max_completion_tokens": 16}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True, "top_logprobs": 0}),
        ({"include": ["file_search_call.results"]}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False}, {}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}, "input": "json"},
         {"response_format": {"type": "json_object"}}),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA,
                              "strict": True, "description": None}, "verbosity": "medium"}},
         {"response_format": {"type": "json_schema",
                              "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}}),
        ({"tools": [FUNCTION]}, {"tools": [IN_CHAT]}),
        ({"tools": [{**FUNCTION, "parameters": None, "strict": None, "description": None}]},
         {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ({"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": False},
         {"tools": [IN_CHAT], "tool_choice": "required", "parallel_tool_calls": False}),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
         {"tools": [IN_CHAT], "tool_choice": NAMED}),
        ({"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "mode": "auto",
                                               "tools": [{"type": "function", "name": "f"}]}},
         {"tools": [IN_CHAT], "tool_choice": {
             "type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "flex",
          "truncation": "auto", "max_tool_calls": 3, "reasoning": {"effort": "none"}}, {}),
    ],
)  # fmt: skip
def test_fields(more: dict[str, Any], fields: dict[str, Any]) -> None:
    body = chat(**more)
    assert {name: body[name] for name in body if name not in ("model", "messages")} == fields


def test_instructions_come_first() -> None:
    assert chat(instructions="Be brief.")["messages"] == [
        {"role": "system", "content": "Be brief."},
        USER,
    ]


@pytest.mark.parametrize(
    ("verbosity", "more"), [("low", "Keep the answer short."), ("high", "Answer in detail.")]
)
def test_verbosity_is_asked_for(verbosity: str, more: str) -> None:
    text = {"verbosity": verbosity}
    assert chat(text=text)["messages"][0] == {"role": "system", "content": more}
    asked = chat(text=text, instructions="Be kind.")["messages"]
    assert asked[0] == {"role": "system", "content": f"Be kind.\n\n{more}"}


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([USER], [USER]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "a"},
                                          {"type": "input_text", "text": "b"}]}],
            [{"role": "user", "content": "ab"}],
        ),
        (
            [{"role": "developer", "content": "d"}, {"type": "message", "role": "assistant",
              "content": [{"type": "output_text", "text": "t", "annotations": []},
                          {"type": "refusal", "refusal": "r"}]}],
            [{"role": "developer", "content": "d"}, {"role": "assistant", "content": "tr"}],
        ),
        (
            [USER, call("a"), call("b"), output("b", "2"), output("a", "1")],
            [USER, {"role": "assistant", "content": None, "tool_calls": called("a", "b")},
             result("a", "1"), result("b", "2")],
        ),
        (
            [{"role": "assistant", "content": "so"}, {"type": "reasoning", "summary": []},
             call("a"), output("a", [{"type": "input_text", "text": "x"}])],
            [{"role": "assistant", "content": "so", "tool_calls": called("a")}, result("a", "x")],
        ),
        (  # one after the other: two turns
            [call("a"), output("a"), call("b"), output("b")],
            [{"role": "assistant", "content": None, "tool_calls": called("a")}, result("a"),
             {"role": "assistant", "content": None, "tool_calls": called("b")}, result("b")],
        ),
        (  # a result may come late: it goes to its call
            [call("a"), USER, output("a")],
            [{"role": "assistant", "content": None, "tool_calls": called("a")}, result("a"),
             USER],
        ),
        (  # a client that counts its calls anew in each turn
            [call("1"), output("1", "x"), USER, call("1"), output("1", "y")],
            [{"role": "assistant", "content": None, "tool_calls": called("1")}, result("1", "x"),
             USER,
             {"role": "assistant", "content": None, "tool_calls": called("1")}, result("1", "y")],
        ),
    ],
)  # fmt: skip
def test_items(items: list[Any], messages: list[Any]) -> None:
    assert said(*items) == messages


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([call("a")], "No tool output found for function call a."),
        ([output("a")], "No tool call found for function call output with call_id a."),
        ([output("a"), call("a")], "No tool call found for function call output with call_id a."),
        ([call("a"), call("a"), output("a")], "Duplicate function call with call_id a."),
        ([call("a"), output("a"), output("a")], "No tool call found"),
    ],
)
def test_calls_and_outputs_belong_together(items: list[Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        said(*items)
    assert refused.value.param == "input"


def test_json_must_be_named_in_the_input() -> None:
    form = {"format": {"type": "json_object"}}
    with pytest.raises(InvalidRequest, match=r"Response input messages must contain the word"):
        chat(text=form, instructions="Answer in JSON.")
    chat(text=form, input=[{"role": "developer", "content": "JSON!"}])


def test_harmless_fields_are_named() -> None:
    asked = request(
        input=[{"type": "reasoning", "id": "rs_1", "summary": []}, USER],
        user="u",
        include=["reasoning.encrypted_content"],
        service_tier="auto",
        reasoning={"summary": "auto"},
    )
    assert set(asked.ignored) == {
        "user",
        "include[]{reasoning.encrypted_content}",
        "input[]{type: reasoning}",
        "reasoning.summary",
    }


def test_what_is_refused_is_called_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match=r"'tools\[1\]' of type 'mcp' is not supported"):
        request(tools=[FUNCTION, {"type": "mcp", "server_label": "x"}])
    with pytest.raises(InvalidRequest, match=r"moved to 'text\.format'"):
        request(response_format={"type": "text"})


@pytest.mark.parametrize(
    ("param", "place"),
    [
        (None, None),
        ("model", "model"),
        ("messages", "input"),
        ("messages[3].content[0]", "input"),
        ("messages.[3].role", "input"),
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("tools[12].function.parameters", "tools[12].parameters"),
        ("temperature", "temperature"),
    ],
)
def test_parameters_are_those_of_this_api(param: str | None, place: str | None) -> None:
    assert param_as_said(param) == place


def test_sentences_are_about_this_api() -> None:
    said = "tools[0].function.parameters#/a: no; response_format.json_schema.schema#/b: no"
    assert as_said(said) == "tools[0].parameters#/a: no; text.format.schema#/b: no"
    assert as_said("Please reduce the length of the messages.").endswith("of the messages.")


TEXTS = st.text(max_size=8)
IDS = st.sampled_from(["a", "b", "c"])
ITEMS = st.one_of(
    st.builds(lambda role, text: {"type": "message", "role": role, "content": text},
              st.sampled_from(["user", "assistant", "developer"]), TEXTS),
    st.builds(call, IDS),
    st.builds(output, IDS, TEXTS),
    st.just({"type": "reasoning", "summary": []}),
)  # fmt: skip


@given(st.lists(ITEMS, min_size=1, max_size=12))
def test_whatever_is_read_is_a_chat_that_can_be_honoured(items: list[Any]) -> None:
    """Or it is refused; and nothing that was said is lost or said twice."""
    try:
        messages = [m for turn in turns(parse({"model": "m", "input": items}).input)
                    for m in turn.messages()]  # fmt: skip
    except InvalidRequest:
        ids = [item.get("call_id") for item in items if item.get("call_id")]
        assert ids
        return
    if messages:
        parse_chat({"model": "m", "messages": messages})
    spoken = [m["content"] for m in messages if m["role"] != "tool" and m["content"] is not None]
    assert spoken == [item["content"] for item in items if item["type"] == "message"]
    results = sorted(m["content"] for m in messages if m["role"] == "tool")
    assert results == sorted(i["output"] for i in items if i["type"] == "function_call_output")


@given(st.lists(ITEMS, min_size=1, max_size=12), st.integers(0, 12))
def test_what_is_left_out_leaves_whole_turns(items: list[Any], count: int) -> None:
    try:
        all_of_them = turns(parse({"model": "m", "input": items}).input)
    except InvalidRequest:
        return
    if not all_of_them:
        return
    left = without_oldest(all_of_them, count)
    assert left[-1] is all_of_them[-1]
    assert len(left) == len(all_of_them) - min(count, droppable(all_of_them))
    assert [turn for turn in all_of_them if turn.pinned] == [t for t in left if t.pinned]
    parse_chat({"model": "m", "messages": [m for turn in left for m in turn.messages()]})


def test_a_refusals_figures_say_how_much_to_leave_out() -> None:
    long = turns([{"type": "message", "role": "user", "content": "x" * 100}] * 11)
    refusal = (
        "This model's maximum context length is 500 tokens. However, you requested 1100 tokens "
        "(1000 in the messages, 100 in the completion)."
    )
    # 600 of 1,000 tokens are too many: more than 4 of 11 turns, at most 7.
    assert 4 <= expendable(long, refusal) <= 7
    assert expendable(long, "too long") == 1
    assert expendable(long[:2], refusal) == 1


@given(ITEMS)
def test_listed_items_can_be_sent_again(item: Any) -> None:
    once = listed(item)
    assert once["id"]
    json.dumps(once)
    assert listed(once) == once
    again = parse({"model": "m", "input": [once, USER], "previous_response_id": "resp_1"})
    assert again.input[0] == once
