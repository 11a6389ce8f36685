"""Files that are on the disk when they have their name, also after a power cut."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file under a hidden name of this process's own, which becomes `path` when the block ends
    without an error; until then, and after one, what was there stays."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            part.unlink()


def write_durably(path: Path, content: bytes) -> None:
    """The whole file or the one that was there before."""
    with replaced(path) as file:
        file.write(content)


def sync_file(path: Path) -> None:
    """Bring a file's contents to the disk."""
    mode = "r+b" if os.access(path, os.W_OK) else "rb"  # Windows syncs for writers only
    with path.open(mode) as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
