"""A real PostgreSQL with pgvector in a folder: initialise, start as our child, stop.

    <directory>/data         the cluster (PGDATA)
    <directory>/run          the socket, unless the path is too long for one
    <directory>/server.log   PostgreSQL's own log

There is no TCP port: the socket's folder belongs to the server's user alone, which is the whole
authentication. Several processes share one server through `provider.vectors.shared`.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from provider.errors import ConfigurationError
from provider.vectors import binaries

SUPERUSER = "postgres"
DEFAULT_VERSION = 18
_LONGEST_SOCKET = 100
_PR_SET_PDEATHSIG = 1

DURABLE: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "jit": "off",  # compiling a vector query costs more than running it
    "max_connections": "200",
    "timezone": "UTC",
}
"""Settings of a server for an app: what it confirms is on disk."""

THROWAWAY: Mapping[str, str] = {
    **DURABLE,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}
"""Settings of a server for tests: it may lose everything when the machine stops."""


class Cluster:
    """One PostgreSQL server whose process is a child of this one.

    `directory` is created if need be. `durable=False` is for tests. `parent_death` is the signal
    that Linux sends to the server when this process dies however it dies: SIGINT is a clean fast
    shutdown, SIGQUIT an immediate one. `settings` override the server's configuration.
    Raises `ConfigurationError` for a folder that the server's user cannot enter.
    """

    def __init__(
        self,
        directory: Path,
        *,
        version: int = DEFAULT_VERSION,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        parent_death: signal.Signals = signal.SIGINT,
    ) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self.durable = durable
        self.settings = {**(DURABLE if durable else THROWAWAY), **(settings or {})}
        self._wanted_version = version
        self._parent_death = parent_death
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> int:
        """The major version: that of the data when there are any, else the wanted one."""
        written = self.data / "PG_VERSION"
        return int(written.read_text()) if written.exists() else self._wanted_version

    @property
    def socket_directory(self) -> Path:
        """Where the socket lies: here, or in the temporary folder when the path is too long."""
        own = self.directory / "run"
        if len(os.fsencode(own)) + len("/.s.PGSQL.5432") <= _LONGEST_SOCKET:
            return own
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"sllm-pg-{digest}"

    @property
    def socket(self) -> Path:
        return self.socket_directory / ".s.PGSQL.5432"

    def dsn(self, database: str = "postgres") -> str:
        """The address for libpq."""
        host = str(self.socket_directory).replace("\\", "\\\\").replace("'", "\\'")
        return f"host='{host}' port=5432 user={SUPERUSER} dbname='{database}'"

    def url(self, database: str = "postgres") -> str:
        """The address as a URL, as DATABASE_URL has it."""
        from urllib.parse import quote

        host = quote(str(self.socket_directory), safe="")
        return f"postgresql://{SUPERUSER}@/{quote(database)}?host={host}&port=5432"

    def postmaster(self) -> tuple[int, bool] | None:
        """The process id of the server that holds these data and whether it takes connections.

        None when there is none. The file outlives a killed server, so the process is looked up.
        """
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (FileNotFoundError, PermissionError, IndexError, ValueError):
            return None
        if not _alive(pid):
            return None
        return pid, len(lines) > 7 and lines[7].strip() == "ready"

    def initialise(self) -> None:
        """Make the cluster if there is none. A kill half-way leaves nothing behind."""
        user = binaries.run_user()
        self._own(self.directory, user)
        if not binaries.reachable(self.directory, user):
            raise ConfigurationError(
                f"EMBEDDED_DATABASE_DIR={str(self.directory)!r} cannot be used: the user "
                f"{user.name!r}, who runs the embedded PostgreSQL, may not enter it; expected a "
                "folder whose parents everybody may enter, such as /var/lib/sllm."
            )
        self._own_socket_directory(user)
        if (self.data / "PG_VERSION").exists():
            return
        fresh = self.directory / f"data.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        done = subprocess.run(
            [str(self._program("initdb")), "-D", str(fresh), *self._initdb_options()],
            cwd="/",
            capture_output=True,
            check=False,
            **user.popen_arguments(),  # type: ignore[call-overload]
        )
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise ConfigurationError(
                f"The embedded PostgreSQL could not be initialised in {self.directory}: "
                f"{done.stderr.decode(errors='replace').strip()}"
            )
        fresh.rename(self.data)

    def start(self, timeout: float = 60.0) -> None:
        """Start the server and wait until it takes connections.

        Raises `ConfigurationError` with the end of its log when it does not.
        """
        self.initialise()
        user = binaries.run_user()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program("postgres")), "-D", str(self.data), *self._options()],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent(self._parent_death),
                **user.popen_arguments(),  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + timeout
        while (holder := self.postmaster()) is None or not holder[1]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGQUIT)
                raise ConfigurationError(
                    f"The embedded PostgreSQL in {self.directory} did not start: {self._tail()}"
                )
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGINT, timeout: float = 60.0) -> None:
        """Stop the server: SIGINT disconnects everybody and stops cleanly. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()
        if self.socket_directory.parent != self.directory:
            with contextlib.suppress(OSError):
                self.socket_directory.rmdir()

    def exited(self) -> bool:
        """Whether the server that `start` started is gone."""
        return self._process is None or self._process.poll() is not None

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(signal.SIGINT if self.durable else signal.SIGQUIT)

    def _program(self, name: str) -> Path:
        install = binaries.find(self.version)
        return binaries.runnable(install, binaries.run_user(), self.directory) / "bin" / name

    def _initdb_options(self) -> list[str]:
        options = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--data-checksums"]
        if self.version >= 17:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            options += ["--locale=C"]
        return options if self.durable else [*options, "--no-sync"]

    def _options(self) -> list[str]:
        fixed = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0700",
        }
        return [f"--{name}={value}" for name, value in {**self.settings, **fixed}.items()]

    def _own(self, folder: Path, user: binaries.RunUser) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if user.switch and folder.stat().st_uid != user.uid:
            os.chown(folder, user.uid, user.gid)

    def _own_socket_directory(self, user: binaries.RunUser) -> None:
        folder = self.socket_directory
        self._own(folder, user)
        found = folder.lstat()
        if found.st_uid != user.uid or folder.is_symlink():
            raise ConfigurationError(
                f"The socket folder {folder} belongs to somebody else; remove it, or choose a "
                "shorter EMBEDDED_DATABASE_DIR."
            )
        folder.chmod(0o700)

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " | ".join(lines[-5:]) or "its log is empty."


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a zombie holds no data folder
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, IndexError):
        return sys.platform != "linux"


def _die_with_parent(death: signal.Signals) -> Callable[[], None] | None:
    """Runs in the child after it changed its user, which would clear the setting."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def bind() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return bind
