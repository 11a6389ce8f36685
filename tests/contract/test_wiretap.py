"""The judge is judged: what breaks OpenAI's shapes is noticed, one break at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract import official
from tests.contract.wiretap import check_stream

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**HEAD, "choices": [choice], **more}


def _good() -> list[Any]:
    return [
        _chunk({"role": "assistant", "content": "", "refusal": None}),
        _chunk({"content": "안"}),
        _chunk({}, "stop"),
        "[DONE]",
    ]


def _bytes(events: list[Any]) -> bytes:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def _drop(at: int) -> Callable[[list[Any]], None]:
    return lambda events: events.pop(at)


def _put(at: int, /, **fields: Any) -> Callable[[list[Any]], None]:
    return lambda events: events[at].update(fields)


def _in_choice(at: int, /, **fields: Any) -> Callable[[list[Any]], None]:
    return lambda events: events[at]["choices"][0].update(fields)


def test_a_good_stream_passes() -> None:
    check_stream(_bytes(_good()), True, {})
    check_stream(_bytes(_good()[:2]), False, {})


@pytest.mark.parametrize(
    "spoil",
    [
        _drop(3),
        _drop(2),
        _drop(0),
        _put(1, id="other"),
        _put(1, created=2),
        _put(1, object="chat.completion"),
        _put(1, surprise=1),
        _put(1, choices=[]),
        _put(1, system_fingerprint=None),
        _in_choice(1, finish_reason="stop"),
        _in_choice(1, delta={"role": "assistant", "content": "x"}),
        _in_choice(1, delta={"content": "x", "tool_calls": None}),
        _in_choice(1, delta={"tool_calls": [{"id": "c"}]}),
        _in_choice(2, finish_reason="end"),
        _in_choice(1, index="0"),
        lambda events: events.insert(1, '{"cut": '),
    ],
)
def test_a_spoilt_stream_does_not(spoil: Callable[[list[Any]], None]) -> None:
    events = _good()
    spoil(events)
    with pytest.raises((AssertionError, ValueError)):
        check_stream(_bytes(events), True, {})


def test_usage_must_be_asked_for_and_come_last() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    asked = {"stream_options": {"include_usage": True}}
    good = [{**event, "usage": None} for event in _good()[:3]]
    last = {**HEAD, "choices": [], "usage": usage}
    check_stream(_bytes([*good, last, "[DONE]"]), True, asked)
    for events, request in (
        ([*good, last, "[DONE]"], {}),
        ([*good, "[DONE]"], asked),
        ([*_good()[:3], last, "[DONE]"], asked),
        ([good[0], last, *good[1:], "[DONE]"], asked),
    ):
        with pytest.raises(AssertionError):
            check_stream(_bytes(events), True, request)


@pytest.mark.parametrize(
    ("component", "value"),
    [
        ("error", {"detail": "Not Found"}),
        ("error", {"error": {"message": "x", "type": "t", "param": None}}),
        ("error", {"error": {"message": "x", "type": "t", "param": None, "code": 400}}),
        ("error", {"error": {"message": "x", "type": None, "param": None, "code": None}}),
        ("models", {"object": "list", "data": [{"id": "a", "object": "model"}]}),
        ("embeddings", {"object": "list", "model": "m", "data": [], "usage": {}}),
        ("completion", {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                                     "message": {"role": "assistant", "content": "x"}}]}),
        ("completion", {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                        "choices": []}),
    ],
)  # fmt: skip
def test_what_is_not_the_component(component: str, value: Any) -> None:
    with pytest.raises(AssertionError):
        official.check(component, value)
