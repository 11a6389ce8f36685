"""Several processes on this machine that train one adapter, and one exit code for all of them.

What torchrun does, but for two things: a training that saved and stopped ends with its own exit
code, where torchrun makes a 1 of every code, and a signal reaches each process once.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

import click

from finetune.train.processes import LAUNCHER, UNFINISHED

_GRACE = 30
"""Seconds that the others have to end once one process has failed."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def launch(count: int, command: Sequence[str]) -> int:
    """Runs `command` `count` times under torch's environment variables; returns the exit code.

    0 and 75 are those of all processes. Any other is that of the first one that failed (128 + n
    where signal n ended it); the others are stopped, and what a silent one said is printed.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        said = [stack.enter_context((Path(folder) / str(n)).open("w+b")) for n in range(count)]
        workers = _started(count, command, said)
        with _forwarding(workers):
            failed = _failed(workers)
            if failed is None:
                return max(worker.returncode for worker in workers)
            _stop(workers)
        if failed:
            said[failed].seek(0)
            click.echo(said[failed].read().decode(errors="replace"), err=True, nl=False)
        code = workers[failed].returncode
        return 128 - code if code < 0 else code


def _started(
    count: int, command: Sequence[str], said: Sequence[IO[bytes]]
) -> list[subprocess.Popen[bytes]]:
    """In sessions of their own, so that a terminal's Ctrl-C reaches them through us alone. The
    first one speaks; the others' words are kept."""
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        LAUNCHER: str(os.getpid()),
    }
    threads = str(max(1, (os.cpu_count() or 1) // count))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, **shared}
    return [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=said[rank] if rank else None,
            stderr=subprocess.STDOUT if rank else None,
            start_new_session=True,
        )
        for rank in range(count)
    ]


def _failed(workers: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Waits until all have ended, or one has failed: its number, None if all ended well."""
    while True:
        codes = [worker.poll() for worker in workers]
        for rank, code in enumerate(codes):
            if code not in (None, 0, UNFINISHED):
                return rank
        if None not in codes:
            return None
        time.sleep(0.05)


def _stop(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    end = time.monotonic() + _GRACE
    for worker in workers:
        try:
            worker.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


@contextmanager
def _forwarding(workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Every signal to each worker, as long as the block lasts."""

    def forward(number: int, frame: FrameType | None) -> None:
        for worker in workers:
            worker.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def this_command() -> list[str]:
    """The command under way, to be started again."""
    return [sys.executable, "-P", "-m", "provider.cli", *sys.argv[1:]]
