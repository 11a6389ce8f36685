"""A Responses request as the chat request that asks a model for the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from provider.protocol import values
from provider.protocol.responses.request import ResponsesRequest
from provider.protocol.responses.tools import chat_choice, chat_tool
from provider.protocol.responses.turns import Turn

_SAME = ("model", "temperature", "top_p", "presence_penalty", "frequency_penalty")


def chat_body(request: ResponsesRequest, said: Sequence[Turn]) -> dict[str, Any]:
    """The chat request: `said` is the conversation, without this request's instructions.

    Raises `InvalidRequest` for JSON that no message asks for.
    """
    body = request.body
    _check_json_is_named(body, said)
    chat = {name: body[name] for name in _SAME if name in body}
    chat["messages"] = [
        *chat_instructions(body),
        *(message for turn in said for message in turn.messages()),
    ]
    if "max_output_tokens" in body:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if (form := chat_format(body)) is not None:
        chat["response_format"] = form
    if body.get("tools"):
        chat |= _tools(body)
    if request.logprobs:
        chat |= {"logprobs": True, "top_logprobs": body.get("top_logprobs", 0)}
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def chat_instructions(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = _LENGTHS.get((body.get("text") or {}).get("verbosity") or "medium")
    text = "\n\n".join(filter(None, [body.get("instructions"), wanted]))
    return [{"role": "system", "content": text}] if text else []


_LENGTHS = {"low": "Keep the answer short.", "high": "Answer in detail."}
"""What the other values of `verbosity` than `medium` ask for."""


def chat_format(body: Mapping[str, Any]) -> dict[str, Any] | None:
    form = (body.get("text") or {}).get("format")
    if form is None or form["type"] == "text":
        return None
    if form["type"] == "json_object":
        return {"type": "json_object"}
    names = ("name", "schema", "description", "strict")
    schema = {name: form[name] for name in names if form.get(name) is not None}
    return {"type": "json_schema", "json_schema": schema}


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    tools: dict[str, Any] = {"tools": [chat_tool(tool) for tool in body["tools"]]}
    if "tool_choice" in body:
        tools["tool_choice"] = chat_choice(body["tool_choice"])
    if "parallel_tool_calls" in body:
        tools["parallel_tool_calls"] = body["parallel_tool_calls"]
    return tools


def _check_json_is_named(body: Mapping[str, Any], said: Sequence[Turn]) -> None:
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") != "json_object":
        return
    texts = (m["content"] or "" for turn in said for m in turn.messages())
    if not any("json" in text.lower() for text in texts):
        raise values.conflict(
            "text.format",
            "Response input messages must contain the word 'json' in some form to use "
            "'text.format' of type 'json_object'.",
        )


_PLACES = (
    (re.compile(r"\bresponse_format\.json_schema\b"), "text.format"),
    (re.compile(r"\bresponse_format\b(?! ')"), "text.format"),
    (re.compile(r"\b(tools\[\d+\])\.function\b"), r"\1"),
    (re.compile(r"\bmax_completion_tokens\b"), "max_output_tokens"),
    (re.compile(r"\bmessages(?=\.?\[\d+\])(\.?\[\d+\])?[\w.\[\]]*"), "input"),
)


def as_said(text: str) -> str:
    """A sentence about the chat request, about the Responses request that it was made of."""
    for pattern, place in _PLACES:
        text = pattern.sub(place, text)
    return text


def param_as_said(param: str | None) -> str | None:
    """A parameter of the chat request, in the Responses request."""
    if param is None or param == "messages":
        return param and "input"
    return as_said(param)
