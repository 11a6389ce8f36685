"""One answer beside the expected one, as a number between 0 and 1.

JSON: the share of right values, leaf by leaf, over all leaves that either has; 0 for what is no
JSON or breaks the schema, since an app cannot use it. A text of 30 characters or more counts by
its chrF, any other value is right or wrong. Calls: the same over names and arguments. Text: 1 where
it is equal but for white space, otherwise chrF.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from finetune.asking.asker import Reply
from finetune.data.conversation import Conversation
from finetune.data.schemas import AnswerSchema
from finetune.evaluate.chrf import chrf

Kind = Literal["json", "calls", "text"]

_PROSE = 30
_NOTHING = object()


@dataclass(frozen=True)
class Score:
    """`valid` is whether JSON was JSON and kept to its schema (None for text); `reason` says what
    was wrong with an answer that scores 0."""

    kind: Kind
    score: float
    exact: bool
    valid: bool | None = None
    reason: str = ""


def kind_of(conversation: Conversation) -> Kind:
    """What the expected answer is."""
    if conversation.answer.get("tool_calls"):
        return "calls"
    return "text" if _parsed(conversation.answer["content"]) is _NOTHING else "json"


def score(conversation: Conversation, reply: Reply, schema: AnswerSchema | None) -> Score:
    """The score of `reply` where `conversation.answer` is right."""
    kind = kind_of(conversation)
    valid = None if kind == "text" else False
    if reply.message is None:
        return Score(kind, 0.0, False, valid, f"refused: {reply.refused}")
    if kind == "text":
        return _text(conversation.answer["content"], reply.text)
    try:
        if kind == "calls":
            return _calls(conversation.answer, reply.message)
        return _json(conversation.answer["content"], reply, schema)
    except RecursionError:
        return Score(kind, 0.0, False, False, "nested too deeply")


def _text(expected: str, given: str) -> Score:
    exact = " ".join(given.split()) == " ".join(expected.split())
    return Score("text", 1.0 if exact else chrf(given, expected), exact)


def _json(expected: str, reply: Reply, schema: AnswerSchema | None) -> Score:
    value = _parsed(reply.text)
    if value is _NOTHING:
        cut = " (cut off)" if reply.finish_reason == "length" else ""
        return Score("json", 0.0, False, False, f"no JSON{cut}")
    if schema is not None and (wrong := schema.problem(value)) is not None:
        return Score("json", 0.0, False, False, ": ".join(filter(None, wrong)))
    right = fields(json.loads(expected), value)
    return Score("json", right, right == 1.0, True)


def _calls(expected: Mapping[str, Any], given: Mapping[str, Any]) -> Score:
    wanted, made = _called(expected), _called(given)
    if made is None or not given.get("tool_calls"):
        return Score("calls", 0.0, False, False, "no call" if made == [] else "no JSON arguments")
    right = fields(wanted, made)
    return Score("calls", right, right == 1.0, True)


def _called(message: Mapping[str, Any]) -> list[Any] | None:
    calls = []
    for call in message.get("tool_calls") or ():
        arguments = _parsed(call["function"]["arguments"])
        if arguments is _NOTHING:
            return None
        calls.append({"name": call["function"]["name"], "arguments": arguments})
    return calls


def fields(expected: Any, given: Any) -> float:
    """The share of right leaves of all leaves that either value has; 1 for equal values."""
    wanted, got = dict(_leaves(expected, "")), dict(_leaves(given, ""))
    paths = wanted.keys() | got.keys()
    right = sum(_same(wanted[path], got[path]) for path in wanted.keys() & got.keys())
    return right / len(paths)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """`(path, value)` for each value without members; an empty object or array is one, too."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{path}/{name.replace('/', '~1')}")
    elif isinstance(value, list) and value:
        for place, item in enumerate(value):
            yield from _leaves(item, f"{path}/{place}")
    else:
        yield path, value


def _same(expected: Any, given: Any) -> float:
    if isinstance(expected, bool) or isinstance(given, bool):
        return float(expected is given)
    if isinstance(expected, (int, float)) and isinstance(given, (int, float)):
        return float(math.isclose(expected, given, rel_tol=1e-6, abs_tol=1e-9))
    if isinstance(expected, str) and isinstance(given, str):
        one, other = (unicodedata.normalize("NFC", text.strip()) for text in (expected, given))
        return chrf(other, one) if len(one) >= _PROSE else float(one == other)
    return float(expected == given)


def _parsed(text: str | None) -> Any:
    """The object or array that the text is; `_NOTHING` for any other text."""
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        return _NOTHING
    return value if isinstance(value, (dict, list)) else _NOTHING
