"""Completions and chunks as OpenAI sends them, and the events that carry them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from provider.engine.request import TokenLogprob, Usage
from provider.errors import Unavailable
from provider.protocol import sse
from provider.protocol.chunks import Chunks
from provider.protocol.completion import Answer, Head
from provider.protocol.deltas import Plain
from provider.protocol.tools import CallReader, written
from tests.protocol.components import CHUNK, COMPLETION, ERROR, check

HEAD = Head("chatcmpl-1", 1_795_222_318, "exaone", "fp_0123456789")
USAGE = Usage(prompt=3, completion=2, cached=1, accepted_prediction=4, rejected_prediction=5)
HALF = TokenLogprob(7, b"\xed\x95", -0.5, ((7, b"\xed\x95", -0.5), (9, b"a", -1.5)))
REST = TokenLogprob(8, b"\x9c", float("-inf"))


def calling(**how: bool) -> Answer:
    ids = iter(["call_a", "call_b"])
    return Answer(0, CallReader(new_id=lambda: next(ids)), **how)


def test_a_completion() -> None:
    answer = Answer(0, Plain())
    answer.grow("안")
    answer.grow("녕")
    answer.end("stop")
    body = HEAD.completion([answer.choice()], USAGE)
    assert body == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_795_222_318,
        "model": "exaone",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "안녕",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 4,
                "rejected_prediction_tokens": 5,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }
    check(body, COMPLETION)
    ChatCompletion.model_validate(body, strict=True)


def test_logprobs_of_a_syllable_over_two_tokens() -> None:
    answer = Answer(0, Plain(), logprobs=True)
    answer.grow("한", (HALF, REST))
    answer.end("length")
    body = HEAD.completion([answer.choice()], USAGE)
    check(body, COMPLETION)
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "\\xed\\x95",
                "logprob": -0.5,
                "bytes": [0xED, 0x95],
                "top_logprobs": [
                    {"token": "\\xed\\x95", "logprob": -0.5, "bytes": [0xED, 0x95]},
                    {"token": "a", "logprob": -1.5, "bytes": [97]},
                ],
            },
            {"token": "\\x9c", "logprob": -9999.0, "bytes": [0x9C], "top_logprobs": []},
        ],
        "refusal": None,
    }


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({}, "tool_calls"),
        ({"forced": True}, "stop"),
        ({"legacy": True}, "function_call"),
        ({"legacy": True, "forced": True}, "stop"),
    ],
)
def test_how_calls_end(how: dict[str, bool], reason: str) -> None:
    answer = calling(**how)
    answer.grow(written("f", "{}"))
    answer.end("stop")
    choice = answer.choice()
    check(HEAD.completion([choice], USAGE), COMPLETION)
    assert choice["finish_reason"] == reason
    assert choice["message"]["content"] is None
    called = {"name": "f", "arguments": "{}"}
    if how.get("legacy"):
        assert choice["message"]["function_call"] == called
    else:
        expected = [{"id": "call_a", "type": "function", "function": called}]
        assert choice["message"]["tool_calls"] == expected


def test_a_cut_call_ends_length() -> None:
    answer = calling(forced=True)
    answer.grow('<tool_call>{"name":"f","arguments":{"a"')
    answer.end("length")
    choice = answer.choice()
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"a"'


def streamed(chunks: Chunks, pieces: list[str], *, usage: bool = False) -> list[dict[str, Any]]:
    out = [chunk for piece in pieces for chunk in chunks.piece(0, piece)]
    out += [*chunks.finished(0, "stop"), *chunks.done(USAGE)]
    for chunk in out:
        check(chunk, CHUNK)
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return out


def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def test_a_stream_of_text() -> None:
    out = streamed(Chunks(HEAD, [Answer(0, Plain())], include_usage=False), ["안", "녕"])
    assert [chunk["choices"] for chunk in out] == [
        [choice({"role": "assistant", "content": "", "refusal": None})],
        [choice({"content": "안"})],
        [choice({"content": "녕"})],
        [choice({}, "stop")],
    ]
    assert all("usage" not in chunk for chunk in out)
    assert {chunk["id"] for chunk in out} == {"chatcmpl-1"}


def test_usage_comes_last_and_only_on_request() -> None:
    out = streamed(Chunks(HEAD, [Answer(0, Plain())], include_usage=True), ["a"])
    assert [chunk["usage"] for chunk in out[:-1]] == [None] * (len(out) - 1)
    assert out[-1]["choices"] == []
    assert out[-1]["usage"]["total_tokens"] == 5


def test_an_empty_answer_still_has_its_role() -> None:
    out = streamed(Chunks(HEAD, [Answer(0, Plain())], include_usage=False), [])
    assert [chunk["choices"][0]["delta"] for chunk in out] == [
        {"role": "assistant", "content": "", "refusal": None},
        {},
    ]


def test_a_stream_of_calls() -> None:
    pieces = ['<tool_call>{"name":"f","argum', 'ents":{"a"', ":1}}</tool_call>", written("g", "{}")]
    out = streamed(Chunks(HEAD, [calling()], include_usage=False), pieces)
    assert [chunk["choices"] for chunk in out] == [
        [
            choice(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "call_a",
                            "type": "function",
                            "function": {"name": "f", "arguments": ""},
                        }
                    ],
                    "refusal": None,
                }
            )
        ],
        [choice({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]})],
        [choice({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})],
        [
            choice(
                {
                    "tool_calls": [
                        {
                            "index": 1,
                            "id": "call_b",
                            "type": "function",
                            "function": {"name": "g", "arguments": ""},
                        }
                    ]
                }
            )
        ],
        [choice({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]})],
        [choice({}, "tool_calls")],
    ]


def test_a_stream_of_a_legacy_call() -> None:
    out = streamed(
        Chunks(HEAD, [calling(legacy=True)], include_usage=False), ["a", written("f", "{}")]
    )
    assert [chunk["choices"][0]["delta"] for chunk in out] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "a"},
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
        {},
    ]
    assert out[-1]["choices"][0]["finish_reason"] == "function_call"


def test_logprobs_come_with_the_text_they_are_of() -> None:
    answer = Answer(0, CallReader(), logprobs=True)
    chunks = Chunks(HEAD, [answer], include_usage=False)
    held = list(chunks.piece(0, "<", (HALF,)))
    out = [*held, *chunks.piece(0, "b", (REST,)), *chunks.finished(0, "stop")]
    assert held == []
    for chunk in out:
        check(chunk, CHUNK)
    shown = [chunk["choices"][0]["logprobs"] for chunk in out]
    assert [len(item["content"]) if item else None for item in shown] == [None, 2, None]


class Closing:
    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1


async def objects(*items: Any, error: Exception | None = None) -> AsyncIterator[Any]:
    for item in items:
        yield item
    if error is not None:
        raise error


async def test_a_good_stream_ends_with_done() -> None:
    stream = sse.EventStream(objects({"a": "가\n"}, {}), Closing())
    assert [piece async for piece in stream] == [
        b'data: {"a":"\xea\xb0\x80\\n"}\n\n',
        b"data: {}\n\n",
        b"data: [DONE]\n\n",
    ]


async def test_a_stream_that_fails_says_so_and_breaks_off() -> None:
    stream = sse.EventStream(objects({}, error=Unavailable("gone")), Closing())
    seen: list[bytes] = []

    async def listen() -> None:
        async for piece in stream:
            seen.append(piece)

    with pytest.raises(Unavailable):
        await listen()
    assert seen[0] == b"data: {}\n\n"
    body = json.loads(seen[1].removeprefix(b"data: "))
    check(body, ERROR)
    assert body["error"]["code"] == "service_unavailable"
    assert len(seen) == 2


async def test_closing_a_stream_that_was_never_read_cancels_the_work() -> None:
    closing = Closing()
    stream = sse.EventStream(objects({}), closing)
    await stream.aclose()
    assert closing.times == 1
