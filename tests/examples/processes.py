"""Runs a command that serves HTTP, and finds out where."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "examples" / "floorplan"
UVICORN = [sys.executable, "-m", "uvicorn", "--port", "0"]
SLLM = [sys.executable, "-m", "provider.cli"]

_URL = re.compile(r"(?:running|listening) on (http://[\w.:\[\]]+)")
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass
class Running:
    """A started command; `lines` is what it has written so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def url(self, seconds: float = 240.0) -> str:
        """Where it listens, as it says itself."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in list(self.lines):
                if found := _URL.search(line):
                    return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError("the command did not listen:\n" + "".join(self.lines))

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def environment(**values: str) -> dict[str, str]:
    """A clean environment for a child, and `values`."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
    } | values


@contextmanager
def running(command: Sequence[str], env: dict[str, str], cwd: Path = APP) -> Iterator[Running]:
    process = subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started = Running(process)
    output = process.stdout
    if output is None:
        raise AssertionError("stdout is a pipe")
    reader = threading.Thread(target=lambda: started.lines.extend(output), daemon=True)
    reader.start()
    try:
        yield started
    finally:
        started.end()
        reader.join(10)
        output.close()
