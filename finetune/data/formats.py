"""The formats of a training example, each turned into OpenAI's.

    {"messages": [{"role", "content", "tool_calls"?, ...}], "tools"?, "agent_type"?}    OpenAI
    {"messages": [...], "model", "usage", "response_format"?, ...}                      LLM_RECORD
    {"conversations": [{"role", "content"}]}     {"conversations": [{"from", "value"}]}  ShareGPT
    {"instruction", "input"?, "output", "agent_type"?}                                  Alpaca

A `system` beside them is the first message. `tools` may be JSON in a string, since the columns of
a datasets directory cannot hold anything. Further keys are left out, unless they look like a
misspelt one of these.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from finetune.data.conversation import Conversation
from finetune.data.turns import Malformed, checked
from provider.errors import InvalidRequest
from provider.protocol.serial import dumps
from provider.protocol.shapes import Array
from provider.protocol.toolspec import TOOL, tools
from provider.protocol.values import type_word

_KINDS = ("messages", "conversations", "instruction")
KNOWN = (
    *(*_KINDS, "input", "output", "system", "agent_type", "tools", "functions"),
    *("response_format", "parallel_tool_calls", "model"),
)
"""Columns that are read."""
_EXPECTED = "expected messages, conversations, or instruction with output"
_SPEAKERS = {"human": "user", "gpt": "assistant"}
_TOOLS = Array(TOOL)


def conversation(record: Mapping[str, Any], source: str = "", line: int = 0) -> Conversation:
    """The conversation of one record. Raises `Malformed` naming the field and the reason."""
    stated = {key: value for key, value in record.items() if value is not None}
    _check_spelling(tuple(stated))
    return Conversation(
        messages=checked(_messages(stated)),
        tools=_tools(stated),
        agent_type=_text(stated, "agent_type") or None,
        source=source,
        line=line,
        response_format=_of_type(stated, "response_format", dict),
        parallel_tool_calls=_of_type(stated, "parallel_tool_calls", bool),
        model=_of_type(stated, "model", str),
    )


def _messages(stated: Mapping[str, Any]) -> list[Any]:
    found = [kind for kind in _KINDS if kind in stated]
    if len(found) != 1:
        columns = ", ".join(stated) or "no column"
        raise Malformed("", f"has {' and '.join(found) or columns}; {_EXPECTED}")
    [kind] = found
    turns = _instruction(stated) if kind == "instruction" else _turns(stated[kind], kind)
    system = _text(stated, "system")
    return [{"role": "system", "content": system}, *turns] if system else turns


def _instruction(stated: Mapping[str, Any]) -> list[Any]:
    if "output" not in stated:
        raise Malformed("output", "is missing; expected the answer to learn")
    asked = [_text(stated, "instruction"), _text(stated, "input", as_json=True)]
    if not any(asked):
        raise Malformed("instruction", "is empty, and so is input; expected a question")
    return [
        {"role": "user", "content": "\n\n".join(part for part in asked if part)},
        {"role": "assistant", "content": _text(stated, "output", as_json=True)},
    ]


def _turns(value: Any, kind: str) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed(kind, f"expected an array of messages, got {type_word(value)}")
    return [_turn(item, f"{kind}[{index}]") for index, item in enumerate(value)]


def _turn(item: Any, path: str) -> Any:
    """A ShareGPT turn as a message; anything else as it is, without fields that are null."""
    if not isinstance(item, dict):
        raise Malformed(path, f"expected an object, got {type_word(item)}")
    turn = {key: value for key, value in item.items() if value is not None or key == "content"}
    if "from" not in turn or "role" in turn:
        return turn
    speaker = turn.pop("from")
    if "value" not in turn:
        raise Malformed(f"{path}.value", "is missing; expected the text of the turn")
    role = _SPEAKERS.get(speaker, speaker) if isinstance(speaker, str) else speaker
    return {"role": role, "content": turn.pop("value"), **turn}


def _tools(stated: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    declared = _unpacked(stated.get("tools"), "tools")
    if declared is None and (functions := _unpacked(stated.get("functions"), "functions")):
        if not isinstance(functions, list):
            raise Malformed("functions", f"expected an array, got {type_word(functions)}")
        declared = [{"type": "function", "function": function} for function in functions]
    if not declared:
        return ()
    try:
        _TOOLS.check(declared, "tools", lambda _: None)
        tools({"tools": declared})
    except InvalidRequest as error:
        raise Malformed(error.param or "tools", error.message) from None
    return tuple(declared)


def _unpacked(value: Any, field: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError as error:
        raise Malformed(field, f"is a string that is no JSON ({error})") from None


def _text(stated: Mapping[str, Any], field: str, as_json: bool = False) -> str:
    """The field's text, "" where it is missing. An object or array is text as the server writes
    JSON, where `as_json` says so."""
    value = stated.get(field, "")
    if isinstance(value, str):
        return value
    if as_json and isinstance(value, (dict, list)):
        try:
            return dumps(value)
        except RecursionError:
            raise Malformed(field, "is nested too deeply") from None
    raise Malformed(field, f"expected text, got {type_word(value)}")


def _of_type(stated: Mapping[str, Any], field: str, kind: type) -> Any:
    value = stated.get(field)
    if value is None or type(value) is kind:
        return value
    raise Malformed(field, f"expected {type_word(kind())}, got {type_word(value)}")


@lru_cache(maxsize=1024)
def _misspelt(names: tuple[str, ...]) -> tuple[str, str] | None:
    free = [name for name in KNOWN if name not in names]
    for name in names:
        if name not in KNOWN and (near := difflib.get_close_matches(name, free, 1, 0.85)):
            return name, near[0]
    return None


def _check_spelling(names: tuple[str, ...]) -> None:
    if found := _misspelt(names):
        raise Malformed(found[0], f"is no known column; did you mean {found[1]}?")
