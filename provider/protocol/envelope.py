"""Function calls as one JSON object, for servers that hold an answer to a JSON Schema.

The object is

    {"tool_calls": [{"name": "get_weather", "arguments": {"city": "Seoul"}}]}

`schema` is its JSON Schema; `Transcriber` turns the server's text, whatever blanks are in it, into
the form that `provider.protocol.tools` reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from provider.errors import BadGateway
from provider.protocol.tools import JsonObject, began, ended
from provider.protocol.toolspec import Function

INSTRUCTION = (
    "Now write nothing but the calls, as one JSON object: "
    '{"tool_calls":[{"name":"NAME","arguments":{...}}]}'
)
_HEAD = '{"tool_calls":['
_CALL = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')
_CALL_END = re.compile(r"\s*\}")
_NEXT = re.compile(r"\s*([,\]])")
_END = re.compile(r"\s*\}\s*")
_LONGEST = 4096
"""Characters that may stand between two values; a server that writes more has lost the form."""


def schema(
    functions: Sequence[Function], *, parallel: bool, answer: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The JSON Schema of one call at least, one exactly where they are not `parallel`.

    With `answer` an instance of that schema may be written instead.
    """
    places: dict[str, Any] = {}
    calls = [
        _closed(
            name={"type": "string", "enum": [function.name]},
            arguments=_placed(function.parameters, f"args{index}", places),
        )
        for index, function in enumerate(functions)
    ]
    items = {
        "type": "array",
        "items": calls[0] if len(calls) == 1 else {"anyOf": calls},
        "minItems": 1,
        **({} if parallel else {"maxItems": 1}),
    }
    root = _closed(tool_calls=items)
    if answer is not None:
        root = {"anyOf": [_placed(answer, "answer", places), root]}
    return {**root, "$defs": places} if places else root


def _closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _placed(schema: Mapping[str, Any], name: str, places: dict[str, Any]) -> Mapping[str, Any]:
    """The schema inside of another one: its references count from where it stands."""
    moved = _moved(schema, f"#/$defs/{name}")
    if moved == schema:
        return schema
    places[name] = moved
    return {"$ref": f"#/$defs/{name}"}


_BY_NAME = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_DATA = {"const", "enum", "default", "examples"}


def _moved(schema: Any, base: str) -> Any:
    if isinstance(schema, list):
        return [_moved(item, base) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _member(key, value, base) for key, value in schema.items()}


def _member(key: str, value: Any, base: str) -> Any:
    if key == "$ref" and isinstance(value, str) and value.startswith("#"):
        return base + value[1:]
    if key in _DATA:
        return value
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: _moved(inner, base) for name, inner in value.items()}
    return _moved(value, base)


class Transcriber:
    """Turns one answer's text, piece by piece, from the object into calls as the model's own form.

    With `or_text` an answer that is not the object passes through as it is. Raises `BadGateway`
    for text that is neither: then the server does not hold its answers to a schema.
    """

    def __init__(self, *, or_text: bool = False) -> None:
        self._or_text = or_text
        self._buffer = ""
        self._value = JsonObject()
        self._step: Callable[[], str | None] = self._head

    def feed(self, text: str) -> str:
        self._buffer += text
        written = []
        while (piece := self._step()) is not None:
            written.append(piece)
        return "".join(written)

    def close(self, reason: str) -> str:
        """What was held back; `reason` is why the server stopped."""
        rest, self._buffer = self._buffer, ""
        if self._step == self._text or (self._or_text and self._step == self._head):
            return rest
        if reason == "stop" and (self._step != self._over or rest.strip()):
            raise _formless(rest)
        return ""

    def _take(self, length: int) -> str:
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._buffer)
        if found is None and len(self._buffer) > _LONGEST:
            raise _formless(self._buffer)
        if found is not None:
            self._take(found.end())
        return found

    def _head(self) -> str | None:
        begun = "".join(self._buffer.split())
        if begun.startswith(_HEAD):
            self._take(self._buffer.index("[") + 1)
            self._step = self._call
            return ""
        if _HEAD.startswith(begun) and len(self._buffer) <= _LONGEST:
            return None
        if not self._or_text:
            raise _formless(self._buffer)
        self._step = self._text
        return self._text()

    def _text(self) -> str | None:
        return self._take(len(self._buffer)) or None

    def _call(self) -> str | None:
        found = self._match(_CALL)
        if found is None:
            return None
        self._value = JsonObject()
        self._step = self._arguments
        return began(found[1])

    def _arguments(self) -> str | None:
        piece = self._take(self._value.taken(self._buffer))
        if self._value.complete:
            self._step = self._call_end
        return piece or None

    def _call_end(self) -> str | None:
        if self._match(_CALL_END) is None:
            return None
        self._step = self._next
        return ended()

    def _next(self) -> str | None:
        found = self._match(_NEXT)
        if found is None:
            return None
        self._step = self._call if found[1] == "," else self._end
        return ""

    def _end(self) -> str | None:
        if self._match(_END) is None:
            return None
        self._step = self._over
        return None

    def _over(self) -> str | None:
        return None


def _formless(text: str) -> BadGateway:
    return BadGateway(
        f"The server behind LOCAL_LLM_BASE_URL wrote {json.dumps(text[:40])} where its answer was "
        "bound to a JSON Schema of calls; use a server that enforces response_format json_schema."
    )
