"""One embedded server for several processes: it starts with the first and stops after the last.

Every process that uses the server holds a shared lock on `users.lock`; the operating system gives
it back however the process ends. A keeper process (`provider.vectors.keeper`) owns the server,
restarts it when it was killed, and stops it cleanly once nobody holds the lock any more.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from provider.errors import ConfigurationError
from provider.vectors.embedded import Cluster

if sys.platform != "win32":
    import fcntl

IDLE_SECONDS = 3.0
"""How long the server outlives its last user: a command after a command finds it running."""


class SharedServer:
    """This process's claim on the embedded server of a folder.

    `ensure()` starts the server if need be and returns its address; call it again before every
    new connection, so that a server that was killed is awaited. `release()` gives the claim back.
    Safe to use from several threads.
    """

    def __init__(self, directory: Path, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self.cluster = Cluster(directory)
        self._idle_seconds = idle_seconds
        self._claim: int | None = None

    def ensure(self, database: str = "postgres", timeout: float = 90.0) -> str:
        """The server's address, once it takes connections.

        Raises `ConfigurationError` with the reason when it does not within `timeout` seconds.
        """
        if sys.platform == "win32":
            raise ConfigurationError(
                "The embedded PostgreSQL needs Linux or macOS (or WSL2); set DATABASE_URL to a "
                "PostgreSQL with pgvector."
            )
        self._hold(timeout)
        deadline = time.monotonic() + timeout
        while not self._answers():
            self._start_keeper()
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"The embedded PostgreSQL in {self.cluster.directory} did not answer within "
                    f"{timeout:.0f} s: {self._reason()}"
                )
            time.sleep(0.03)
        return self.cluster.dsn(database)

    def release(self) -> None:
        """Give the claim back; the keeper stops the server when it was the last. Idempotent."""
        claim, self._claim = self._claim, None
        if claim is not None:
            os.close(claim)

    def _hold(self, timeout: float) -> None:
        if self._claim is not None:
            return
        directory = self.cluster.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            claim = os.open(directory / "users.lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ConfigurationError(
                f"EMBEDDED_DATABASE_DIR={str(directory)!r} cannot be used ({error.strerror}); "
                "expected a folder that can be written to, on a disk with space."
            ) from error
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(claim, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # a keeper is stopping the server
                if time.monotonic() > deadline:
                    os.close(claim)
                    raise ConfigurationError(
                        f"The embedded PostgreSQL in {self.cluster.directory} is still stopping."
                    ) from None
                time.sleep(0.03)
        self._claim = claim

    def _answers(self) -> bool:
        holder = self.cluster.postmaster()
        if holder is None or not holder[1]:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.cluster.socket))
            except OSError:
                return False
        return True

    def _start_keeper(self) -> None:
        """Start a keeper and wait for its server; where there is one already, do nothing."""
        command = [sys.executable, "-P", "-m", "provider.vectors.keeper"]
        with (self.cluster.directory / "keeper.log").open("ab") as log:
            done = subprocess.run(
                [*command, str(self.cluster.directory), str(self._idle_seconds)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        if done.returncode != 0:
            raise ConfigurationError(self._reason())

    def _reason(self) -> str:
        lines = (self.cluster.directory / "keeper.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "its keeper said nothing."
