"""A Responses request, from JSON to frozen data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provider.errors import InvalidRequest
from provider.protocol import values
from provider.protocol.responses.items import typed
from provider.protocol.responses.parameters import INPUT_TOKENS, LOGPROBS, RESPONSES
from provider.protocol.shapes import Object

Item = Mapping[str, Any]

_MOVED = {
    "messages": "input",
    "response_format": "text.format",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A request that can be honoured as far as can be known without the model and what is kept.

    `body` is the checked body, without fields that are null; `input` its items, a text being one.
    `ignored` are the paths of harmless fields that were sent.
    """

    body: Mapping[str, Any]
    input: tuple[Item, ...]
    ignored: tuple[str, ...] = ()

    @property
    def previous(self) -> str | None:
        found: str | None = self.body.get("previous_response_id")
        return found

    @property
    def store(self) -> bool:
        return self.body.get("store") is not False

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def logprobs(self) -> bool:
        included = LOGPROBS in self.body.get("include", ())
        return included or bool(self.body.get("top_logprobs"))

    @property
    def truncates(self) -> bool:
        return self.body.get("truncation") == "auto"


def parse(body: Mapping[str, Any]) -> ResponsesRequest:
    """The response that `body` asks for. Raises `InvalidRequest` naming the parameter."""
    for name, place in _MOVED.items():
        if name in body:
            raise _moved(name, place)
    request = _checked(RESPONSES, body)
    if "stream_options" in request.body and not request.stream:
        raise values.conflict(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        )
    return request


def parse_count(body: Mapping[str, Any]) -> ResponsesRequest:
    """The request whose input tokens `body` asks for."""
    return _checked(INPUT_TOKENS, body)


def _checked(table: Object, body: Mapping[str, Any]) -> ResponsesRequest:
    said = {name: _typed(name, value) for name, value in body.items()}
    ignored: list[str] = []
    table.check(said, "", ignored.append)
    given = {name: value for name, value in said.items() if value is not None}
    request = ResponsesRequest(given, _items(given.get("input", [])), _distinct(ignored))
    if not request.input and request.previous is None:
        raise InvalidRequest(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be "
            "provided.",
            code="missing_required_parameter",
        )
    _check_choice(given)
    return request


def _typed(name: str, value: Any) -> Any:
    return [typed(item) for item in value] if name == "input" and type(value) is list else value


def _items(said: str | Sequence[Item]) -> tuple[Item, ...]:
    if isinstance(said, str):
        return ({"type": "message", "role": "user", "content": said},) if said else ()
    return tuple(said)


def _check_choice(body: Mapping[str, Any]) -> None:
    """Without tools nothing can be demanded of them."""
    choice = body.get("tool_choice", "auto")
    if choice in ("auto", "none") or body.get("tools"):
        return
    said = choice if isinstance(choice, str) else choice["type"]
    raise values.conflict(
        "tool_choice", f"Tool choice '{said}' must be specified with 'tools' parameter."
    )


def _moved(name: str, place: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to "
        f"'{place}'. Try again with the new parameter.",
        param=name,
        code="unsupported_parameter",
    )


def _distinct(paths: Sequence[str]) -> tuple[str, ...]:
    """Paths without indices, each once."""
    return tuple(dict.fromkeys(re.sub(r"\[\d+\]", "[]", path) for path in paths))
