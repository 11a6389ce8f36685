"""A Responses request of any side as the chat request that a recording keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provider.errors import InvalidRequest
from provider.protocol.responses.chat import chat_format, chat_instructions
from provider.protocol.responses.items import INPUT, typed
from provider.protocol.responses.tools import chat_tool
from provider.protocol.responses.turns import turns

_ELSEWHERE = ("previous_response_id", "conversation", "prompt")
"""What stands for something that is kept by the side that answers."""


def kept_elsewhere(body: Mapping[str, Any]) -> bool:
    """Whether a request can only be answered by the side that keeps what it refers to."""
    if any(body.get(name) is not None for name in _ELSEWHERE):
        return True
    items = body.get("input")
    return isinstance(items, list) and any(
        isinstance(item, dict) and typed(item)["type"] == "item_reference" for item in items
    )


def recorded(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """`messages`, and `tools` and `response_format` where there are any; None where the request
    does not say the whole conversation, or has what is not text or functions."""
    tools = body.get("tools") or ()
    if kept_elsewhere(body) or any(tool.get("type") != "function" for tool in tools):
        return None
    said = body.get("input")
    items = [typed(item) for item in said] if isinstance(said, list) else said
    try:
        INPUT.check(items, "input", _unnoted)
        spoken = turns([_user(items)] if isinstance(items, str) else items or ())
    except InvalidRequest:
        return None
    messages = [message for turn in spoken for message in turn.messages()]
    chat: dict[str, Any] = {"messages": [*chat_instructions(body), *messages]}
    if tools:
        chat["tools"] = [chat_tool(tool) for tool in tools]
    if (form := chat_format(body)) is not None:
        chat["response_format"] = form
    return chat


def _user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


def _unnoted(path: str) -> None:
    """A recording has no headers to name what it leaves out."""
