"""The typed events of a streamed response, in OpenAI's order, from the chunks of a chat answer.

`response.created`, `response.in_progress`; for each output item `response.output_item.added`, its
parts and deltas, `response.output_item.done`; at the end `response.completed`,
`response.incomplete` or `response.failed`. Numbered from 0 without a gap.
Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from provider.protocol.responses import objects
from provider.protocol.responses.growing import Call, Event, Message
from provider.protocol.responses.objects import Head


class Events:
    """State of one stream; feed it the chunks in order. `response` is the finished one, once there
    is one."""

    def __init__(self, head: Head, model: str) -> None:
        self._head, self._model = head, model
        self._number = -1
        self._output: list[dict[str, Any]] = []
        self._open: Message | Call | None = None
        self._usage: Mapping[str, Any] | None = None
        self._reason: str | None = None
        self.response: dict[str, Any] | None = None

    def begin(self) -> Iterator[Event]:
        for kind in ("created", "in_progress"):
            response = self._head.response("in_progress", self._model)
            yield self._event(f"response.{kind}", response=response)

    def chunk(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events of one chunk of the chat answer."""
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            yield from self._delta(choice)
            if choice.get("finish_reason") is not None:
                self._reason = choice["finish_reason"]
                yield from self._last(objects.status_of(self._reason or ""))

    def end(self, now: int) -> Iterator[Event]:
        """After the last chunk. `now` is Unix seconds."""
        self.response = self._head.ended(
            self._model, self._output, self._reason or "stop", self._usage, now
        )
        yield self._event(f"response.{self.response['status']}", response=self.response)

    def fail(self, error: Mapping[str, Any]) -> Iterator[Event]:
        """In place of what did not come; `error` is the body of the error, which is told as it
        comes from OpenAI (an object) and as its reference has it (fields of the event)."""
        told = {name: error.get(name) for name in ("code", "message", "param")}
        yield self._event("error", **told, error=dict(error))
        whole = self._output
        if self._open is not None:
            whole = [*whole, self._open.item("incomplete")]
        response = self._head.failed(self._model, whole, error)
        yield self._event("response.failed", response=response)

    def _delta(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        delta = choice.get("delta") or {}
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        if delta.get("content") or logprobs:
            yield from self._text(delta.get("content") or "", logprobs)
        if delta.get("refusal"):
            yield from self._refusal(delta["refusal"])
        for called in delta.get("tool_calls") or ():
            yield from self._call(called)

    def _text(self, text: str, logprobs: list[Any]) -> Iterator[Event]:
        message = yield from self._message()
        yield from self._sent(message.text(text, logprobs))

    def _refusal(self, text: str) -> Iterator[Event]:
        message = yield from self._message()
        yield from self._sent(message.refuse(text))

    def _message(self) -> Generator[Event, None, Message]:
        if not isinstance(self._open, Message):
            yield from self._close("completed")
            self._open = Message(len(self._output))
            yield from self._sent(self._open.added())
        return self._open

    def _call(self, called: Mapping[str, Any]) -> Iterator[Event]:
        function = called.get("function") or {}
        number = called.get("index", 0)
        if not (isinstance(self._open, Call) and self._open.number == number):
            yield from self._close("completed")
            self._open = Call(len(self._output), number, called["id"], function["name"])
            yield from self._sent(self._open.added())
        if function.get("arguments"):
            yield from self._sent(self._open.argue(function["arguments"]))

    def _last(self, status: str) -> Iterator[Event]:
        if self._open is None and not self._output:
            message = yield from self._message()
            yield from self._sent(message.text("", []))
        yield from self._close(status)

    def _close(self, status: str) -> Iterator[Event]:
        if self._open is not None:
            closing, self._open = self._open, None
            yield from self._sent(closing.done(status))
            self._output.append(closing.item(status))

    def _sent(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            yield self._event(**event)

    def _event(self, type: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": type, "sequence_number": self._number, **fields}
