"""What cannot be rolled back is reported, refused, or let be."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from provider.errors import InvalidRequest
from provider.local.portable import Portability
from provider.protocol.chat import ChatRequest, parse
from provider.protocol.portability import Finding, findings, foreign_model, header


def request(**more: Any) -> ChatRequest:
    return parse({"model": "m", "messages": [{"role": "user", "content": "json"}], **more})


SCHEMA = "response_format.json_schema.schema"
STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def strict_format(schema: dict[str, Any], *, strict: bool = True) -> dict[str, Any]:
    form = {"name": "x", "strict": strict, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


DRAFT = {"type": "content", "content": "x"}


@pytest.mark.parametrize(
    ("more", "params"),
    [
        ({}, []),
        ({"temperature": 0, "max_tokens": 5, "seed": 1, "stop": ["a"]}, []),
        ({"logit_bias": {"1": 5}}, ["logit_bias"]),
        ({"prediction": DRAFT}, []),
        ({"prediction": DRAFT, "n": 2, "logprobs": True}, ["prediction", "prediction"]),
        ({"prediction": DRAFT, "max_completion_tokens": 5}, ["prediction"]),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "description": "x" * 1025}}]},
            ["tools[0].function.description"],
        ),
        (strict_format(STRICT), []),
        (strict_format({**STRICT, "additionalProperties": True}), [f"{SCHEMA}#"]),
        (strict_format({"type": "object", "properties": {}}, strict=False), []),
        (strict_format({**STRICT, "titel": "x"}, strict=False), [f"{SCHEMA}#"]),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "strict": True,
                            "parameters": {**STRICT, "properties": {"a": {"minLength": 1}}},
                        },
                    }
                ]
            },
            ["tools[0].function.parameters#/properties/a"] * 2,
        ),
    ],
)
def test_findings(more: dict[str, Any], params: list[str]) -> None:
    assert [finding.param for finding in findings(request(**more))] == params


def test_the_header_is_one_short_line_of_ascii() -> None:
    text = header([foreign_model("평면도"), Finding("a", "b\nc")] * 200)
    assert text.startswith("model: OpenAI has no model '\\ud3c9\\uba74\\ub3c4'; ask for a name")
    assert text.isascii()
    assert "\n" not in text
    assert len(text) == 2000


def test_warn_tells_the_response_always_and_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = Portability("warn")
    biased = request(logit_bias={"1": 5})
    with caplog.at_level(logging.WARNING):
        headers = [policy.headers(biased, foreign=False) for _ in range(3)]
    assert headers[0] == headers[2]
    assert headers[0]["x-portability"].startswith("logit_bias: ")
    assert len(caplog.records) == 1
    assert policy.headers(request(), foreign=False) == {}
    assert "no model 'm'" in policy.headers(request(), foreign=True)["x-portability"]


def test_enforce_refuses() -> None:
    policy = Portability("enforce")
    assert policy.headers(request(), foreign=False) == {}
    with pytest.raises(InvalidRequest) as caught:
        policy.headers(request(logit_bias={"1": 5}), foreign=True)
    assert (caught.value.param, caught.value.code) == ("model", "not_portable")
    assert "(and 1 more)" in caught.value.message


def test_off_is_silent() -> None:
    assert Portability("off").headers(request(logit_bias={"1": 5}), foreign=True) == {}
