"""The formats of a training example, each turned into OpenAI's.

    {"messages": [{"role", "content", "tool_calls"?, ...}], "tools"?, "agent_type"?}    OpenAI
    {"messages": [...], "model", "usage", "response_format"?, ...}                      LLM_RECORD
    {"conversations": [{"role", "content"}]}     {"conversations": [{"from", "value"}]}  ShareGPT
    {"instruction", "input"?, "output", "history"?, "agent_type"?}                      Alpaca
    {"prompt", "completion"}       texts, or messages of which the completion is learnt  TRL

A `system` beside them is the first message. `tools` may be JSON in a string, since the columns of
a datasets directory cannot hold anything. Further keys are left out, unless they look like a
misspelt one of these or hold what cannot be learnt (images, preferences).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from finetune.data.conversation import Conversation
from finetune.data.malformed import Malformed
from finetune.data.speakers import exchanges, turns
from finetune.data.turns import checked
from provider.errors import InvalidRequest
from provider.protocol.serial import dumps
from provider.protocol.shapes import Array
from provider.protocol.toolspec import TOOL, tools
from provider.protocol.values import type_word

_KINDS = ("messages", "conversations", "instruction", "completion")
KNOWN = (
    *(*_KINDS, "input", "output", "history", "prompt", "system", "agent_type"),
    *("tools", "functions", "response_format", "parallel_tool_calls", "model"),
)
"""Columns that are read."""
_EXPECTED = "expected messages, conversations, instruction with output, or prompt with completion"
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_PREFERENCES = ("chosen", "rejected", "preferred_output")
_TOOLS = Array(TOOL)


def conversation(record: Mapping[str, Any], source: str = "", line: int = 0) -> Conversation:
    """The conversation of one record. Raises `Malformed` naming the field and the reason."""
    stated = {key: value for key, value in record.items() if value is not None}
    _check_columns(stated)
    kind = _kind(stated)
    turns, before = _messages(stated, kind)
    try:
        messages = checked([*before, *turns])
    except Malformed as error:
        raise Malformed(_in_the_file(error.field, kind, len(before)), error.reason) from None
    return Conversation(
        messages=messages,
        tools=_tools(stated),
        agent_type=_text(stated, "agent_type") or None,
        source=source,
        line=line,
        response_format=_of_type(stated, "response_format", dict),
        parallel_tool_calls=_of_type(stated, "parallel_tool_calls", bool),
        model=_of_type(stated, "model", str),
    )


def _kind(stated: Mapping[str, Any]) -> str:
    found = [kind for kind in _KINDS if kind in stated]
    if len(found) == 1:
        return found[0]
    columns = ", ".join(stated) or "no column"
    raise Malformed("", f"has {' and '.join(found) or columns}; {_EXPECTED}")


def _messages(stated: Mapping[str, Any], kind: str) -> tuple[list[Any], list[Any]]:
    """The messages of the column `kind`, and those before them that stand elsewhere."""
    before: list[Any] = []
    if kind == "instruction":
        found = _instruction(stated)
        before += exchanges(stated.get("history") or [], "history")
    elif kind == "completion":
        found = _completion(stated, before)
    else:
        found = turns(stated[kind], kind)
    system = _text(stated, "system")
    return found, [{"role": "system", "content": system}, *before] if system else before


def _in_the_file(field: str, kind: str, before: int) -> str:
    """`messages[2].role` of the conversation, as the record has it."""
    place = re.fullmatch(r"messages\[(\d+)\](.*)", field)
    if place is None:
        return field
    index, rest = int(place[1]) - before, place[2]
    if kind == "instruction":
        return ("instruction", "output")[index] if index in (0, 1) else "history"
    return f"{kind}[{index}]{rest}" if index >= 0 else "system"


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


def _completion(stated: Mapping[str, Any], before: list[Any]) -> list[Any]:
    """The completion's messages; the prompt's, in which nothing is learnt, are put `before`."""
    asked, answered = stated.get("prompt"), stated["completion"]
    if isinstance(asked, str) and isinstance(answered, str):
        before.append({"role": "user", "content": asked})
        return [{"role": "assistant", "content": answered}]
    if not isinstance(asked, list) or not isinstance(answered, list):
        raise Malformed("prompt", "expected text in prompt and completion, or messages in both")
    for message in turns(asked, "prompt"):
        unlearnt = {"weight": 0} if message.get("role") == "assistant" else {}
        before.append({**message, **unlearnt})
    return turns(answered, "completion")


def _tools(stated: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    declared = _unpacked(stated.get("tools"), "tools")
    if declared is None and (functions := _unpacked(stated.get("functions"), "functions")):
        if not isinstance(functions, list):
            raise Malformed("functions", f"expected an array, got {type_word(functions)}")
        declared = [{"type": "function", "function": function} for function in functions]
    if not declared:
        return ()
    if isinstance(declared, list):  # functions by themselves, as ShareGPT has them
        declared = [
            {"type": "function", "function": each}
            if isinstance(each, dict) and "name" in each and "function" not in each
            else each
            for each in declared
        ]
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


def _check_columns(stated: Mapping[str, Any]) -> None:
    for name in _MEDIA:
        if stated.get(name):
            raise Malformed(name, "models here read text only; leave such lines out")
    for name in _PREFERENCES:
        if name in stated:
            why = "preferences (DPO) are not learnt here; expected the right answer alone"
            raise Malformed(name, f"{why}, as messages or prompt with completion")
    if found := _misspelt(tuple(stated)):
        raise Malformed(found[0], f"is no known column; did you mean {found[1]}?")
