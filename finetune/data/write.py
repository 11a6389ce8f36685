"""Files that appear whole or not at all, and never in place of another."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from finetune.durable import replaced
from provider.errors import ConfigurationError


def write_lines(path: Path, records: Iterable[Mapping[str, Any]], again: bool = False) -> int:
    """One JSON object a line (gzipped where the name ends in .gz); how many were written.
    `again` lets it take the place of an older file.

    Raises `ConfigurationError` where `path` exists or the disk does not take it; then nothing is
    left of it.
    """
    count = 0
    with new_file(path, again) as file:
        for record in records:
            line = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            file.write(line.encode("utf-8") + b"\n")
            count += 1
    return count


def write_text(path: Path, text: str) -> None:
    """A new text file in UTF-8, under the same promise."""
    with new_file(path, again=True) as file:
        file.write(text.encode("utf-8"))


def free(path: Path) -> Path:
    """`path`, if nothing is there. Raises `ConfigurationError`."""
    if path.exists() or path.is_symlink():
        raise ConfigurationError(f"{path} exists; name another file, or remove it first.")
    return path


@contextlib.contextmanager
def new_file(path: Path, again: bool = False) -> Iterator[IO[bytes]]:
    """A file under another name, which gets its own when everything is on the disk. `again` lets
    it take the place of an older one."""
    if not again:
        free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
                    yield file  # type: ignore[misc]
            else:
                yield raw
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror or error}); nothing of it is left."
        ) from error
