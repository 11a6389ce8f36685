"""Locks on open files, between processes. The system gives them back however their holder ends."""

from __future__ import annotations

import sys
import time

_POLL = 0.01

if sys.platform == "win32":
    import errno
    import msvcrt
    import os

    _BYTE = 2**40  # far behind every content: Windows keeps others from reading what is locked

    def _at(handle: int, mode: int) -> None:
        place = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, mode, 1)
        finally:
            os.lseek(handle, place, os.SEEK_SET)

    def take_now(handle: int) -> None:
        """The only lock on the file, or `BlockingIOError` where another process holds one."""
        try:
            _at(handle, msvcrt.LK_NBLCK)
        except OSError as error:
            raise BlockingIOError(errno.EAGAIN, "locked by another process") from error

    def take(handle: int) -> None:
        """The only lock on the file, as soon as nobody else holds it."""
        while True:
            try:
                return take_now(handle)
            except BlockingIOError:
                time.sleep(_POLL)

else:
    import fcntl

    def take_now(handle: int) -> None:
        """The only lock on the file, or `BlockingIOError` where another process holds one."""
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def take(handle: int) -> None:
        """The only lock on the file, as soon as nobody else holds it."""
        fcntl.flock(handle, fcntl.LOCK_EX)
