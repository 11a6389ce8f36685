"""Tool calls on servers that know none: described, bound and read back by us, streamed too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provider.base import ApiResponse
from provider.errors import BadGateway, InvalidRequest
from provider.events import EventReader
from provider.integrity import Integrity
from provider.remote import Remote
from provider.settings import Settings
from tests.switching.bounded import Bounded
from tests.switching.parts import chat

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["서울", "부산"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name: str, parameters: Any = CITY) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("get_weather"), tool("get_time")]
NAMED = {"type": "function", "function": {"name": "get_time"}}
SEOUL = '{"city": "서울"}'


def envelope(*names: str) -> str:
    """As a server that likes blanks writes it."""
    written = ",\n  ".join(f'{{"name": "{name}", "arguments": {SEOUL}}}' for name in names)
    return f'{{\n  "tool_calls": [{written}] }}\n'


def remote(server: Bounded) -> Remote:
    return Remote(Settings(_env_file=None), [Integrity(server)])


async def choice_of(server: Bounded, **more: Any) -> dict[str, Any]:
    response = await remote(server).answer(chat(**{"tools": TOOLS, **more}))
    body = json.loads(await response.read())
    assert response.status == 200, body
    first: dict[str, Any] = body["choices"][0]
    return first


async def chunks_of(server: Bounded, **more: Any) -> list[dict[str, Any]]:
    response = await remote(server).answer(chat(**{"tools": TOOLS, "stream": True, **more}))
    raw = await response.read()
    assert raw.endswith(b"data: [DONE]\n\n")
    return list(EventReader().read(raw))


def called(choice: dict[str, Any]) -> list[tuple[str, str]]:
    functions = [call["function"] for call in choice["message"]["tool_calls"]]
    return [(function["name"], function["arguments"]) for function in functions]


def streamed(chunks: list[dict[str, Any]]) -> list[list[str]]:
    """Name and arguments of each call, put together as an app does."""
    calls: list[list[str]] = []
    for chunk in chunks:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                if "id" in call:
                    calls.append([call["function"]["name"], ""])
                calls[call["index"]][1] += call["function"]["arguments"]
    return calls


async def test_required_calls_are_bound_and_read_back() -> None:
    server = Bounded(held=[envelope("get_weather", "get_time")])
    choice = await choice_of(server, tool_choice="required", stop=["\n"], logprobs=True)
    assert called(choice) == [("get_weather", SEOUL), ("get_time", SEOUL)]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    sent = server.requests[0]
    assert not {"tools", "tool_choice", "stop", "logprobs"} & set(sent)
    assert "get_weather" in sent["messages"][0]["content"]


async def test_streamed_calls_come_in_pieces() -> None:
    server = Bounded(held=[envelope("get_weather", "get_time")])
    chunks = await chunks_of(server, tool_choice="required")
    assert streamed(chunks) == [["get_weather", SEOUL], ["get_time", SEOUL]]
    assert len(chunks) > 2 * len(SEOUL)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_named_call_is_that_one_and_ends_as_openais() -> None:
    server = Bounded(held=[envelope("get_time")])
    choice = await choice_of(server, tool_choice=NAMED)
    assert called(choice) == [("get_time", SEOUL)]
    assert choice["finish_reason"] == "stop"
    items = server.requests[0]["response_format"]["json_schema"]["schema"]["properties"]
    assert items["tool_calls"]["maxItems"] == 1


async def test_auto_without_a_call_is_one_request_and_its_text() -> None:
    server = Bounded(free="5 < 6, <tool> is no call", owner="llamacpp")
    choice = await choice_of(server, logprobs=True, top_logprobs=1)
    assert choice["message"]["content"] == "5 < 6, <tool> is no call"
    assert choice["finish_reason"] == "stop"
    assert "".join(token["token"] for token in choice["logprobs"]["content"]) == (
        "5 < 6, <tool> is no call"
    )
    assert len(server.requests) == 1


@pytest.mark.parametrize("owner", ["vllm", "llamacpp"])
async def test_auto_with_a_call_stops_the_text_and_binds_the_rest(owner: str) -> None:
    rambling = '잠시만요. <tool_call>{"name": "no_such", "arguments": ' + "x" * 500
    server = Bounded(free=rambling, held=[envelope("get_time")], owner=owner)
    response = await remote(server).answer(chat(tools=TOOLS, max_tokens=100))
    body = json.loads(await response.read())
    assert body["choices"][0]["message"]["content"] == "잠시만요. "
    assert called(body["choices"][0]) == [("get_time", SEOUL)]
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert server.streams[0].closed
    opened = len("잠시만요. <tool_call>")
    assert server.requests[1]["max_tokens"] == 100 - opened
    # Models whose vocabulary has `<tool_call>` as a control token would call unheard otherwise.
    assert (server.requests[0].get("skip_special_tokens") is False) is (owner == "vllm")
    assert body["usage"]["completion_tokens"] == opened + len(envelope("get_time"))
    assert body["usage"]["prompt_tokens"] == 10


async def test_the_rest_of_a_turn_goes_to_the_server_that_has_it_in_its_cache() -> None:
    servers = [Bounded(free="<tool_call>", held=[envelope("get_time")] * 4) for _ in range(2)]
    spread = Remote(Settings(_env_file=None), [Integrity(server) for server in servers])
    for _ in range(4):
        await (await spread.answer(chat(tools=TOOLS))).read()
    for server in servers:
        assert ["response_format" in sent for sent in server.requests] == [False, True] * 2


async def test_auto_streamed_gives_text_then_calls() -> None:
    server = Bounded(free="음, <tool_call>...", held=[envelope("get_time", "get_time")])
    chunks = await chunks_of(server, stream_options={"include_usage": True})
    said = "".join(c["delta"].get("content") or "" for k in chunks for c in k["choices"])
    assert said == "음, "
    assert streamed(chunks) == [["get_time", SEOUL], ["get_time", SEOUL]]
    assert chunks[-1]["usage"]["prompt_tokens"] == 10


async def test_each_of_several_answers_goes_its_own_way() -> None:
    server = Bounded(free=("kein Anruf", "<tool_call>{"), held=[envelope("get_time")])
    response = await remote(server).answer(chat(tools=TOOLS, n=2))
    one, two = json.loads(await response.read())["choices"]
    assert (one["message"]["content"], one["finish_reason"]) == ("kein Anruf", "stop")
    assert (called(two), two["index"]) == ([("get_time", SEOUL)], 1)


async def test_no_budget_left_for_the_call_is_a_cut_answer() -> None:
    server = Bounded(free="<tool_call>{")
    choice = await choice_of(server, max_tokens=len("<tool_call>"))
    assert choice["finish_reason"] == "length"
    assert "tool_calls" not in choice["message"]


async def test_none_is_text_and_legacy_functions_are_spelt_so() -> None:
    server = Bounded(free="<tool_call> bleibt Text")
    response = await remote(server).answer(chat(tools=TOOLS, tool_choice="none", stream=True))
    assert b"tool_calls" not in await response.read()
    legacy: dict[str, Any] = {
        "functions": [TOOLS[0]["function"]],
        "function_call": {"name": "get_weather"},
    }
    response = await remote(Bounded(held=[envelope("get_weather")])).answer(chat(**legacy))
    choice = json.loads(await response.read())["choices"][0]
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": SEOUL}


FORM = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}


@pytest.mark.parametrize(("said", "calls"), [(SEOUL, False), (envelope("get_time"), True)])
async def test_auto_beside_a_response_format_is_one_or_the_other(said: str, calls: bool) -> None:
    choice = await choice_of(Bounded(held=[said]), response_format=FORM)
    assert choice["message"]["content"] == (None if calls else SEOUL)
    assert ("tool_calls" in choice["message"]) is calls


async def test_results_go_back_in_as_the_model_knows_them() -> None:
    call = {"id": "a", "type": "function",
            "function": {"name": "get_time", "arguments": SEOUL}}  # fmt: skip
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "정오"},
    ]
    server = Bounded(free="정오입니다")
    await choice_of(server, messages=turns)
    roles = [message["role"] for message in server.requests[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert "정오" in server.requests[0]["messages"][-1]["content"]


async def test_a_cut_call_ends_length() -> None:
    server = Bounded(held=[envelope("get_time")[:70]], reason="length")
    choice = await choice_of(server, tool_choice="required")
    assert choice["finish_reason"] == "length"


async def test_a_server_that_ignores_the_schema_is_refused() -> None:
    for stream in (False, True):
        server = Bounded(held=["Sure! Here is the weather."], lax=True)
        with pytest.raises(BadGateway, match="json_schema"):
            await remote(server).answer(chat(tools=TOOLS, tool_choice="required", stream=stream))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_or_an_answer_that_breaks_its_schema_is_never_told_as_whole(
    stream: bool,
) -> None:
    """What llama.cpp does with bounds of numbers: it takes the schema and ignores them."""
    wrong = '{"city": "Berlin"}'
    called = {"tools": TOOLS, "tool_choice": "required"}
    for text, more in (
        (envelope("get_time").replace(SEOUL, wrong), called),
        (wrong, {"response_format": FORM}),
    ):
        server = Bounded(held=[text], lax=True)
        with pytest.raises(BadGateway, match="does not hold at '"):
            await (await remote(server).answer(chat(stream=stream, **more))).read()


async def test_an_answer_that_its_stop_string_cut_is_no_breach() -> None:
    server = Bounded(held=['{"city'], lax=True)
    response = await remote(server).answer(chat(response_format=FORM, stop=['"'], stream=True))
    assert b"[DONE]" in await response.read()


async def test_a_server_that_ignores_n_is_refused() -> None:
    for more in ({}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "required"}):
        server = Bounded(free="a", held=[envelope("get_time")], ignores_n=True)
        with pytest.raises(BadGateway, match="n=2"):
            await (await remote(server).answer(chat(n=2, stream=True, **more))).read()


async def test_what_servers_know_by_other_names_is_spelt_so() -> None:
    server = Bounded(free="a", held=[SEOUL], owner="me")
    request = chat(response_format=FORM, max_completion_tokens=9, stop=None, stream=True)
    await (await remote(server).answer(request)).read()
    sent = server.requests[0]
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (1.0, 1.0, 9)
    assert not {"stop", "max_completion_tokens"} & set(sent)
    assert sent["response_format"] == {"type": "json_object", "schema": CITY}


async def test_a_server_that_dies_within_a_call_is_an_error_event() -> None:
    server = Bounded(held=[envelope("get_time")], breaks=60)
    response = await remote(server).answer(chat(tools=TOOLS, tool_choice="required", stream=True))
    pieces: list[bytes] = []

    async def listen() -> None:
        async for piece in response.body:  # type: ignore[union-attr]
            pieces.append(piece)

    with pytest.raises(BadGateway):
        await listen()
    raw = b"".join(pieces)
    assert b"get_time" in raw
    assert b'"error"' in raw
    assert b"[DONE]" not in raw
    assert b'"finish_reason":"tool_calls"' not in raw


async def test_leaving_the_stream_cancels_the_server() -> None:
    server = Bounded(held=[envelope("get_time")])
    response = await remote(server).answer(chat(tools=TOOLS, tool_choice="required", stream=True))
    async for _ in response.body:  # type: ignore[union-attr]
        break
    await response.body.aclose()  # type: ignore[union-attr]
    assert server.streams[0].closed


async def test_a_refused_bound_names_the_tools() -> None:
    error = {"message": "Grammar error: too big", "type": "BadRequestError", "code": 400}
    refusal = ApiResponse.from_json({"error": error}, 400)
    server = Bounded(held=[envelope("get_time")], refusal=refusal)
    response = await remote(server).answer(chat(tools=TOOLS, tool_choice="required"))
    said = json.loads(await response.read())["error"]
    assert (response.status, said["param"], said["code"]) == (400, "tools", None)


async def test_a_server_that_is_full_says_when_to_come_back() -> None:
    error = {"message": "full", "type": "x", "code": 429}
    refusal = ApiResponse.from_json({"error": error}, 429, {"retry-after": "3"})
    server = Bounded(held=[envelope("get_time")], refusal=refusal)
    response = await remote(server).answer(chat(tools=TOOLS, tool_choice="required", stream=True))
    assert (response.status, response.headers["retry-after"]) == (429, "3")


async def test_what_has_no_effect_is_reported() -> None:
    response = await remote(Bounded(free="a")).answer(chat(tools=TOOLS, user="u", store=False))
    assert "x-ignored-params" in response.headers


async def test_a_schema_that_cannot_be_enforced_is_refused_before_it_is_sent() -> None:
    server = Bounded()
    wrong = [tool("get_weather", {"type": "object", "properties": {"a": {"type": "strin"}}})]
    with pytest.raises(InvalidRequest) as refused:
        await remote(server).answer(chat(tools=wrong))
    assert refused.value.param == "tools[0].function.parameters"
    assert server.requests == []


RUNNING = {"include_usage": True, "continuous_usage_stats": True}


async def test_what_is_counted_so_far_comes_with_every_chunk_of_a_call() -> None:
    server = Bounded("ab<tool_call>", held=[envelope("get_time")])
    chunks = await chunks_of(server, tool_choice="auto", stream_options=RUNNING)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-2] <= counts[-1]
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {10}


@pytest.mark.parametrize("tools", [TOOLS, None])
async def test_a_server_that_does_not_count_while_it_streams_is_not_asked_to(tools: Any) -> None:
    server = Bounded("ab", owner="llamacpp")
    more = {"tools": tools} if tools else {}
    with pytest.raises(InvalidRequest) as caught:
        await remote(server).answer(chat(stream=True, stream_options=RUNNING, **more))
    assert caught.value.param == "stream_options.continuous_usage_stats"
    assert server.requests == []
