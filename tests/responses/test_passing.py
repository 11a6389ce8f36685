"""Responses that pass from a hosted side: watched, vouched for, and never taken for another's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provider.base import ApiRequest, ApiResponse, Sample, samples_of
from provider.breaker import Breaker
from provider.errors import BadGateway, Unavailable, Unreachable
from provider.fallback import Fallback, Policy
from provider.integrity import Integrity
from provider.meter import Meter
from provider.record import Journal, Record
from provider.transcript import Transcript
from tests.responses.asking import PATH, ask, over, request, response_of, text_of
from tests.switching.parts import Named, Pieces, chunk

CALLED = {"index": 0, "id": "call_1", "type": "function",
          "function": {"name": "f", "arguments": "{}"}}  # fmt: skip
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
USED: dict[str, Any] = {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}


def hosted() -> Any:
    """OpenAI's side as far as its bytes are concerned: responses, whole and streamed."""
    stream = [chunk("안"), chunk("녕", **USED), chunk(finish="stop"), b"data: [DONE]\n\n"]
    return over(Named("n", stream=lambda: Pieces(stream)))


def counted(samples: list[Sample], name: str) -> dict[str, float]:
    return {
        dict(s.labels).get("direction", dict(s.labels).get("route", "")): s.value
        for s in samples
        if s.name == name
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_counted(stream: bool) -> None:
    meter = Meter(hosted(), "openai")
    await (await meter.answer(ask(stream=stream))).read()
    samples = list(samples_of(meter))
    assert counted(samples, "sllm_tokens_total") == {"in": 3, "out": 2}
    models = {dict(s.labels)["model"] for s in samples if s.name == "sllm_requests_total"}
    assert models == {"named-model"}


async def test_a_route_is_no_id() -> None:
    meter = Meter(hosted(), "openai")
    response = await response_of(await meter.answer(ask()))
    await meter.answer(request("GET", f"{PATH}/{response['id']}"))
    await meter.answer(request("GET", f"{PATH}/{response['id']}/input_items"))
    await meter.answer(request("POST", f"{PATH}/input_tokens", input="x"))
    assert set(counted(list(samples_of(meter)), "sllm_requests_total")) == {
        PATH,
        f"{PATH}/{{id}}",
        f"{PATH}/{{id}}/input_items",
        f"{PATH}/input_tokens",
    }


async def recorded(path: Path, *asked: ApiRequest) -> list[dict[str, Any]]:
    one = Record(hosted(), Journal(path), "openai")
    for each in asked:
        await (await one.answer(each)).read()
    return lines(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_becomes_a_training_line(tmp_path: Path, stream: bool) -> None:
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": False}
    asked = ask(
        "전화는 010-1234-5678", instructions="Be brief.", stream=stream,
        tools=[FUNCTION], text={"format": form},
    )  # fmt: skip
    [entry] = await recorded(tmp_path / "record.jsonl", asked)
    *messages, last = entry["messages"]
    assert messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "전화는 [PHONE]"},
    ]
    assert last == {"role": "assistant", "content": "안녕" if stream else "n"}
    assert entry["tools"][0]["function"]["name"] == "f"
    assert entry["response_format"]["json_schema"]["name"] == "x"
    assert entry["usage"]["prompt_tokens"] == 3
    assert entry["model"] == "named-model"


async def test_what_does_not_say_all_is_not_recorded(tmp_path: Path) -> None:
    image = {"type": "input_image", "image_url": "https://example.com/a.png"}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    one = Record(Named("n", [ApiResponse.from_json(await whole()) for _ in range(5)]),
                 Journal(tmp_path / "r.jsonl"), "openai")  # fmt: skip
    for asked in (
        ask(previous_response_id="resp_1"),
        ask(conversation="conv_1"),
        ask([{"type": "item_reference", "id": "msg_1"}]),
        ask([{"role": "user", "content": [image]}]),
        ask([{"role": "user", "content": "x"}, search], tools=[{"type": "web_search"}]),
    ):
        await one.answer(asked)
    assert not (tmp_path / "r.jsonl").exists()


async def whole() -> dict[str, Any]:
    return await response_of(await hosted().answer(ask()))


