"""What a span says of an answer, gathered from its body or its stream's chunks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from provider.events import EventReader
from provider.protocol.responses.read import as_chat
from provider.tracing.attributes import Attributes, finish_reasons, of_answer
from provider.tracing.content import output_messages
from provider.transcript import Transcript


class Answer:
    """Collects attributes; `content` also keeps what was said. `error`: the code of an error event
    that ended the stream, None without one."""

    def __init__(self, content: bool) -> None:
        self.error: str | None = None
        self._reader = EventReader()
        self._found: Attributes = {}
        self._reasons: dict[int, str] = {}
        self._said: dict[int, Transcript] | None = {} if content else None

    def whole(self, body: bytes) -> None:
        try:
            read = json.loads(body)
        except ValueError:
            return
        if isinstance(read, dict):
            self._take(as_chat(read), "message")

    def piece(self, piece: bytes) -> None:
        for chunk in map(as_chat, self._reader.read(piece)):
            if "error" in chunk:
                self.error = _code(chunk["error"])
            self._take(chunk, "delta")

    def attributes(self) -> Attributes:
        found = dict(self._found)
        if self._reasons:
            found["gen_ai.response.finish_reasons"] = [
                self._reasons[index] for index in sorted(self._reasons)
            ]
        if self._said:
            found["gen_ai.output.messages"] = output_messages(
                [
                    {"message": said.so_far(), "finish_reason": said.finish_reason}
                    for _, said in sorted(self._said.items())
                ]
            )
        return found

    def _take(self, read: Mapping[str, Any], kind: str) -> None:
        self._found.update(of_answer(read))
        choices = read.get("choices")
        self._reasons.update(finish_reasons(choices))
        if self._said is not None:
            for position, choice in enumerate(choices if isinstance(choices, list) else ()):
                said = self._said.setdefault(choice.get("index", position), Transcript())
                said.take_choice(choice, choice.get(kind) or {})


def _code(error: Any) -> str:
    code = error.get("code") or error.get("type") if isinstance(error, Mapping) else None
    return code if isinstance(code, str) else "server_error"
