"""What an exchange said, put together from a whole answer or from a stream's chunks. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from provider.events import EventReader
from provider.protocol.responses.read import as_chat


class Transcript:
    """Collects an answer of the chat or the Responses API from the bytes that went to the client.

    `feed` takes pieces of server-sent events cut anywhere; `message()` is the first choice's
    assistant message, None until it is complete. `usage` and `model` are the answer's own.
    """

    def __init__(self) -> None:
        self._reader = EventReader()
        self._text: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.usage: dict[str, Any] | None = None

    @classmethod
    def of_body(cls, body: bytes) -> Transcript:
        """The transcript of a `chat.completion` or a `response`; an empty one of anything else."""
        transcript = cls()
        try:
            read = as_chat(json.loads(body))
            choice = read["choices"][0]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return transcript
        transcript._take_head(read)
        transcript.take_choice(choice, choice.get("message") or {})
        return transcript

    def feed(self, piece: bytes) -> None:
        for chunk in self._reader.read(piece):
            self._take_chunk(as_chat(chunk))

    def message(self) -> dict[str, Any] | None:
        return None if self.finish_reason is None else self.so_far()

    def so_far(self) -> dict[str, Any]:
        """The message as far as it has come."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text) or None}
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return message

    def _take_chunk(self, chunk: Mapping[str, Any]) -> None:
        self._take_head(chunk)
        for choice in chunk.get("choices") or []:
            if choice.get("index", 0) == 0:
                self.take_choice(choice, choice.get("delta") or {})

    def _take_head(self, body: Mapping[str, Any]) -> None:
        self.model = body.get("model") or self.model
        self.usage = body.get("usage") or self.usage

    def take_choice(self, choice: dict[str, Any], said: dict[str, Any]) -> None:
        """A choice, and its `message` or `delta`."""
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if said.get("content"):
            self._text.append(said["content"])
        for position, call in enumerate(said.get("tool_calls") or []):
            self._take_call(call.get("index", position), call)

    def _take_call(self, index: int, call: dict[str, Any]) -> None:
        function = call.get("function") or {}
        whole = self._calls.setdefault(
            index, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        whole["id"] = call.get("id") or whole["id"]
        whole["function"]["name"] += function.get("name") or ""
        whole["function"]["arguments"] += function.get("arguments") or ""
