"""ShareGPT's turns as OpenAI's messages: who speaks, what a tool was called with and answered.

{"from": "human", "value": text}            a user's message; `gpt` an assistant's
{"from": "function_call", "value": JSON}    {"name", "arguments"}, or a list of several
{"from": "observation", "value": text}      the answer to the first call that has none
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from finetune.data.malformed import Malformed
from provider.protocol.serial import dumps
from provider.protocol.values import type_word

_SPEAKERS = {"human": "user", "gpt": "assistant"}
_CALLS = ("function_call", "tool_call")
_ANSWERS = ("observation", "function_response", "tool")


def turns(value: Any, kind: str) -> list[Any]:
    """The messages in the column `kind`. Raises `Malformed` naming the turn."""
    if not isinstance(value, list):
        raise Malformed(kind, f"expected an array of messages, got {type_word(value)}")
    open_calls: list[str] = []
    return [_turn(item, f"{kind}[{index}]", open_calls) for index, item in enumerate(value)]


def _turn(item: Any, path: str, open_calls: list[str]) -> Any:
    """A ShareGPT turn as a message; anything else as it is, without fields that are null."""
    if not isinstance(item, dict):
        raise Malformed(path, f"expected an object, got {type_word(item)}")
    turn = {key: value for key, value in item.items() if value is not None or key == "content"}
    if "from" not in turn or "role" in turn:
        return turn
    speaker = turn.pop("from")
    if "value" not in turn:
        raise Malformed(f"{path}.value", "is missing; expected the text of the turn")
    value = turn.pop("value")
    if speaker in _CALLS:
        return {"role": "assistant", "content": None, "tool_calls": _calls(value, path, open_calls)}
    if speaker in _ANSWERS and "tool_call_id" not in turn:
        if not open_calls:
            raise Malformed(f"{path}.from", f"{speaker!r} answers no function_call before it")
        return {"role": "tool", "tool_call_id": open_calls.pop(0), "content": value}
    role = _SPEAKERS.get(speaker, speaker) if isinstance(speaker, str) else speaker
    return {"role": role, "content": value, **turn}


def _calls(value: Any, path: str, open_calls: list[str]) -> list[Any]:
    stated = _unpacked(value, path)
    calls = []
    for number, call in enumerate(stated if isinstance(stated, list) else [stated]):
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise Malformed(f"{path}.value", 'expected JSON {"name": ..., "arguments": {...}}')
        arguments = call.get("arguments", {})
        text = arguments if isinstance(arguments, str) else dumps(arguments)
        name = f"call_{path.rsplit('[', 1)[-1].rstrip(']')}_{number}"
        open_calls.append(name)
        called = {"name": call["name"], "arguments": text}
        calls.append({"id": name, "type": "function", "function": called})
    return calls


def _unpacked(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{path}.value", f"is no JSON ({error}); expected a call") from None


def exchanges(value: Any, field: str) -> Sequence[Any]:
    """Earlier rounds of an Alpaca record, [[question, answer], ...], as messages."""
    messages: list[Any] = []
    for index, pair in enumerate(value if isinstance(value, list) else [value]):
        if not isinstance(pair, list) or len(pair) != 2:
            raise Malformed(f"{field}[{index}]", "expected [question, answer]")
        asked, answered = pair
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    return messages
