"""The rules that a conversation's messages follow: OpenAI's own, and what learning needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.data.conversation import unweighted
from finetune.data.malformed import Malformed
from provider.errors import InvalidRequest
from provider.protocol.messages import MESSAGE, messages, text_of


def checked(raw: Sequence[Any]) -> tuple[Mapping[str, Any], ...]:
    """The messages in their one form. Raises `Malformed`."""
    if not raw:
        raise Malformed("messages", "is empty; expected at least a question and its answer")
    for index, message in enumerate(raw):
        _check_shape(message, f"messages[{index}]")
    if raw[-1]["role"] != "assistant":
        raise Malformed(
            f"messages[{len(raw) - 1}].role",
            f"the last message is of role {raw[-1]['role']!r}; expected an assistant's answer",
        )
    plain = _without_legacy_calls([{**message} for message in raw])
    for index, message in enumerate(plain):
        plain[index] = _plain(message, f"messages[{index}]")
    _check_order(plain)
    return tuple(plain)


def _check_shape(message: Any, path: str) -> None:
    if isinstance(message, dict) and "weight" in message:
        if message.get("role") != "assistant" or message["weight"] not in (0, 1):
            raise Malformed(f"{path}.weight", "expected 0 or 1, at an assistant's message")
        message = unweighted(message)
    try:
        MESSAGE.check(message, path, lambda _: None)
    except InvalidRequest as error:
        raise Malformed(error.param or path, error.message) from None


def _plain(message: dict[str, Any], path: str) -> dict[str, Any]:
    """Text parts joined; a message that says nothing is refused."""
    plain = {key: message[key] for key in message if key not in ("refusal", "annotations")}
    text = text_of(message.get("content")) or message.get("refusal") or ""
    calls = message.get("tool_calls")
    if not text.strip() and not calls and message["role"] not in ("tool", "function"):
        raise Malformed(f"{path}.content", "is empty")
    plain["content"] = text if text or not calls else None
    for name in ("tool_calls", "name"):
        if plain.get(name, "") is None:
            del plain[name]
    return plain


def _without_legacy_calls(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`function_call` and role `function` as `tool_calls` and role `tool`."""
    pending = ""
    for index, message in enumerate(raw):
        if (call := message.pop("function_call", None)) is not None:
            pending = f"call_{index}"
            message["tool_calls"] = [{"id": pending, "type": "function", "function": call}]
        elif message["role"] == "function":
            if not pending:
                raise Malformed(f"messages[{index}].role", "answers no function_call before it")
            raw[index] = {
                "role": "tool",
                "tool_call_id": pending,
                "content": message.get("content") or "",
            }
            pending = ""
    return raw


def _check_order(plain: Sequence[Mapping[str, Any]]) -> None:
    """Each call but the last message's is answered; nothing else is."""
    if all(message["role"] in ("system", "assistant", "developer") for message in plain):
        raise Malformed("messages", "has no user's message; expected a question")
    first = next(i for i, each in enumerate(plain) if each["role"] not in ("system", "developer"))
    if plain[first]["role"] == "assistant":
        raise Malformed(
            f"messages[{first}]",
            "an assistant speaks first; expected a question before it: remove it, or put the "
            "user's words before it",
        )
    try:
        messages([unweighted(message) for message in plain[:-1]])
    except InvalidRequest as error:
        field = (error.param or "messages").replace(".[", "[")
        raise Malformed(field, error.message) from None
    ids = [call["id"] for call in plain[-1].get("tool_calls") or ()]
    if len(ids) != len(set(ids)):
        raise Malformed(f"messages[{len(plain) - 1}].tool_calls", "has an id twice")
