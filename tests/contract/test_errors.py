"""Errors: the SDK's class, and status, type, code and param, whoever answers."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.contract.both import settled
from tests.contract.requests import HELLO, WEATHER, ask
from tests.contract.targets import HOSTED, KEY

USER: Any = {"role": "user", "content": "hi"}
CALL: Any = {"id": "call_1", "type": "function",
             "function": {"name": "get_weather", "arguments": "{}"}}  # fmt: skip
MISSING = object()

REFUSED: dict[str, tuple[dict[str, Any], str, str | None]] = {
    # name: (what is changed, param, code where clients read it)
    "no-messages": ({"messages": []}, "messages", None),
    "messages-text": ({"messages": "hi"}, "messages", "invalid_type"),
    "messages-missing": ({"messages": MISSING}, "messages", None),
    "role": ({"messages": [{"role": "bob", "content": "x"}]}, "messages[0].role", None),
    "role-missing": ({"messages": [{"content": "x"}]}, "messages[0].role", None),
    "content-missing": ({"messages": [{"role": "user"}]}, "messages[0].content", None),
    "content-number": ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content",
                       None),
    "content-null": ({"messages": [{"role": "user", "content": None}]}, "messages[0].content",
                     None),
    "part-type": ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
                  "messages[0].content[0].type", None),
    "temperature-3": ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    "temperature-text": ({"temperature": "hot"}, "temperature", "invalid_type"),
    "temperature-low": ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
    "top_p-2": ({"top_p": 2}, "top_p", "decimal_above_max_value"),
    "n-0": ({"n": 0}, "n", "integer_below_min_value"),
    "n-129": ({"n": 129}, "n", "integer_above_max_value"),
    "n-decimal": ({"n": 1.5}, "n", "invalid_type"),
    "n-bool": ({"n": True}, "n", "invalid_type"),
    "stop-5": ({"stop": list("abcde")}, "stop", "array_above_max_length"),
    "stop-number": ({"stop": [1]}, "stop[0]", "invalid_type"),
    "max_tokens-0": ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    "max_tokens-text": ({"max_tokens": "10"}, "max_tokens", "invalid_type"),
    "both-limits": ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", None),
    "max_tokens-huge": ({"max_tokens": 10**7}, "max_tokens", None),
    "seed-text": ({"seed": "x"}, "seed", "invalid_type"),
    "presence": ({"presence_penalty": 2.5}, "presence_penalty", "decimal_above_max_value"),
    "frequency": ({"frequency_penalty": -9}, "frequency_penalty", "decimal_below_min_value"),
    "logit_bias-101": ({"logit_bias": {"5": 101}}, "logit_bias.5", "decimal_above_max_value"),
    "top_logprobs-21": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs",
                        "integer_above_max_value"),
    "top_logprobs-alone": ({"top_logprobs": 2}, "top_logprobs", None),
    "stream_options-alone": ({"stream_options": {"include_usage": True}}, "stream_options", None),
    "unknown": ({"best_of": 3}, "best_of", "unknown_parameter"),
    "unknown-nested": ({"messages": [{**USER, "mood": "glad"}]}, "messages[0].mood",
                       "unknown_parameter"),
    "format-type": ({"response_format": {"type": "yaml"}}, "response_format.type", None),
    "format-text": ({"response_format": "json"}, "response_format", "invalid_type"),
    "format-no-schema": ({"response_format": {"type": "json_schema"}},
                         "response_format.json_schema", None),
    "format-no-name": ({"response_format": {"type": "json_schema", "json_schema": {
        "schema": {"type": "object"}}}}, "response_format.json_schema.name", None),
    "tools-empty": ({"tools": []}, "tools", "empty_array"),
    "tool-no-name": ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name",
                     None),
    "tool-bad-name": ({"tools": [{"type": "function", "function": {"name": "a b"}}]},
                      "tools[0].function.name", None),
    "tool_choice-alone": ({"tool_choice": "auto"}, "tool_choice", None),
    "tool_choice-word": ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice", None),
    "tool_choice-other": ({"tools": [WEATHER], "tool_choice": {
        "type": "function", "function": {"name": "other"}}}, "tool_choice", None),
    "tool-result-alone": ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
                          "messages.[0].role", None),
    "call-unanswered": ({"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, USER]},
                        "messages.[2].role", None),
    "context": ({"messages": [{"role": "user", "content": "자 " * 140_000}]}, "messages",
                "context_length_exceeded"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(client: Any, name: str) -> None:
    """400, BadRequestError, the parameter by name; also when a stream was asked for."""
    changes, param, code = REFUSED[name]
    body = {key: value for key, value in (ask() | changes).items() if value is not MISSING}
    for stream in (False, True):
        if stream and name == "stream_options-alone":
            continue
        with pytest.raises(openai.BadRequestError) as refused:
            await settled(
                client.post("/chat/completions", body={**body, "stream": stream}, cast_to=object)
            )
        error = refused.value
        assert error.status_code == 400
        assert error.type == "invalid_request_error"
        assert error.param == param, error.message
        assert code is None or error.code == code, error.message
        assert error.request_id


async def test_context_message(client: Any) -> None:
    """Clients match on these words to shorten their prompt."""
    with pytest.raises(openai.BadRequestError, match=r"maximum context length is [0-9]+ tokens"):
        await settled(client.chat.completions.create(**ask(messages=[
            {"role": "user", "content": "자 " * 140_000}])))  # fmt: skip


async def test_unknown_model(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await settled(client.chat.completions.create(**ask(model="gpt-9")))
    assert refused.value.code == "model_not_found"
    assert "gpt-9" in refused.value.message


@pytest.mark.parametrize("model", [MISSING, "", None, 7], ids=["missing", "empty", "null", "int"])
async def test_no_model(client: Any, model: Any) -> None:
    body = {key: value for key, value in (ask() | {"model": model}).items() if value is not MISSING}
    with pytest.raises(openai.BadRequestError):
        await settled(client.post("/chat/completions", body=body, cast_to=object))


async def test_chat_with_an_embedding_model(client: Any) -> None:
    with pytest.raises((openai.NotFoundError, openai.BadRequestError)) as refused:
        await settled(client.chat.completions.create(**ask(model="text-embedding-3-small")))
    assert refused.value.param == "model"


async def test_unknown_path(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await settled(client.post("/nope", body={}, cast_to=object))
    assert refused.value.type == "invalid_request_error"


async def test_wrong_method(client: Any) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await settled(client.get("/embeddings", cast_to=object))
    assert refused.value.status_code == 405


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b"\xff\xfe", b"[1]", b'"x"', b"null", b'{"model": NaN}', b"[" * 100_000],
    ids=["cut", "empty", "not-utf8", "array", "string", "null", "nan", "deep"],
)
async def test_bodies_that_cannot_be_read(client: Any, content: bytes) -> None:
    for path in ("/chat/completions", "/embeddings"):
        with pytest.raises(openai.BadRequestError) as refused:
            await settled(client.post(path, cast_to=object, content=content))
        assert refused.value.type == "invalid_request_error"


@pytest.mark.targets("standin", "openai/http", "local/http")
@pytest.mark.parametrize("path", ["/models", "/chat/completions", "/embeddings"])
async def test_wrong_key(client: Any, path: str) -> None:
    stranger = client.with_options(api_key="sk-wrong-0123456789abcdef")
    call = stranger.get if path == "/models" else stranger.post
    with pytest.raises(openai.AuthenticationError) as refused:
        await settled(call(path, cast_to=object))
    assert refused.value.code == "invalid_api_key"
    assert "0123456789ab" not in refused.value.message


@pytest.mark.targets("standin", "openai/http", "local/http")
async def test_no_key(client: Any) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        await settled(
            client.chat.completions.create(**ask(), extra_headers={"Authorization": openai.Omit()})
        )
    assert refused.value.type == "invalid_request_error"


HOSTED_FAILURES = {
    "rate_limit": openai.RateLimitError,
    "insufficient_quota": openai.RateLimitError,
    "server_error": openai.InternalServerError,
    "unavailable": openai.InternalServerError,
}


@pytest.mark.targets(*HOSTED)
@pytest.mark.parametrize("fault", HOSTED_FAILURES)
async def test_failures_of_the_host_come_through(client: Any, target: Any, fault: str) -> None:
    target.standin.faults.add(fault)
    with pytest.raises(HOSTED_FAILURES[fault]) as failed:
        await settled(client.chat.completions.create(**ask()))
    assert failed.value.message
    if fault == "rate_limit":
        assert failed.value.response.headers["retry-after"] == "1"


@pytest.mark.targets(*HOSTED)
async def test_the_sdk_retries(client: Any, target: Any) -> None:
    target.standin.faults.add("rate_limit_ms", times=2, ms=5)
    patient = client.with_options(max_retries=2)
    assert (await settled(patient.chat.completions.create(**ask()))).choices
    assert len(target.standin.requests) == 3


@pytest.mark.targets("openai/process", "openai/http")
async def test_the_request_arrives_byte_for_byte(client: Any, target: Any, wiretap: Any) -> None:
    await settled(client.chat.completions.create(**ask(), extra_headers={"x-trace": "7"}))
    assert target.standin.last.body == wiretap.last.request
    assert bytes(wiretap.last.body) == target.standin.last.answer
    assert target.standin.last.headers["authorization"] == f"Bearer {KEY}"


async def test_it_still_answers_after_all_that(client: Any) -> None:
    assert (await settled(client.chat.completions.create(**ask(messages=HELLO)))).choices
