"""A process that must not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def end_with(lifeline: int, grace: float) -> None:
    """Ends this process when the other end of the pipe `lifeline` closes.

    The pipe closes however its holder ends, `kill -9` included. First SIGTERM, and after `grace`
    seconds the end without further ado.
    """

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def dies_with_parent(parent: int) -> Callable[[], None]:
    """For a child that cannot hold a pipe: on Linux the kernel sends it SIGTERM when `parent` dies.

    Runs in the child between fork and exec; on other systems it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm
