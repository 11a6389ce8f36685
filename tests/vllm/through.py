"""Another server in a process of its own, and the contract suite through us against it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.contract.targets import VLLM

DEMO = Path(__file__).parents[2] / "finetune" / "demo" / "artifacts" / "exaone-demo"
NAME = "exaone-demo"
START_SECONDS = 300.0


@contextlib.contextmanager
def serving(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Its address while it runs; `SystemExit` with the end of its log where it does not start."""
    with log.open("wb") as written:
        server = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=written, stderr=written
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/v1/models", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def contract(url: str, arguments: Sequence[str]) -> int:
    """The suite's exit code; it prints its matrix."""
    environment = {**os.environ, VLLM: url, "CONTRACT_TARGETS": "vllm/http"}
    command = [sys.executable, "-m", "tests.contract", *arguments]
    return subprocess.run(command, env=environment).returncode


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    print("waiting for the server ...", flush=True)
    while time.monotonic() < end:
        if server.poll() is not None:
            raise SystemExit(f"It ended with {server.returncode}:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise SystemExit(f"Not ready after {START_SECONDS:g} s:\n{log.read_text()[-3000:]}")
