"""One training example: a conversation in OpenAI's form, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages as OpenAI's fine-tuning format has them, checked; the last is an assistant's.

    `content` is text (None only beside `tool_calls`), calls are always `tool_calls` (the older
    `function_call` is rewritten), and `weight` 0 marks an assistant's message that is not learnt.
    `tools`, `response_format` and `parallel_tool_calls` are what the request had. `model` wrote the
    answers, where that is known. `source` is the file, `line` counts from 1.
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    agent_type: str | None = None
    source: str = ""
    line: int = 0
    response_format: Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    model: str | None = None

    @property
    def prompt(self) -> tuple[Mapping[str, Any], ...]:
        """What comes before the last answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> Mapping[str, Any]:
        """The last message, an assistant's."""
        return self.messages[-1]

    def request(self) -> dict[str, Any]:
        """The whole conversation as a chat request's fields; `provider.protocol.chat` parses it."""
        body: dict[str, Any] = {"messages": [unweighted(message) for message in self.messages]}
        if self.tools:
            body["tools"] = list(self.tools)
        if self.response_format is not None:
            body["response_format"] = self.response_format
        if self.tools and self.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = self.parallel_tool_calls
        return body

    def record(self) -> dict[str, Any]:
        """The conversation as one JSON object; reading it gives an equal conversation."""
        record = {**self.request(), "messages": [dict(message) for message in self.messages]}
        for name in ("agent_type", "model"):
            if (value := getattr(self, name)) is not None:
                record[name] = value
        return record


def unweighted(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as a request has it."""
    return {key: value for key, value in message.items() if key != "weight"}
