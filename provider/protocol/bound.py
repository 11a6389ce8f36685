"""How another server is asked to write calls, and how its text is brought into our form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from provider.protocol import envelope
from provider.protocol.chat import ChatRequest
from provider.protocol.constraints import schema_of


class Writing(Protocol):
    """The state of one answer: its text so far becomes text that `tools.CallReader` reads."""

    def feed(self, text: str) -> str: ...
    def close(self, reason: str) -> str: ...


@dataclass(frozen=True)
class Bound:
    """`fields` go into the request, `instructions` to the model; the answer is held to `schema`."""

    schema: Mapping[str, Any]
    fields: Mapping[str, Any]
    writing: Callable[[], Writing]
    instructions: tuple[str, ...] = ()


def by_schema(chat: ChatRequest) -> Bound:
    """For every server that knows `response_format: json_schema`."""
    or_text = chat.tools.mode == "auto" and chat.format.type != "text"
    schema = envelope.schema(
        chat.tools.callable,
        parallel=chat.tools.parallel,
        answer=schema_of(chat.format) if or_text else None,
    )
    form = {"name": "tool_calls", "strict": True, "schema": schema}
    return Bound(
        schema,
        {"response_format": {"type": "json_schema", "json_schema": form}},
        lambda: envelope.Transcriber(or_text=or_text),
        () if or_text else (envelope.INSTRUCTION,),
    )