async def test_a_transcript_of_calls() -> None:
    call = json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [CALLED]}}], "model": "m"})
    pieces = [b"data: " + call.encode() + b"\n\n", chunk(finish="tool_calls")]
    one = over(Named("n", stream=lambda: Pieces(pieces)))
    body = await (await one.answer(ask(stream=True))).read()
    transcript = Transcript()
    for start in range(0, len(body), 50):
        transcript.feed(body[start : start + 50])
    message = transcript.message()
    assert message is not None
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert transcript.finish_reason == "tool_calls"


UNKNOWN: list[Any] = [
    {"object": "response"},
    {"object": "response", "output": {}, "usage": 3, "status": 4},
    {
        "object": "response",
        "output": [1, {"type": "message", "content": [2]}],
        "status": "completed",
    },
    {"type": "response.completed", "response": None},
    {"type": "response.output_item.done", "item": {"type": "function_call"}},
    {"type": "response.something.new", "delta": 3},
    {"type": 3},
    [],
    "text",
]


@pytest.mark.parametrize("read", UNKNOWN)
def test_what_is_not_known_harms_nobody(read: Any) -> None:
    Transcript.of_body(json.dumps(read).encode())
    transcript = Transcript()
    transcript.feed(b"event: x\ndata: " + json.dumps(read).encode() + b"\n\n")
    transcript.so_far()


async def test_a_whole_stream_passes_untouched() -> None:
    body = await (await hosted().answer(ask(stream=True))).read()
    cut = [body[start : start + 61] for start in range(0, len(body), 61)]
    vouched = Integrity(Named("n", stream=lambda: Pieces(cut)))
    assert await (await vouched.answer(ask(stream=True))).read() == body


async def test_an_error_event_passes_untouched() -> None:
    told = b'event: error\ndata: {"type":"error","code":"server_error","message":"no"}\n\n'
    vouched = Integrity(Named("n", stream=lambda: Pieces([told])))
    assert await (await vouched.answer(ask(stream=True))).read() == told


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
async def test_a_stream_that_just_stops_is_an_error(share: float) -> None:
    body = await (await hosted().answer(ask(stream=True))).read()
    events = body.split(b"\n\n")
    cut = b"\n\n".join(events[: int(len(events) * share)]) + b"\n\n"
    vouched = Integrity(Named("n", stream=lambda: Pieces([cut])))
    with pytest.raises(BadGateway, match="before its answer was complete"):
        await (await vouched.answer(ask(stream=True))).read()


@pytest.mark.parametrize(
    ("answer", "stream"),
    [({"id": "x"}, False), ({"output": []}, True), (["x"], False)],
)
async def test_what_is_no_response_is_not_passed_on(answer: Any, stream: bool) -> None:
    vouched = Integrity(Named("n", [ApiResponse.from_json(answer)]))
    with pytest.raises(BadGateway):
        await vouched.answer(ask(stream=stream))


def falling_back(first: Any, second: Any) -> Fallback:
    return Fallback(first, second, Breaker(1, 60.0), Policy(attempts=1, deadline=5.0))


async def test_the_other_side_answers_what_it_can() -> None:
    one = falling_back(Named("n", [Unreachable("no")]), over(Named("second")))
    answer = await one.answer(ask())
    assert answer.headers["x-sllm-fallback"] == "connect"
    assert text_of(await response_of(answer)) == "second"


@pytest.mark.parametrize(
    "asked",
    [
        ask(previous_response_id="resp_1"),
        ask(conversation="conv_1"),
        ask([{"id": "msg_1"}]),
        request("GET", f"{PATH}/resp_1"),
        request("DELETE", f"{PATH}/resp_1"),
        request("GET", f"{PATH}/resp_1/input_items"),
    ],
)
async def test_what_one_side_keeps_the_other_is_not_asked_for(asked: ApiRequest) -> None:
    second = Named("second")
    one = falling_back(Named("n", [Unreachable("no")] * 2), second)
    with pytest.raises(Unreachable):
        await one.answer(asked)
    with pytest.raises(Unavailable, match="send the whole conversation"):  # the breaker is open
        await one.answer(asked)
    assert second.requests == []
