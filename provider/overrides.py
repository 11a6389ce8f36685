"""The run-time override: one small file that every process on the host looks at.

    {"llm": "openai", "embedding": null, "changed_at": "...", "changed_by": "..."}

Reading it costs one `stat` per request; its content is read again only when that changed. The
file is replaced, never rewritten in place, so a reader sees the old or the new state and nothing
between. A mounted ConfigMap works: its links are followed. Each change is also a line of
`<name>.log`.
"""

from __future__ import annotations

import errno
import getpass
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from provider import locks
from provider.errors import ConfigurationError

log = logging.getLogger(__name__)

Side = Literal["llm", "embedding"]
SIDES: tuple[Side, ...] = ("llm", "embedding")
_WINDOWS_TRIES = 100


@dataclass(frozen=True, slots=True)
class State:
    """Which provider each side is switched to; None means the configured one."""

    llm: str | None = None
    embedding: str | None = None
    changed_at: str | None = None
    changed_by: str | None = None

    def of(self, side: Side) -> str | None:
        return self.llm if side == "llm" else self.embedding


class Overrides:
    """The state file: read at every request, written by `sllm switch` and `PUT /admin/providers`.

    A file that is missing means no override. One that cannot be read or names an unknown provider
    leaves the last good state in force and is logged once: a typo must not take an app down.
    """

    def __init__(self, path: Path | None, known: Collection[str]) -> None:
        self.path = path
        self.known = frozenset(known)
        self._seen: tuple[int, int, int] | None = None
        self._state = State()
        self._told = ""

    def state(self) -> State:
        if self.path is None:
            return self._state
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            self._seen, self._state = None, State()
            return self._state
        except OSError as error:
            self._cannot_be_read(error)
            return self._state
        signature = (found.st_mtime_ns, found.st_ino, found.st_size)
        if signature != self._seen:
            try:
                # The state first: another thread that sees the new signature must find it.
                self._state = self._load(self.path)
            except OSError as error:  # out of file descriptors, say: the next request looks again
                self._cannot_be_read(error)
                return self._state
            self._seen = signature
        return self._state

    def set(self, changes: Mapping[Side, str | None], by: str | None = None) -> State:
        """Switch the given sides; the others stay as they are.

        Raises `ConfigurationError` for an unknown provider, for a file that cannot be written, and
        when no file is configured.
        """
        if self.path is None:
            raise ConfigurationError(
                "SLLM_STATE_FILE is not set, so there is nothing that running processes look at; "
                "set it to the same path for every process."
            )
        for name in changes.values():
            self._check(name)
        try:
            # Through a link: others may look at what it points to.
            return self._replace(self.path.resolve(), changes, by or _who())
        except OSError as error:
            raise ConfigurationError(
                f"SLLM_STATE_FILE={str(self.path)!r} cannot be written: {error.strerror}. "
                "Where it is a mounted ConfigMap, change the ConfigMap."
            ) from error

    def history(self, last: int = 10) -> list[dict[str, Any]]:
        """The newest changes, oldest first."""
        if self.path is None or not self._log_path(self.path.resolve()).exists():
            return []
        lines = self._log_path(self.path.resolve()).read_text(encoding="utf-8").splitlines()
        return [entry for line in lines[-last:] if (entry := _entry(line)) is not None]

    def _replace(self, path: Path, changes: Mapping[Side, str | None], by: str) -> State:
        with self._history_of(path) as history:
            locks.take(history.fileno())  # two commands at once: one after the other
            before = self.state()
            sides: dict[str, str | None] = {
                side: changes.get(side, before.of(side)) for side in SIDES
            }
            when = datetime.now(UTC).isoformat()
            entry: dict[str, str | None] = {**sides, "changed_at": when, "changed_by": by}
            _write_atomically(path, json.dumps(entry, ensure_ascii=False) + "\n")
            history.write(json.dumps(entry, ensure_ascii=False) + "\n")
        log.warning("providers switched to %s by %s", sides, by)
        return self.state()

    def _history_of(self, path: Path) -> TextIO:
        try:
            return self._log_path(path).open("a", encoding="utf-8")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._log_path(path).open("a", encoding="utf-8")

    def _load(self, path: Path) -> State:
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            state = State(**{name: read.get(name) for name in State.__slots__})
            for side in SIDES:
                self._check(state.of(side))
        except (ValueError, AttributeError, ConfigurationError) as error:
            self._cannot_be_read(error)
            return self._state
        self._told = ""
        return state

    def _cannot_be_read(self, error: Exception) -> None:
        if str(error) != self._told:
            self._told = str(error)
            log.error("%s is ignored, the last good state stays in force: %s", self.path, error)

    def _check(self, name: str | None) -> None:
        if name is not None and name not in self.known:
            raise ConfigurationError(
                f"There is no provider {name!r}; the known ones are "
                f"{', '.join(sorted(self.known))}."
            )

    @staticmethod
    def _log_path(path: Path) -> Path:
        return path.with_name(path.name + ".log")


def _entry(line: str) -> dict[str, Any] | None:
    """A change, with all of its members; None for a line that somebody else has written."""
    try:
        read = json.loads(line)
    except ValueError:
        return None
    return {name: read.get(name) for name in State.__slots__} if isinstance(read, dict) else None


def _write_atomically(path: Path, text: str) -> None:
    """Processes see the change at once; when this returns, the disk has it too.

    In as few calls as can be: in a busy process each one that waits for the system may cost a turn
    of the interpreter (5 ms) before the next.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")
    if sys.platform == "win32":
        _write_closed(temporary, path, text)
        return
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        try:
            written = os.write(handle, text.encode())
            if written < len(text.encode()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fchmod(handle, 0o644)
            # The file system's clock may tick only every few milliseconds; two changes within one
            # tick must still look different to `state`.
            os.utime(handle, ns=(time.time_ns(), time.time_ns()))
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_closed(temporary: Path, path: Path, text: str) -> None:
    """Windows renames no open file, and none over one that somebody is reading just now."""
    temporary.write_bytes(text.encode())
    for again in range(_WINDOWS_TRIES):
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            if again == _WINDOWS_TRIES - 1:
                temporary.unlink()
                raise
            time.sleep(0.01)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name, a service's
        user = "?" if sys.platform == "win32" else str(os.getuid())
    return f"{user}@{socket.gethostname()}"
