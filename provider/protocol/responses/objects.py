"""The `response` object, its output items and its parts, with every field that OpenAI sends."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provider.protocol.responses.request import ResponsesRequest
from provider.protocol.responses.tools import shown

_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an answer that is not whole, and OpenAI's word for each."""


def new_id(kind: str) -> str:
    """`resp`, `msg`, `fc` or `fco`, and 48 hexadecimal digits, as OpenAI's."""
    return f"{kind}_{secrets.token_hex(24)}"


@dataclass(frozen=True)
class Head:
    """What every object of one response repeats; `created` is Unix seconds."""

    request: ResponsesRequest
    created: int
    id: str = field(default_factory=lambda: new_id("resp"))

    def response(self, status: str, model: str, output: Sequence[Any] = ()) -> dict[str, Any]:
        """The response while nothing is known of its end."""
        body = self.request.body
        text = body.get("text") or {}
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "max_tool_calls": body.get("max_tool_calls"),
            "model": model,
            "output": list(output),
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "presence_penalty": body.get("presence_penalty", 0.0),
            "frequency_penalty": body.get("frequency_penalty", 0.0),
            "previous_response_id": self.request.previous,
            "prompt_cache_key": body.get("prompt_cache_key"),
            "prompt_cache_retention": body.get("prompt_cache_retention"),
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": body.get("safety_identifier"),
            "service_tier": "default",
            "store": self.request.store,
            "temperature": body.get("temperature", 1.0),
            "text": {
                "format": _format(text.get("format")),
                "verbosity": text.get("verbosity") or "medium",
            },
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": [shown(tool) for tool in body.get("tools", ())],
            "top_logprobs": body.get("top_logprobs", 0),
            "top_p": body.get("top_p", 1.0),
            "truncation": body.get("truncation", "disabled"),
            "usage": None,
            "user": body.get("user"),
            "metadata": body.get("metadata", {}),
        }

    def ended(
        self,
        model: str,
        output: Sequence[Any],
        finish_reason: str,
        usage: Mapping[str, Any] | None,
        now: int,
    ) -> dict[str, Any]:
        """The finished response; `finish_reason` is the chat answer's, `usage` its usage."""
        reason = _REASONS.get(finish_reason)
        response = self.response("incomplete" if reason else "completed", model, output)
        response["completed_at"] = None if reason else now
        response["incomplete_details"] = {"reason": reason} if reason else None
        response["usage"] = usage_object(usage) if usage else None
        return response

    def failed(self, model: str, output: Sequence[Any], error: Mapping[str, Any]) -> dict[str, Any]:
        """The response that broke off; `error` is the body of the error."""
        response = self.response("failed", model, output)
        limited = error.get("code") == "rate_limit_exceeded"
        code = "rate_limit_exceeded" if limited else "server_error"
        response["error"] = {"code": code, "message": error["message"]}
        return response


def _format(form: Mapping[str, Any] | None) -> dict[str, Any]:
    if form is None or form["type"] != "json_schema":
        return {"type": form["type"] if form else "text"}
    return {
        "type": "json_schema",
        "name": form["name"],
        "description": form.get("description"),
        "schema": form["schema"],
        "strict": bool(form.get("strict")),
    }


def status_of(finish_reason: str) -> str:
    """The status of the item that an answer with this finish reason ended in."""
    return "incomplete" if finish_reason in _REASONS else "completed"


def message(id: str, status: str, parts: Sequence[Any]) -> dict[str, Any]:
    return {
        "id": id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": list(parts),
    }


def text_part(text: str, logprobs: Sequence[Any] = ()) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": list(logprobs), "text": text}


def refusal_part(text: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": text}


def call(id: str, status: str, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {
        "id": id,
        "type": "function_call",
        "status": status,
        "arguments": arguments,
        "call_id": call_id,
        "name": name,
    }


def usage_object(usage: Mapping[str, Any]) -> dict[str, Any]:
    """ResponseUsage of a chat answer's usage."""
    read = usage.get("prompt_tokens_details") or {}
    written = usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": read.get("cached_tokens") or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": written.get("reasoning_tokens") or 0},
        "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"],
    }


_KINDS = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def listed(item: Mapping[str, Any]) -> dict[str, Any]:
    """An input item as it is listed afterwards: with its id and status, and texts as parts."""
    found = {name: value for name, value in item.items() if value is not None}
    found.setdefault("id", new_id(_KINDS[item["type"]]))
    if item["type"] == "reasoning":
        return {"summary": [], **found}
    found.setdefault("status", "completed")
    if item["type"] == "message":
        found["content"] = _parts(item)
    return found


def _parts(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = item["content"]
    said = item["role"] == "assistant"
    if isinstance(content, str):
        return [text_part(content) if said else {"type": "input_text", "text": content}]
    if not said:
        return [dict(part) for part in content]
    return [
        dict(part) if part["type"] == "refusal" else {**text_part(part["text"]), **part}
        for part in content
    ]


def output_of(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The output items of a whole chat answer's choice."""
    said, reason = choice["message"], choice["finish_reason"]
    output: list[dict[str, Any]] = []
    calls = said.get("tool_calls") or ()
    parts = _said(said, (choice.get("logprobs") or {}).get("content") or ())
    if parts or not calls:
        output.append(message(new_id("msg"), "completed", parts or [text_part("")]))
    for called in calls:
        function = called["function"]
        output.append(
            call(new_id("fc"), "completed", called["id"], function["name"], function["arguments"])
        )
    output[-1]["status"] = status_of(reason)
    return output


def _said(said: Mapping[str, Any], logprobs: Sequence[Any]) -> list[dict[str, Any]]:
    parts = [text_part(said["content"], logprobs)] if said.get("content") else []
    return [*parts, refusal_part(said["refusal"])] if said.get("refusal") else parts
