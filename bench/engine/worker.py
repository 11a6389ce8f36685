"""An engine in its own process and environment, as the benchmark sees it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any

WORKERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "ours": ("ours", "original", {}),
    "ours-no-drafts": ("ours", "original", {"DRAFTS": "0"}),
    "generate": ("generate", "llama", {}),
    "serve": ("transformers_serve", "llama", {}),
    "vllm": ("vllm_cpu", "llama", {}),
    "llama": ("llama_cpp", "model.gguf", {}),
}
"""Module, part of the checkpoint's folder, and environment of each engine."""

PATIENCE = 300.0
"""Seconds after which an engine that does not answer counts as failed."""

_SHOWN = 3


class Failed(Exception):
    """An engine that did not start or did not answer; the text says why."""


class Worker:
    """Speaks `bench.engine.workers.protocol` with a process, whose complaints go to `log`."""

    def __init__(self, name: str, python: str, folder: Path, threads: int, log: Path) -> None:
        if name not in WORKERS:
            raise SystemExit(f"There is no engine {name!r}; expected one of {', '.join(WORKERS)}.")
        module, part, environment = WORKERS[name]
        self.name = name
        self._log = log
        self._buffer = b""
        ours = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        with log.open("wb") as complaints:
            self._process = subprocess.Popen(
                [python, "-m", f"bench.engine.workers.{module}", str(folder / part)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**os.environ, **ours, **environment},
            )

    def ready(self) -> dict[str, Any]:
        """Waits until the engine is loaded."""
        return self._read()

    def run(self, case: dict[str, Any]) -> dict[str, Any]:
        """One case; raises `Failed`."""
        if self._process.stdin is None or self._process.poll() is not None:
            raise Failed(self._why("has ended"))
        try:
            self._process.stdin.write(json.dumps(case).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._why("has ended")) from None
        return self._read()

    def close(self) -> None:
        """Ends the process, by force if it does not end by itself."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        if self._process.stdout is None:
            raise Failed("has no output")
        at = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([at], [], [], PATIENCE)
            if not ready:
                self._process.kill()
                raise Failed(self._why(f"gave no answer within {PATIENCE:.0f} s"))
            data = os.read(at, 1 << 16)
            if not data:
                raise Failed(self._why("ended"))
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def _why(self, what: str) -> str:
        """What happened, and the last lines that the engine wrote."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = " | ".join(line.strip() for line in lines[-_SHOWN:])
        return f"{what}: {said}" if said else f"{what} without a word"
