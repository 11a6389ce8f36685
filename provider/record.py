"""Hosted traffic becomes training data: one JSON line per finished exchange.

    {"messages": [..., {"role": "assistant", "content": ...}], "model": ..., "provider": ...,
     "recorded_at": ..., "usage": ..., "response_format": ..., "tools": ...}

That is OpenAI's fine-tuning format with facts beside it; `sllm finetune data` reads it. What the
Responses API answered is kept as the chat that it is, unless what goes before is not in the request
(`previous_response_id`) or it is about more than text and functions. A line is
appended by one write, so a crash costs at most the line being written; a torn last line is closed
when the file is opened next. `x-sllm-record: no` on a request keeps it out.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provider import locks
from provider.base import ApiRequest, ApiResponse, ByteStream, Holder, Provider
from provider.protocol.responses.exchange import recorded
from provider.redact import Redactor, personal_data, redacted
from provider.transcript import Transcript

log = logging.getLogger(__name__)

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
CONSENT = "x-sllm-record"
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)  # Windows has it
_ELSEWHERE: tuple[type[OSError], ...] = (FileNotFoundError,)  # renamed by another process
if sys.platform == "win32":
    _ELSEWHERE += (PermissionError,)  # or being written by one
_KEPT = ("tools", "response_format")

FORBIDDEN: dict[str, str] = {
    "*exaone*": "EXAONE AI Model License 1.1-NC and 1.2-NC: outputs must not train other models",
    "*claude*": "Anthropic's commercial terms: outputs must not train competing models",
    "*gemini*": "Google's generative AI terms: outputs must not train competing models",
    "*llama-2*": "Llama 2 Community License, 1.b.v: outputs must not improve other models",
}
"""Models (shell patterns, lower case) whose outputs are never recorded, and why."""


class Journal:
    """An append-only JSONL file, rotated at `limit` bytes to `<name>.1.jsonl`, `.2`, ...

    Safe for several threads and processes: lines are appended by single writes.
    """

    def __init__(self, path: Path, limit: int = 256 * 2**20) -> None:
        self.path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._torn = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._close_torn_line()

    def append(self, entry: dict[str, Any]) -> None:
        """Raises `OSError` where the disk does not take the line."""
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._rotate(len(line))
            handle = os.open(self.path, _APPEND, 0o600)
            try:
                self._write(handle, line)
            finally:
                os.close(handle)

    def _write(self, handle: int, line: bytes) -> None:
        """A disk that is almost full takes half a line; the next one must not be glued to it."""
        whole = b"\n" + line if self._torn else line
        written = os.write(handle, whole)
        self._torn = written < len(whole) and (self._torn or written > 0)
        if written < len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate(self, coming: int) -> None:
        """Under the file's lock, and only while it still has its name: two processes that rotated
        at once would give two files one name."""
        with contextlib.suppress(*_ELSEWHERE), self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size + coming <= self._limit:
                return
            if sys.platform == "win32":
                file.close()  # no open file can be renamed there
            else:
                locks.take(file.fileno())
                if not os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return
            number = 1
            while (older := self.path.with_suffix(f".{number}{self.path.suffix}")).exists():
                number += 1
            self.path.rename(older)

    def _close_torn_line(self) -> None:
        """Appends like everything else, because other processes may be writing by now."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                with self.path.open("ab") as end:
                    end.write(b"\n")


class Record(Holder):
    """A provider that keeps what the one it holds answered. Recording never fails a request."""

    forwards_here = True

    def __init__(
        self, inner: Provider, journal: Journal, name: str, redact: Redactor = personal_data
    ) -> None:
        super().__init__(inner)
        self._journal = journal
        self._name = name
        self._redact = redact

    async def answer(self, request: ApiRequest) -> ApiResponse:
        response = await self._inner.answer(request)
        if response.status != 200 or not self._wanted(request):
            return response
        if isinstance(response.body, bytes):
            self._keep(request, Transcript.of_body(response.body))
            return response
        return replace(response, body=_Recorded(response.body, self, request))

    @staticmethod
    def _wanted(request: ApiRequest) -> bool:
        known = request.path in (CHAT, RESPONSES)
        return known and request.headers.get(CONSENT, "yes").lower() != "no"

    def _keep(self, request: ApiRequest, transcript: Transcript) -> None:
        message = transcript.message()
        if message is None or transcript.finish_reason not in {"stop", "tool_calls"}:
            return
        model = transcript.model or str(request.json.get("model"))
        if why := forbidden(model):
            log.info("not recorded: %s", why)
            return
        asked = recorded(request.json) if request.path == RESPONSES else request.json
        if asked is None:
            log.info("not recorded: the conversation is not in the request alone, or not text")
            return
        entry: dict[str, Any] = {
            "messages": redacted([*asked["messages"], message], self._redact),
            "model": model,
            "provider": self._name,
            "usage": transcript.usage,
            "recorded_at": datetime.now(UTC).isoformat(),
        }
        entry.update({key: asked[key] for key in _KEPT if key in asked})
        try:
            self._journal.append(entry)
        except OSError as error:
            log.error("%s does not take recordings: %s", self._journal.path, error)


class _Recorded:
    """Kept when the stream ends, or is closed after its finish reason: the SDK stops at [DONE]."""

    def __init__(self, body: ByteStream, record: Record, request: ApiRequest) -> None:
        self._body, self._record, self._request = body, record, request
        self._transcript = Transcript()
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            self._transcript.feed(piece)
            yield piece
        self._end()

    async def aclose(self) -> None:
        await self._body.aclose()
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._record._keep(self._request, self._transcript)


def forbidden(model: str) -> str | None:
    """Why the model's outputs may not be trained on; None where nothing is known against it."""
    for pattern, why in FORBIDDEN.items():
        if fnmatch.fnmatch(model.lower(), pattern):
            return why
    return None
