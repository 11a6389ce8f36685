"""Events of a streamed response: whatever the chunks, they are in order and add up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.base import ApiResponse
from provider.errors import ApiError, RateLimited, ServerError
from tests.contract.official_responses import check_events
from tests.responses.asking import ask, over, response_of, text_of
from tests.switching.parts import Named, Pieces

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def chunk(delta: dict[str, Any], finish: str | None = None, **choice: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "model": "named-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}],
        "usage": None,
    }


def sent(chunks: Sequence[dict[str, Any]], *more: bytes | Exception) -> Pieces:
    """The chunks as a server sends them, cut at places that mean nothing."""
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks)
    cut = [body[start : start + 37] for start in range(0, len(body), 37)]
    return Pieces([*cut, *more])


def ended(*chunks: dict[str, Any], finish: str = "stop") -> Pieces:
    last = {"id": "chatcmpl-1", "model": "named-model", "choices": [], "usage": USAGE}
    return sent([*chunks, chunk({}, finish), last], b"data: [DONE]\n\n")


def said(text: str, *logprobs: Any) -> dict[str, Any]:
    return chunk({"content": text}, logprobs={"content": list(logprobs)} if logprobs else None)


def begun(index: int, name: str = "f") -> dict[str, Any]:
    function = {"name": name, "arguments": ""}
    call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
    return chunk({"tool_calls": [call]})


def argued(index: int, text: str) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]})


async def events(pieces: Pieces) -> list[dict[str, Any]]:
    answer = await over(Named("n", stream=lambda: pieces)).answer(ask(stream=True))
    return check_events(await answer.read(), complete=True)


async def test_the_order_of_a_text() -> None:
    found = await events(ended(chunk({"role": "assistant", "content": ""}), said("안"), said("녕")))
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert text_of(found[-1]["response"]) == "안녕"
    assert found[-1]["response"]["usage"]["total_tokens"] == 5


async def test_the_order_of_calls_behind_a_text() -> None:
    found = await events(
        ended(
            said("so"), begun(0), argued(0, '{"a":'), argued(0, "1}"), begun(1, "g"),
            argued(1, "{}"), finish="tool_calls",
        )
    )  # fmt: skip
    message, first, second = found[-1]["response"]["output"]
    assert message["content"][0]["text"] == "so"
    assert (first["name"], first["arguments"], first["call_id"]) == ("f", '{"a":1}', "call_0")
    assert (second["name"], second["arguments"], second["call_id"]) == ("g", "{}", "call_1")
    added = [e["item"]["type"] for e in found if e["type"].endswith("item.added")]
    assert added == ["message", "function_call", "function_call"]


async def test_a_refusal() -> None:
    found = await events(ended(chunk({"refusal": "I can"}), chunk({"refusal": "not."})))
    [message] = found[-1]["response"]["output"]
    assert message["content"] == [{"type": "refusal", "refusal": "I cannot."}]


async def test_an_answer_of_nothing() -> None:
    found = await events(ended())
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == ""


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
async def test_what_was_cut_is_incomplete(finish: str, reason: str) -> None:
    found = await events(ended(said("so"), begun(0), argued(0, '{"a'), finish=finish))
    response = found[-1]["response"]
    assert found[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


STEPS = st.one_of(
    st.builds(said, st.text(max_size=5)),
    st.builds(lambda text: said(text, TOKEN), st.text(max_size=5)),
    st.builds(lambda text: chunk({"refusal": text}), st.text(max_size=3)),
)


@given(st.lists(STEPS, max_size=8), st.lists(st.lists(st.text(max_size=5), max_size=3), max_size=3))
async def test_whatever_is_said_adds_up(
    texts: list[dict[str, Any]], calls: list[list[str]]
) -> None:
    """`check_events` builds the output from the deltas and compares it with the last event's."""
    chunks = list(texts)
    for index, pieces in enumerate(calls):
        chunks += [begun(index), *(argued(index, piece) for piece in pieces)]
    response = (await events(ended(*chunks)))[-1]["response"]
    arguments = [i["arguments"] for i in response["output"] if i["type"] == "function_call"]
    assert arguments == ["".join(pieces) for pieces in calls]


async def failed(*last: bytes | Exception) -> tuple[list[dict[str, Any]], ApiError]:
    pieces = sent([said("half an")], *last)
    answer = await over(Named("n", stream=lambda: pieces)).answer(ask(stream=True))
    assert not isinstance(answer.body, bytes)
    body = b""
    try:
        async for piece in answer.body:
            body += piece
    except ApiError as error:
        return check_events(body, complete=True), error
    raise AssertionError("a clean end")


TOLD = b'data: {"error": {"message": "It broke.", "type": "x", "code": null, "param": null}}\n\n'


@pytest.mark.parametrize("last", [[ServerError("It broke.")], [TOLD], [TOLD, ServerError("Yes.")]])
async def test_what_breaks_off_is_told_and_broken_off(last: list[Any]) -> None:
    found, _ = await failed(*last)
    error, end = found[-2:]
    assert error["type"] == "error"
    assert error["message"] == error["error"]["message"]
    assert end["type"] == "response.failed"
    assert end["response"]["error"]["code"] == "server_error"
    [message] = end["response"]["output"]
    assert (message["status"], message["content"][0]["text"]) == ("incomplete", "half an")


async def test_a_limit_that_is_met_on_the_way() -> None:
    found, _ = await failed(RateLimited("Slow down."))
    assert found[-1]["response"]["error"]["code"] == "rate_limit_exceeded"


async def test_a_failure_before_the_first_event_keeps_its_status() -> None:
    one = over(Named("n", stream=lambda: Pieces([RateLimited("full")])))
    with pytest.raises(RateLimited):
        await one.answer(ask(stream=True))


async def test_a_client_that_leaves_ends_the_work() -> None:
    pieces = ended(*(said("x") for _ in range(50)))
    answer = await over(Named("n", stream=lambda: pieces)).answer(ask(stream=True))
    assert not isinstance(answer.body, bytes)
    async for _piece in answer.body:
        break
    await answer.body.aclose()
    assert pieces.closed


async def test_what_failed_or_was_left_is_not_kept() -> None:
    one = over(Named("n", stream=lambda: sent([said("half")], ServerError("no"))))
    answer = await one.answer(ask(stream=True))
    with pytest.raises(ServerError):
        await answer.read()
    assert len(one.store) == 0


async def test_whole_and_streamed_have_the_same_fields() -> None:
    one = over(Named("n"))
    whole = await response_of(await one.answer(ask()))
    streamed = await response_of(await one.answer(ask(stream=True)))
    assert list(whole) == list(streamed)
    assert isinstance(await one.answer(ask()), ApiResponse)
