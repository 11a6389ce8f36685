"""Items of a conversation as the chat API's messages.

A call and what came of it may be anywhere among the items; in a chat the results follow their
calls. So each turn of the assistant (a text, calls, or both) is one message and stands where its
first item stood, with its results right behind it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from provider.errors import InvalidRequest
from provider.protocol.responses.request import Item


@dataclass
class Turn:
    """A message, and the results of the functions that it calls."""

    message: dict[str, Any]
    results: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """Whether it says what is to be done: instructions are not left out to save room."""
        return self.message["role"] in ("system", "developer")

    def messages(self) -> list[dict[str, Any]]:
        return [self.message, *(result for result in self.results.values() if result is not None)]


class _Reader:
    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self._open: dict[str, Turn] = {}
        self._growing: Turn | None = None

    def message(self, item: Item) -> None:
        turn = Turn({"role": item["role"], "content": text_of(item["content"])})
        self.turns.append(turn)
        self._growing = turn if item["role"] == "assistant" else None

    def call(self, item: Item) -> None:
        if item["call_id"] in self._open:
            raise _refused(f"Duplicate function call with call_id {item['call_id']}.")
        if self._growing is None:
            self._growing = Turn({"role": "assistant", "content": None})
            self.turns.append(self._growing)
        turn = self._growing
        function = {"name": item["name"], "arguments": item["arguments"]}
        called = {"id": item["call_id"], "type": "function", "function": function}
        turn.message.setdefault("tool_calls", []).append(called)
        turn.results[item["call_id"]] = None
        self._open[item["call_id"]] = turn

    def output(self, item: Item) -> None:
        call_id = item["call_id"]
        turn = self._open.pop(call_id, None)
        if turn is None:
            raise _refused(f"No tool call found for function call output with call_id {call_id}.")
        content = text_of(item["output"])
        turn.results[call_id] = {"role": "tool", "tool_call_id": call_id, "content": content}
        self._growing = None

    def nothing(self, item: Item) -> None:
        """Thoughts of another model are not shown to this one."""

    def end(self) -> list[Turn]:
        for call_id in self._open:
            raise _refused(f"No tool output found for function call {call_id}.")
        return self.turns


_READ: dict[str, Callable[[_Reader, Item], None]] = {
    "message": _Reader.message,
    "function_call": _Reader.call,
    "function_call_output": _Reader.output,
    "reasoning": _Reader.nothing,
}


def turns(items: Iterable[Item]) -> list[Turn]:
    """The turns of checked items, references resolved.

    Raises `InvalidRequest` for a call without its output and an output without its call.
    """
    reader = _Reader()
    for item in items:
        _READ[item["type"]](reader, item)
    return reader.end()


def text_of(content: Any) -> str:
    """A string, or the joined texts of parts; a refusal is read as what was said."""
    if isinstance(content, str):
        return content
    return "".join(part["refusal"] if "refusal" in part else part["text"] for part in content)


def without_oldest(said: Sequence[Turn], count: int) -> list[Turn]:
    """The turns without the `count` oldest ones that may be left out: neither instructions nor the
    newest turn is among them."""
    droppable = [turn for turn in said[:-1] if not turn.pinned]
    dropped = {id(turn) for turn in droppable[:count]}
    return [turn for turn in said if id(turn) not in dropped]


def droppable(said: Sequence[Turn]) -> int:
    """How many turns may be left out."""
    return sum(not turn.pinned for turn in said[:-1])


_LIMIT = re.compile(r"maximum context length is (\d+) tokens")
_PROMPT = re.compile(r"(\d+) in the messages|resulted in (\d+) tokens")
_COMPLETION = re.compile(r"(\d+) in the completion")


def expendable(said: Sequence[Turn], refusal: str) -> int:
    """How many of the oldest turns may be left out, one at least, before any of them would have
    fitted, by the figures of `refusal`, which says that the conversation is too long."""
    limit, prompt = _LIMIT.search(refusal), _PROMPT.search(refusal)
    if limit is None or prompt is None:
        return 1
    tokens = int(prompt[1] or prompt[2])
    completion = _COMPLETION.search(refusal)
    room = int(limit[1]) - (int(completion[1]) if completion else 0)
    spare = sum(map(_length, said)) * (1 - room / max(tokens, 1)) * _CAUTION
    count = 0
    for turn in (turn for turn in said[:-1] if not turn.pinned):
        spare -= _length(turn)
        if spare < 0:
            break
        count += 1
    return max(1, count)


_CAUTION = 0.8
"""Texts of the same length differ in tokens: less is left out at once than the figures say."""


def _length(turn: Turn) -> int:
    return len(json.dumps(turn.messages(), ensure_ascii=False))


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="input")
