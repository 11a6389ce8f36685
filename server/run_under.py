"""`sllm exec -- CMD`: runs a command whose OpenAI requests a server of its own answers.

The server is a child on a free loopback port with a key that only this run knows. It hangs on a
pipe that this process holds, so it ends when this process ends, however that happens.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from server.lifeline import dies_with_parent

_STOP_SECONDS = 10.0
_FORWARDED = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGINT")
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class ServerFailed(Exception):
    """The server ended before it was ready; it has said why on standard error."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the server ended with exit code {code} before it was ready")
        self.code = code


def run_under(command: Sequence[str], options: Sequence[str] = ()) -> int:
    """Runs `command` with OPENAI_BASE_URL and OPENAI_API_KEY of a new server; its exit code.

    A command that a signal ended gives 128 plus the signal's number. `options` go to `sllm serve`.
    Raises `ServerFailed`.
    """
    key = f"sk-sllm-{secrets.token_urlsafe(32)}"
    with _server(key, options) as url:
        return _run(command, client_environment(os.environ, url, key))


def client_environment(base: Mapping[str, str], url: str, key: str) -> dict[str, str]:
    """`base` with what OpenAI's SDKs read; loopback is taken out of any HTTP proxy's reach."""
    environment = {**base, "OPENAI_BASE_URL": url, "OPENAI_API_BASE": url, "OPENAI_API_KEY": key}
    for name in ("NO_PROXY", "no_proxy"):
        without = [item for item in base.get(name, "").split(",") if item]
        environment[name] = ",".join([*without, "127.0.0.1", "localhost"])
    return environment


@contextmanager
def _server(key: str, options: Sequence[str]) -> Iterator[str]:
    lifeline_read, lifeline = os.pipe()
    ready, ready_write = os.pipe()
    digest = hashlib.sha256(key.encode()).hexdigest()
    began = time.monotonic()
    _say("starting the server ...")
    process = subprocess.Popen(
        [
            # -P: the folder is the app's, and modules in it are not ours
            *(sys.executable, "-P", "-m", "provider.cli", "serve"),
            *(
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--quiet",
                "--ready-fd",
                str(ready_write),
                "--lifeline-fd",
                str(lifeline_read),
            ),
            *options,
        ],
        env={**os.environ, "SLLM_API_KEYS": f"sha256:{digest}"},
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=(lifeline_read, ready_write),
        start_new_session=True,
    )
    os.close(lifeline_read)
    os.close(ready_write)
    try:
        url = _await_ready(process, ready)
        _say(f"ready after {time.monotonic() - began:.1f} s at {url}")
        threading.Thread(target=_report_end, args=(process,), daemon=True).start()
        yield url
    finally:
        os.close(lifeline)
        _stop(process)


def _await_ready(process: subprocess.Popen[bytes], ready: int) -> str:
    with os.fdopen(ready, encoding="utf-8") as pipe:
        line = pipe.readline()
    if not line:
        raise ServerFailed(process.wait())
    url: str = json.loads(line)["url"]
    return url


def _report_end(process: subprocess.Popen[bytes]) -> None:
    code = process.wait()
    if code not in (0, -signal.SIGTERM):
        _say(f"the server ended with exit code {code}; further requests will fail")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    with _forwarding() as signals:
        try:
            child = subprocess.Popen(
                command, env=environment, preexec_fn=dies_with_parent(os.getpid())
            )
        except FileNotFoundError:
            _say(f"{command[0]}: command not found")
            return NOT_FOUND
        except OSError as error:
            _say(f"{command[0]}: {error.strerror}")
            return NOT_EXECUTABLE
        signals.go_to(child)
        code = child.wait()
    return 128 - code if code < 0 else code


class _Signals:
    """Where this process's signals go: to the command, once there is one."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def go_to(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        for number in self._early:
            child.send_signal(number)

    def forward(self, number: int, frame: FrameType | None) -> None:
        """A key that a terminal has sent to both is not sent on."""
        if number in (signal.SIGINT, signal.SIGQUIT) and _in_foreground():
            return
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)


@contextmanager
def _forwarding() -> Iterator[_Signals]:
    """Begins before the command does, which may be quicker to be interrupted than this process."""
    signals = _Signals()
    numbers = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    previous = {number: signal.signal(number, signals.forward) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether a terminal's keys reach this process (and so the command, in the same group)."""
    for stream in (0, 1, 2):
        try:
            return os.tcgetpgrp(stream) == os.getpgrp()
        except OSError:
            continue
    return False


def _say(text: str) -> None:
    print(f"sllm: {text}", file=sys.stderr, flush=True)
