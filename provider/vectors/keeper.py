"""The process that owns the embedded server of a folder while anybody uses it.

python -m provider.vectors.keeper DIRECTORY IDLE_SECONDS
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from provider.errors import ConfigurationError
from provider.vectors.embedded import Cluster

_POLL = 0.2
_RESTARTS = 5
_LONG_LIFE = 60.0


def keep(directory: Path, idle_seconds: float, ready: Callable[[], None]) -> int:
    """Run the server until nobody has used it for `idle_seconds`. Returns the exit status.

    `ready` is called whenever the server takes connections, and at once in a second keeper of the
    same folder, which has nothing to do. A server that was killed is restarted (PostgreSQL
    recovers by itself); one that dies five times in a row is given up.
    """
    own = os.open(directory / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        ready()
        return 0
    users = os.open(directory / "users.lock", os.O_RDWR | os.O_CREAT, 0o666)
    cluster = Cluster(directory)
    try:
        return _keep(cluster, users, idle_seconds, ready)
    except ConfigurationError as error:
        print(" ".join(str(error).split()), flush=True)
        return 1
    finally:
        cluster.stop()


def _keep(cluster: Cluster, users: int, idle_seconds: float, ready: Callable[[], None]) -> int:
    failures = 0
    while failures < _RESTARTS:
        _await_predecessor(cluster)
        cluster.start()
        ready()
        started = time.monotonic()
        if _serve(cluster, users, idle_seconds):
            return 0
        failures = 0 if time.monotonic() - started > _LONG_LIFE else failures + 1
    print("The embedded PostgreSQL stopped five times in a row; see server.log.", flush=True)
    return 1


def _serve(cluster: Cluster, users: int, idle_seconds: float) -> bool:
    """Watch until the server is gone (False) or nobody needs it (True, and the door is closed)."""
    last_used = time.monotonic()
    while not cluster.exited():
        now = time.monotonic()
        if not _unused(users):
            last_used = now
        elif now - last_used >= idle_seconds and _close_door(users):
            return True
        time.sleep(_POLL)
    return False


def _await_predecessor(cluster: Cluster, timeout: float = 60.0) -> None:
    """A server whose keeper was killed is stopping by itself on Linux; elsewhere it is told to."""
    deadline = time.monotonic() + timeout
    told = False
    while (holder := cluster.postmaster()) is not None and time.monotonic() < deadline:
        if not told and time.monotonic() > deadline - timeout + 2:
            os.kill(holder[0], signal.SIGINT)
            told = True
        time.sleep(0.05)


def _unused(users: int) -> bool:
    """Whether no process holds the shared lock right now."""
    if not _close_door(users):
        return False
    fcntl.flock(users, fcntl.LOCK_UN)
    return True


def _close_door(users: int) -> bool:
    """Take the exclusive lock: who comes now waits until the server has stopped."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def daemonise(directory: Path, idle_seconds: float) -> int:
    """Fork the keeper away and wait until its server is up: 0, or 1 when it could not start."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return 0 if os.read(reading, 1) else 1
    os.close(reading)
    os.setsid()
    signal.signal(signal.SIGTERM, _terminate)
    reports = [writing]

    def ready() -> None:
        while reports:
            os.write(reports[0], b"1")
            os.close(reports.pop())

    return keep(directory, idle_seconds, ready)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(daemonise(Path(sys.argv[1]), float(sys.argv[2])))
