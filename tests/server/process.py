"""`sllm serve` as a process of its own, as an operator runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Served:
    """`url` ends in `/v1`; `log()` is what it has written to standard error so far."""

    process: subprocess.Popen[bytes]
    url: str
    errors: Path

    def log(self) -> str:
        return self.errors.read_text(encoding="utf-8")

    def end(self, seconds: float = 60.0) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(seconds)


@contextmanager
def served(folder: Path, *options: str, **environment: str) -> Iterator[Served]:
    """A server on a free port, its settings in the environment and nowhere else."""
    read, write = os.pipe()
    errors = folder / "server.log"
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    state = {"SLLM_STATE_FILE": str(folder / "providers.json"), "HOME": str(folder)}
    command = [sys.executable, "-m", "provider.cli", "serve", "--port", "0"]
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--ready-fd", str(write), *options],
            env={**kept, **state, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
            cwd=folder,
            stderr=log,
            stdout=subprocess.DEVNULL,
            pass_fds=(write,),
        )
    os.close(write)
    try:
        with os.fdopen(read, encoding="utf-8") as pipe:
            line = pipe.readline()
        if not line:
            raise AssertionError(f"the server did not start: {errors.read_text('utf-8')}")
        yield Served(process, json.loads(line)["url"], errors)
    finally:
        process.kill()
        process.wait(30)
