"""Prompts and answers in the GenAI conventions' form, for those who ask for them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from provider.protocol.responses.read import messages_of


def input_messages(body: Mapping[str, Any]) -> str:
    """`gen_ai.input.messages`: a chat's or a response's messages as JSON."""
    messages = body.get("messages") or messages_of(body)
    listed = messages if isinstance(messages, list) else []
    return _text([_message(one) for one in listed if isinstance(one, Mapping)])


def output_messages(choices: Sequence[Mapping[str, Any]]) -> str:
    """`gen_ai.output.messages`: the choices `{"message": ..., "finish_reason": ...}` as JSON."""
    return _text(
        [
            {**_message(choice["message"]), "finish_reason": choice.get("finish_reason") or "error"}
            for choice in choices
        ]
    )


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, parts = message.get("role"), _parts(message.get("content"))
    if role == "tool":
        said = "".join(part.get("content", "") for part in parts)
        response = {"type": "tool_call_response", "id": message.get("tool_call_id")}
        return {"role": "tool", "parts": [{**response, "response": said}]}
    return {"role": role, "parts": [*parts, *_calls(message.get("tool_calls"))]}


def _parts(content: Any) -> list[dict[str, Any]]:
    """Texts; of anything else (an image, a sound) only its kind."""
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    parts: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping):
            text = part.get("text")
            said = {"content": text} if isinstance(text, str) else {}
            parts.append({"type": str(part.get("type")), **said})
    return parts


def _calls(calls: Any) -> list[dict[str, Any]]:
    found = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") or {} if isinstance(call, Mapping) else {}
        found.append(
            {
                "type": "tool_call",
                "id": call.get("id") if isinstance(call, Mapping) else None,
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    return found


def _text(messages: list[dict[str, Any]]) -> str:
    return json.dumps(messages, ensure_ascii=False, separators=(",", ":"), default=str)
