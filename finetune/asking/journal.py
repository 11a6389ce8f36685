"""What was asked and answered, one line each, appended as it happens: a killed run goes on there.

    {"key": ..., "asked": USD at most}      before a request leaves
    {"key": ..., "reply": {...}}            when it is answered

A request without a reply was cut off; it counts against the budget, and is asked again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from provider import locks
from provider.errors import ConfigurationError

_OPEN = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)  # Windows has it


class Journal:
    """An open journal, locked against other processes. `replies` are by key.

    Raises `ConfigurationError` where the file cannot be used, is another's, or is in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies: dict[str, dict[str, Any]] = {}
        self._asked: list[tuple[str, float]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, _OPEN, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be opened ({error.strerror}).") from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._handle)

    @property
    def requests(self) -> int:
        """Requests that left, answered or not."""
        return len(self._asked)

    @property
    def usd(self) -> float:
        """What they cost; at most, where no answer told."""
        known = {key: reply["usd"] for key, reply in self.replies.items()}
        last = {key: place for place, (key, _) in enumerate(self._asked)}
        total = 0.0
        for place, (key, most) in enumerate(self._asked):
            told = known.get(key) if last[key] == place else None
            total += most if told is None else told
        return total

    def ask(self, key: str, most: float) -> None:
        """Note that a request leaves, and what it costs at most."""
        self._append({"key": key, "asked": most})
        self._asked.append((key, most))

    def reply(self, key: str, reply: dict[str, Any]) -> None:
        """Note what came back."""
        self._append({"key": key, "reply": reply})
        self.replies[key] = reply

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            taken = os.write(self._handle, line)
        except OSError as error:
            raise self._full(error.strerror or str(error)) from error
        if taken < len(line):
            raise self._full("the disk is full")

    def _full(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path} cannot be written ({why}); {len(self.replies):,} answers are kept. Make "
            "room and run the same command again."
        )

    def _lock(self) -> None:
        try:
            locks.take_now(self._handle)
        except OSError as error:
            raise ConfigurationError(
                f"{self.path} is in use by another run; wait for it, or name another file."
            ) from error

    def _read(self) -> None:
        with os.fdopen(os.dup(self._handle), "rb") as file:
            raw = file.read()
        *lines, torn = raw.split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                if line.startswith(b'{"key":'):
                    continue  # cut off by a crash or a full disk
                raise ConfigurationError(
                    f"{self.path}:{number} is no line of such a journal; name another file."
                ) from error
        if torn:
            self._append_newline()

    def _append_newline(self) -> None:
        try:
            os.write(self._handle, b"\n")
        except OSError as error:
            raise self._full(error.strerror or str(error)) from error

    def _take(self, entry: dict[str, Any]) -> None:
        if "reply" in entry:
            self.replies[entry["key"]] = {"usd": None, **entry["reply"]}
        else:
            self._asked.append((entry["key"], float(entry["asked"])))
