"""Output items while they grow: a message of text and refusals, a function call."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from provider.protocol.responses import objects
from provider.protocol.responses.objects import new_id

Event = dict[str, Any]
"""An event without its number."""


@dataclass
class _Part:
    """`kind` is `output_text` or `refusal`, which is how their events are called too."""

    kind: str
    text: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)

    def object(self) -> dict[str, Any]:
        text = "".join(self.text)
        if self.kind == "refusal":
            return objects.refusal_part(text)
        return objects.text_part(text, self.logprobs)


@dataclass
class Message:
    """The message at `index` of the output."""

    index: int
    id: str = field(default_factory=lambda: new_id("msg"))
    _parts: list[_Part] = field(default_factory=list)

    def item(self, status: str) -> dict[str, Any]:
        return objects.message(self.id, status, [part.object() for part in self._parts])

    def added(self) -> Iterator[Event]:
        item = objects.message(self.id, "in_progress", [])
        yield {"type": "response.output_item.added", "output_index": self.index, "item": item}

    def text(self, text: str, logprobs: Sequence[Any]) -> Iterator[Event]:
        part = yield from self._part("output_text")
        part.text.append(text)
        part.logprobs += logprobs
        if text or logprobs:
            said = {"delta": text, "logprobs": list(logprobs)}
            yield {"type": "response.output_text.delta", **self._place(), **said}

    def refuse(self, text: str) -> Iterator[Event]:
        part = yield from self._part("refusal")
        part.text.append(text)
        yield {"type": "response.refusal.delta", **self._place(), "delta": text}

    def done(self, status: str) -> Iterator[Event]:
        yield from self._close()
        item = self.item(status)
        yield {"type": "response.output_item.done", "output_index": self.index, "item": item}

    def _part(self, kind: str) -> Generator[Event, None, _Part]:
        if not self._parts or self._parts[-1].kind != kind:
            yield from self._close()
            self._parts.append(_Part(kind))
            empty = self._parts[-1].object()
            yield {"type": "response.content_part.added", **self._place(), "part": empty}
        return self._parts[-1]

    def _close(self) -> Iterator[Event]:
        if not self._parts:
            return
        part = self._parts[-1].object()
        if part["type"] == "refusal":
            said = {"refusal": part["refusal"]}
        else:
            said = {"text": part["text"], "logprobs": part["logprobs"]}
        yield {"type": f"response.{part['type']}.done", **self._place(), **said}
        yield {"type": "response.content_part.done", **self._place(), "part": part}

    def _place(self) -> dict[str, Any]:
        return {
            "item_id": self.id,
            "output_index": self.index,
            "content_index": len(self._parts) - 1,
        }


@dataclass
class Call:
    """The call at `index` of the output; `number` is the chat answer's index of it."""

    index: int
    number: int
    call_id: str
    name: str
    id: str = field(default_factory=lambda: new_id("fc"))
    _arguments: list[str] = field(default_factory=list)

    def item(self, status: str) -> dict[str, Any]:
        arguments = "".join(self._arguments)
        return objects.call(self.id, status, self.call_id, self.name, arguments)

    def added(self) -> Iterator[Event]:
        item = self.item("in_progress")
        yield {"type": "response.output_item.added", "output_index": self.index, "item": item}

    def argue(self, arguments: str) -> Iterator[Event]:
        self._arguments.append(arguments)
        kind = "response.function_call_arguments.delta"
        yield {"type": kind, **self._place(), "delta": arguments}

    def done(self, status: str) -> Iterator[Event]:
        item = self.item(status)
        said = {"arguments": item["arguments"], "name": self.name}
        yield {"type": "response.function_call_arguments.done", **self._place(), **said}
        yield {"type": "response.output_item.done", "output_index": self.index, "item": item}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}
