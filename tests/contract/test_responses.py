"""OpenAI's Responses API where the local side answers it: whole, parsed, streamed, in turns.

Order and shape of every event, and that they add up, are checked below the SDK (`wiretap`).
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest
from openai.types.responses import Response

from tests.contract.both import all_of, each, entered, settled
from tests.contract.requests import CITY, TIME, VERDICT, WEATHER, Plan, closed
from tests.contract.targets import CHAT
from tests.contract.wiretap import Wiretap

pytestmark = pytest.mark.targets("local/process", "local/http", "vllm/http")

SCHEMAS = {item["function"]["name"]: item["function"]["parameters"] for item in (WEATHER, TIME)}
TOOLS = [{"type": "function", **item["function"]} for item in (WEATHER, TIME)]
JSON_TEXT = {
    "format": {"type": "json_schema", "name": "verdict", "strict": True, "schema": VERDICT}
}


def asked(**more: Any) -> dict[str, Any]:
    """A request of few tokens; `more` overrides."""
    question = "거실의 채광을 한 문장으로 설명해 주세요. 😀"
    return {"model": CHAT, "input": question, "max_output_tokens": 24, "temperature": 0, **more}


async def create(client: Any, **more: Any) -> Any:
    return await settled(client.responses.create(**asked(**more)))


async def events_of(client: Any, **more: Any) -> list[Any]:
    return await all_of(await create(client, stream=True, **more))


async def test_a_text(client: Any) -> None:
    answer = await create(client, instructions="You are an architect.", metadata={"plan": "7"})
    Response.model_validate(answer.model_dump(by_alias=True), strict=True)
    assert answer.output_text
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.output_tokens <= 24
    assert (answer.status == "completed") == (answer.incomplete_details is None)
    assert (answer.instructions, answer.metadata) == ("You are an architect.", {"plan": "7"})


async def test_says_what_a_chat_says(client: Any) -> None:
    answer = await create(client, instructions="Be brief.")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": asked()["input"]},
    ]
    chat = await settled(
        client.chat.completions.create(model=CHAT, messages=messages, max_tokens=24, temperature=0)
    )
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage.input_tokens == chat.usage.prompt_tokens


async def test_text_and_items_mean_the_same(client: Any) -> None:
    said = asked()["input"]
    parts = [{"type": "input_text", "text": said}]
    spellings: list[Any] = [
        [{"role": "user", "content": said}],
        [{"role": "user", "content": parts}],
        [{"type": "message", "role": "user", "content": parts, "status": "completed"}],
    ]
    expected = await create(client)
    for spelling in spellings:
        answer = await create(client, input=spelling)
        assert answer.output_text == expected.output_text
        assert answer.usage.input_tokens == expected.usage.input_tokens


async def test_a_cut_answer_says_so(client: Any) -> None:
    answer = await create(client, text=JSON_TEXT, max_output_tokens=16)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"


async def test_json_under_a_schema(client: Any) -> None:
    answer = await create(client, text=JSON_TEXT, max_output_tokens=300)
    assert answer.status == "completed"
    jsonschema.validate(json.loads(answer.output_text), VERDICT)
    assert answer.text.format.type == "json_schema"


async def test_json_object(client: Any) -> None:
    answer = await create(
        client, input="Some json, please.", text={"format": {"type": "json_object"}}
    )
    assert answer.output_text.startswith("{")


async def test_parse(client: Any) -> None:
    request = asked(max_output_tokens=300)
    answer = await settled(client.responses.parse(**request, text_format=Plan))
    assert isinstance(answer.output_parsed, Plan)


async def test_logprobs(client: Any) -> None:
    answer = await create(client, include=["message.output_text.logprobs"], top_logprobs=2)
    (part,) = answer.output[0].content
    said = b"".join(bytes(token.bytes) for token in part.logprobs).decode(errors="replace")
    assert said.startswith(part.text.rstrip("\ufffd"))
    assert all(len(token.top_logprobs) <= 2 for token in part.logprobs)
    streamed = await events_of(client, include=["message.output_text.logprobs"], top_logprobs=2)
    assert streamed[-1].response.output[0].content[0].logprobs == part.logprobs


async def test_a_stream_says_what_the_whole_says(client: Any) -> None:
    whole = await create(client)
    events = await events_of(client)
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert said == whole.output_text == events[-1].response.output_text
    assert events[-1].response.usage.input_tokens == whole.usage.input_tokens
    assert events[-1].response.status == whole.status


async def test_the_sdks_event_stream(client: Any) -> None:
    request = asked(max_output_tokens=300)
    async with entered(client.responses.stream(**request, text_format=Plan)) as stream:
        events = [event async for event in each(stream)]
        final = await settled(stream.get_final_response())
    assert isinstance(final.output_parsed, Plan)
    snapshots = [e.snapshot for e in events if e.type == "response.output_text.delta"]
    assert snapshots[-1] == final.output_text


def check_calls(output: list[Any]) -> None:
    assert output
    for item in output:
        assert item.type == "function_call"
        jsonschema.validate(json.loads(item.arguments), SCHEMAS[item.name])


async def test_required_is_a_call(client: Any) -> None:
    request: Any = {"tools": TOOLS, "tool_choice": "required", "max_output_tokens": 300}
    answer = await create(client, **request)
    check_calls(answer.output)
    assert answer.output_text == ""
    streamed = await events_of(client, **request)
    check_calls(streamed[-1].response.output)
    again = streamed[-1].response.usage  # the prompt is in the cache by now, and no more of it
    assert again.input_tokens_details.cached_tokens <= again.input_tokens


async def test_named_is_that_call(client: Any) -> None:
    chosen = {"type": "function", "name": "get_time"}
    answer = await create(client, tools=TOOLS, tool_choice=chosen, max_output_tokens=300)
    check_calls(answer.output)
    assert [item.name for item in answer.output] == ["get_time"]
    assert answer.tool_choice.name == "get_time"


async def test_allowed_tools(client: Any) -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "get_weather"}],
    }
    answer = await create(client, tools=TOOLS, tool_choice=allowed, max_output_tokens=300)
    assert {item.name for item in answer.output} == {"get_weather"}


async def test_none_is_text(client: Any) -> None:
    answer = await create(client, tools=TOOLS, tool_choice="none")
    assert [item.type for item in answer.output] == ["message"]


async def test_the_tool_loop(client: Any) -> None:
    """As apps write it: the output goes back in as it came, with the results behind it."""
    items: list[Any] = [{"role": "user", "content": "What is the weather in 서울?"}]
    request: Any = {"tools": TOOLS, "max_output_tokens": 300, "store": False}
    first = await create(client, input=items, tool_choice="required", **request)
    items += first.output
    for item in first.output:
        result = {"type": "function_call_output", "call_id": item.call_id, "output": "맑음"}
        items.append(result)
    last = await create(client, input=items, tool_choice="none", **request)
    assert last.output_text


async def test_the_tool_loop_by_reference(client: Any) -> None:
    request: Any = {"tools": TOOLS, "max_output_tokens": 300}
    first = await create(client, tool_choice="required", **request)
    results: list[Any] = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "맑음"}
        for item in first.output
    ]
    by_id = await create(
        client, input=results, previous_response_id=first.id, tool_choice="none", **request
    )
    referred: list[Any] = [{"role": "user", "content": asked()["input"]}]
    referred += [{"type": "item_reference", "id": item.id} for item in first.output]
    by_reference = await create(client, input=referred + results, tool_choice="none", **request)
    assert by_id.output_text == by_reference.output_text
    assert by_id.usage.input_tokens == by_reference.usage.input_tokens


async def test_a_conversation_goes_on(client: Any) -> None:
    first = await create(client, instructions="Never inherited.")
    second = await create(client, input="And the kitchen?", previous_response_id=first.id)
    spelt: list[Any] = [
        {"role": "user", "content": asked()["input"]},
        *first.output,
        {"role": "user", "content": "And the kitchen?"},
    ]
    same = await create(client, input=spelt)
    assert second.previous_response_id == first.id
    assert second.output_text == same.output_text
    assert second.usage.input_tokens == same.usage.input_tokens
    assert second.instructions is None


async def test_a_streamed_response_is_kept_too(client: Any) -> None:
    last = (await events_of(client))[-1].response
    assert await settled(client.responses.retrieve(last.id)) == last


async def test_kept_until_deleted(client: Any) -> None:
    made = await create(client)
    assert await settled(client.responses.retrieve(made.id)) == made
    await settled(client.responses.delete(made.id))
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{made.id}' not found"):
        await settled(client.responses.retrieve(made.id))
    with pytest.raises(openai.BadRequestError) as refused:
        await create(client, previous_response_id=made.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"


async def test_not_kept_when_not_wanted(client: Any) -> None:
    made = await create(client, store=False)
    assert made.store is False
    with pytest.raises(openai.NotFoundError):
        await settled(client.responses.retrieve(made.id))


async def test_what_is_synchronous_cannot_be_cancelled(client: Any) -> None:
    made = await create(client)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        await settled(client.responses.cancel(made.id))


async def test_input_items(client: Any) -> None:
    first = await create(client)
    made = await create(client, input="And the kitchen?", previous_response_id=first.id)
    page = await settled(client.responses.input_items.list(made.id, limit=2))
    assert [item.role for item in page.data] == ["user", "assistant"]
    assert page.data[0].content[0].text == "And the kitchen?"
    assert page.data[1] == first.output[0]
    assert page.has_more
    every = [item async for item in each(client.responses.input_items.list(made.id, limit=1))]
    forward = await settled(client.responses.input_items.list(made.id, order="asc"))
    assert [item.id for item in every] == [item.id for item in reversed(forward.data)]
    assert len(every) == 3


async def test_input_tokens_are_those_of_the_answer(client: Any) -> None:
    request: Any = {"tools": TOOLS, "instructions": "Be brief."}
    answer = await create(client, **request)
    counted = await settled(
        client.responses.input_tokens.count(model=CHAT, input=asked()["input"], **request)
    )
    assert counted.input_tokens == answer.usage.input_tokens


async def test_left_early(client: Any, wiretap: Wiretap) -> None:
    stream = await create(client, stream=True, text=JSON_TEXT, max_output_tokens=400)
    async for event in each(stream):
        assert event.type == "response.created"
        break
    await settled(stream.close())
    assert not wiretap.last.complete
    assert (await create(client)).output_text


async def test_raw(client: Any) -> None:
    raw = await settled(client.responses.with_raw_response.create(**asked(user="someone")))
    assert raw.headers["x-ignored-params"] == "user"
    assert raw.headers["x-request-id"]
    assert raw.parse().user == "someone"
    streamed = await settled(client.responses.with_raw_response.create(**asked(), stream=True))
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert await all_of(streamed.parse())


UNCALLED = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
UNANSWERED = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
IMAGE = {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"}
NOT_STRICT = {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}

REFUSED: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    # name: (what is changed, param, code)
    "no-input": ({"input": ""}, None, "missing_required_parameter"),
    "input-object": ({"input": {}}, "input", "invalid_type"),
    "role": ({"input": [{"role": "bob", "content": "x"}]}, "input[0].role", "invalid_value"),
    "item-type": ({"input": [{"type": "smell"}]}, "input[0].type", "invalid_value"),
    "item-tool": (
        {"input": [{"type": "mcp_call", "id": "x"}]}, "input[0]", "unsupported_parameter"
    ),
    "item-member": (
        {"input": [{"role": "user", "content": "x", "mood": 1}]},
        "input[0].mood",
        "unknown_parameter",
    ),
    "part-of-a-chat": (
        {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        "input[0].content[0].type",
        "invalid_value",
    ),
    "image": (
        {"input": [{"role": "user", "content": [IMAGE]}]},
        "input[0].content[0]",
        "unsupported_parameter",
    ),
    "uncalled": ({"input": [UNCALLED]}, "input", None),
    "unanswered": ({"input": [UNANSWERED, {"role": "user", "content": "x"}]}, "input", None),
    "previous": (
        {"previous_response_id": "resp_none"},
        "previous_response_id",
        "previous_response_not_found",
    ),
    "messages": ({"messages": []}, "messages", "unsupported_parameter"),
    "unknown": ({"seed": 1}, "seed", "unknown_parameter"),
    "temperature": ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    "max_output_tokens": ({"max_output_tokens": 15}, "max_output_tokens",
                          "integer_below_min_value"),
    "max_output_tokens-huge": ({"max_output_tokens": 10**7}, "max_output_tokens", None),
    "include": ({"include": ["bogus.thing"]}, "include[0]", "invalid_value"),
    "background": ({"background": True}, "background", "unsupported_parameter"),
    "conversation": ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    "prompt": ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
    "effort": ({"reasoning": {"effort": "low"}}, "reasoning.effort", "unsupported_value"),
    "verbosity": ({"text": {"verbosity": "max"}}, "text.verbosity", "invalid_value"),
    "built-in": ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_parameter"),
    "custom": (
        {"tools": [{"type": "custom", "name": "x"}]}, "tools[0]", "unsupported_parameter"
    ),
    "chat-tool": ({"tools": [WEATHER]}, "tools[0].name", "missing_required_parameter"),
    "choice-alone": ({"tool_choice": "required"}, "tool_choice", None),
    "choice-unknown": (
        {"tools": TOOLS, "tool_choice": {"type": "function", "name": "f"}},
        "tool_choice",
        "invalid_value",
    ),
    "schema-of-a-format": (
        {"text": {"format": {"type": "json_schema", "name": "x", "strict": True,
                             "schema": NOT_STRICT}}},
        "text.format.schema",
        None,
    ),
    "schema-of-a-tool": (
        {"tools": [{"type": "function", "name": "f", "strict": True, "parameters": NOT_STRICT}]},
        "tools[0].parameters",
        None,
    ),
    "no-json-named": (
        {"text": {"format": {"type": "json_object"}}}, "text.format", None
    ),
    "stream_options": ({"stream_options": {"include_obfuscation": True}}, "stream_options", None),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(client: Any, name: str) -> None:
    change, param, code = REFUSED[name]
    request = asked(**change)
    with pytest.raises(openai.BadRequestError) as refused:
        await settled(client.post("/responses", cast_to=object, body=request))
    assert refused.value.type == "invalid_request_error"
    assert refused.value.param == param
    if code is not None:
        assert refused.value.code == code


async def test_an_unknown_model(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await create(client, model="no-such-model")
    assert refused.value.code == "model_not_found"


async def test_an_unknown_item(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="Items are not persisted when `store`"):
        await create(client, input=[{"type": "item_reference", "id": "msg_none"}])


async def test_a_stream_that_is_refused_has_a_status(client: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        await create(client, stream=True, input=[UNCALLED])


async def test_a_schema_with_a_description_and_a_tool(client: Any) -> None:
    """`text.format` and tools together: text under the schema, or calls."""
    form = {"type": "json_schema", "name": "city", "schema": closed(city=CITY), "strict": True}
    answer = await create(
        client, tools=TOOLS, text={"format": form}, tool_choice="none", max_output_tokens=100
    )
    jsonschema.validate(json.loads(answer.output_text), closed(city=CITY))
