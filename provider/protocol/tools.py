"""Function calls in the model's text: how they are written, constrained and read.

One call is

    <tool_call>{"name":"get_weather","arguments":{"city":"Seoul"}}</tool_call>

compact JSON, several calls directly after each other, text only before the first. Models whose
template knows tools write nearly the same (Hermes, Qwen, EXAONE 4); a model whose template knows
none is told the format in the system message (`provider.protocol.conversation`).
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from provider.protocol.deltas import CallArguments, CallStart, Delta, Text
from provider.protocol.serial import dumps
from provider.protocol.toolspec import Function

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
_NAME = '{"name":"'
_ARGUMENTS = '","arguments":'
_HEADER = re.compile(f'{OPEN}{re.escape(_NAME)}([^"]*){_ARGUMENTS}')
_TAIL = "}" + CLOSE
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def new_call_id() -> str:
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def written(name: str, arguments: str) -> str:
    """A call as the model writes it. Arguments that are JSON are brought into its one form;
    others stay the client's own text."""
    with contextlib.suppress(ValueError, RecursionError):
        arguments = dumps(json.loads(arguments))
    return f"{began(name)}{arguments}{ended()}"


def began(name: str) -> str:
    """What stands before a call's arguments."""
    return f"{OPEN}{_NAME}{name}{_ARGUMENTS}"


def ended() -> str:
    """What stands after a call's arguments."""
    return _TAIL


def grammar(
    functions: Sequence[Function], *, text: str | None, parallel: bool
) -> tuple[str, dict[str, Mapping[str, Any]]]:
    """A Lark grammar of calls to `functions`, and the schemas of its rules.

    `text` says what the model may write instead of a call: None nothing, "" free text (also before
    calls), otherwise what a rule of that name, which the caller adds, allows.
    """
    more = " call*" if parallel else ""
    bodies = (
        f"{json.dumps(_NAME + function.name + _ARGUMENTS)} args{index} {json.dumps(_TAIL)}"
        for index, function in enumerate(functions)
    )
    rules = [
        f"start: {_start(text)}",
        f"calls: call{more}",
        f"call: {json.dumps(OPEN)} body",
        f"body: {' | '.join(bodies)}",
    ]
    if text == "":
        rules += [f"rest: body{more}", *_FREE_TEXT]
    schemas = {f"args{index}": function.parameters for index, function in enumerate(functions)}
    return "\n".join(rules) + "\n", schemas


def _start(text: str | None) -> str:
    if text is None:
        return "calls"
    return f"{text} | calls" if text else "LAST | calls | before rest"


_FREE_TEXT = (
    rf'before[suffix="{OPEN}"]: /(.|\n)*/',
    rf"LAST: /(.|\n)*/ & ~/(.|\n)*{OPEN}(.|\n)*/",
)


def before_arguments(functions: Sequence[Function]) -> dict[str, str]:
    """What stands right before the arguments of each function: by the name of their rule."""
    return {f"args{index}": began(function.name) for index, function in enumerate(functions)}


class CallReader:
    """Reads one answer that the grammar constrains, piece by piece.

    Pieces of arguments go out as the model writes them. A call that is cut before its name is
    complete is dropped; one that is cut in its arguments stays cut. `after_text` says whether calls
    may follow text; where the text is JSON they may not, and its strings may hold anything.
    """

    def __init__(self, *, after_text: bool = True, new_id: Callable[[], str] = new_call_id) -> None:
        self._new_id = new_id
        self._after_text = after_text
        self._buffer = ""
        self._index = -1
        self._value = JsonObject()
        self._step: Callable[[], Delta | None] = self._text

    def feed(self, text: str) -> list[Delta]:
        self._buffer += text
        deltas = []
        while (delta := self._step()) is not None:
            deltas.append(delta)
        return deltas

    def close(self) -> list[Delta]:
        rest, self._buffer = self._buffer, ""
        return [Text(rest)] if rest and self._step in (self._text, self._only_text) else []

    def _take(self, length: int) -> str:
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _text(self) -> Delta | None:
        if not (self._after_text or OPEN.startswith(self._buffer[: len(OPEN)])):
            self._step = self._only_text
            return self._only_text()
        found = self._buffer.find(OPEN)
        if found >= 0:
            self._step = self._header
        text = self._take(found if found >= 0 else len(self._buffer) - _begun(self._buffer, OPEN))
        return Text(text) if text else (self._header() if found >= 0 else None)

    def _only_text(self) -> Delta | None:
        text = self._take(len(self._buffer))
        return Text(text) if text else None

    def _header(self) -> Delta | None:
        match = _HEADER.match(self._buffer)
        if match is None:
            return None
        self._take(match.end())
        self._index += 1
        self._value = JsonObject()
        self._step = self._arguments
        return CallStart(self._index, self._new_id(), match[1])

    def _arguments(self) -> Delta | None:
        piece = self._take(self._value.taken(self._buffer))
        if self._value.complete:
            self._step = self._tail
        return CallArguments(self._index, piece) if piece else None

    def _tail(self) -> Delta | None:
        if not self._buffer.startswith(_TAIL):
            return None
        self._take(len(_TAIL))
        self._step = self._text
        return self._text()


def _begun(text: str, marker: str) -> int:
    """How many characters at the end of `text` may begin `marker`."""
    longest = min(len(text), len(marker) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(marker[:n])), 0)


_NESTING = {"{": 1, "[": 1, "}": -1, "]": -1}


class JsonObject:
    """Finds the end of a JSON object that arrives in pieces."""

    def __init__(self) -> None:
        self.complete = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def taken(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
        for index, character in enumerate(text):
            self._see(character)
            if self.complete:
                return index + 1
        return len(text)

    def _see(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped = character == "\\"
            self._in_string = character != '"'
        elif character == '"':
            self._in_string = True
        else:
            self._depth += _NESTING.get(character, 0)
            self.complete = self._depth == 0
