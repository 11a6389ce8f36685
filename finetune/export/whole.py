"""A file or folder that appears whole or not at all, whatever ends the writer."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.durable import sync_file, sync_folder
from provider import locks
from provider.errors import ConfigurationError


@contextmanager
def written_whole(destination: Path, needed: int = 0, *, keep: bool = False) -> Iterator[Path]:
    """A hidden folder beside `destination`, renamed to it when the block ends without an error.

    `needed` bytes must be free. What a killed writer left under the hidden name is removed first,
    or handed over as it is when `keep` is set, so that the block can go on with it; an error then
    leaves it too. `ConfigurationError` when `destination` exists, when another process is writing
    it, when the disk is full or its file system refuses.
    """
    _check_absent(destination)
    partial = destination.parent / f".{destination.name}.partial"
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _held(partial, destination):
            _check_room(destination, needed)
            if not keep:
                _empty(partial)
            yield from _renamed_after(partial, destination, keep)
    except OSError as error:
        raise ConfigurationError(
            f"{destination} cannot be written ({error.strerror or error}); expected a writable "
            "place with enough room; free space or choose another destination."
        ) from error


def _renamed_after(partial: Path, destination: Path, keep: bool) -> Iterator[Path]:
    try:
        yield partial
        _sync(partial)
        _check_absent(destination)
        partial.rename(destination)
        sync_folder(destination.parent)
    except BaseException:
        if not keep:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_absent(destination: Path) -> None:
    if destination.exists() or destination.is_symlink():
        raise ConfigurationError(
            f"{destination} exists; expected a path that does not; "
            "remove it or choose another destination."
        )


@contextmanager
def _held(partial: Path, destination: Path) -> Iterator[None]:
    """The hidden folder with a lock on it that the system drops when this process ends."""
    partial.mkdir(exist_ok=True)
    handle = _handle(partial)
    try:
        locks.take_now(handle)
    except BlockingIOError as error:
        os.close(handle)
        raise ConfigurationError(
            f"{destination} is being written by another process; wait for it, or choose another "
            "destination."
        ) from error
    try:
        yield
    finally:
        os.close(handle)


def _handle(folder: Path) -> int:
    if sys.platform == "win32":  # folders cannot be opened there
        return os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    return os.open(folder, os.O_RDONLY)


def _check_room(destination: Path, needed: int) -> None:
    free = shutil.disk_usage(destination.parent).free
    if needed > free:
        raise ConfigurationError(
            f"{destination.parent} has {free / 2**30:.2f} GiB free; expected "
            f"{needed / 2**30:.2f} GiB for {destination.name}; "
            "free space or choose another destination."
        )


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(folder: Path) -> None:
    """Every file on the disk before the name says that they are."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sync_file(path)
    sync_folder(folder)
