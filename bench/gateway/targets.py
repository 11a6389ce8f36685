"""The servers under load, each a process of its own with one worker, all before one upstream."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

KEY = "sk-bench-6f1d0c9b2a7e4835"
"""The key that every server asks its clients for. LiteLLM's proxy does not start without one."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], port: int, **environment: str) -> Iterator[int]:
    """The command, until the block ends, once it listens.

    Raises `RuntimeError` with the end of what it printed when it does not.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            if not _listens(port, process):
                said.seek(0)
                printed = said.read().decode(errors="replace")[-4000:]
                raise RuntimeError(f"{command[0]} ended or does not listen; it said:\n{printed}")
            yield port
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def _listens(port: int, process: subprocess.Popen[bytes], seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def upstream(*options: str) -> Iterator[int]:
    """The bare upstream that all of them forward to."""
    command = [sys.executable, "-m", "bench.gateway.upstream", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def sllm(to: int | str, folder: Path, **extra: str) -> Iterator[int]:
    """`sllm serve` in front of the upstream at a port of this machine or a base URL."""
    port = free_port()
    command = [sys.executable, "-m", "provider.cli", "serve", "--port", str(port), "--quiet"]
    settings = {
        "OPENAI_BASE_URL": to if isinstance(to, str) else f"http://127.0.0.1:{to}/v1",
        "OPENAI_API_KEY": "sk-up",
        "LLM_PROVIDER": "openai",
        "EMBEDDING_PROVIDER": "openai",
        "SLLM_API_KEYS": KEY,
        "SLLM_STATE_FILE": str(folder / f"{port}.json"),
    }
    with running(command, port, **{**settings, **extra}) as listening:
        yield listening


@contextlib.contextmanager
def workers(count: int, **settings: str) -> Iterator[int]:
    """Several processes of the server behind one port, as `uvicorn --workers` runs them."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "server.asgi:app"]
    options = ["--port", str(port), "--workers", str(count), "--no-access-log"]
    with running([*command, *options], port, **settings) as listening:
        yield listening


def observed(to: int, folder: Path) -> dict[str, str]:
    """Settings with which everything is recorded and a twentieth is shadowed."""
    return {
        "LLM_RECORD": str(folder / "record.jsonl"),
        "LLM_SHADOW": "local",
        "LLM_SHADOW_PATH": str(folder / "shadow.jsonl"),
        "LOCAL_LLM_BASE_URL": f"http://127.0.0.1:{to}/v1",
    }


def traced(to: int) -> dict[str, str]:
    """Settings with which every request is traced; the upstream takes the spans."""
    return {"LLM_TRACING": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{to}"}


@contextlib.contextmanager
def litellm(to: int, folder: Path, binaries: Path) -> Iterator[int]:
    """LiteLLM's proxy from its own environment, as its documentation sets it up."""
    port = free_port()
    config = folder / "litellm.json"
    parameters = {
        "model": "openai/gpt-4o-mini",
        "api_base": f"http://127.0.0.1:{to}/v1",
        "api_key": "sk-up",
    }
    models = [{"model_name": "gpt-4o-mini", "litellm_params": parameters}]
    config.write_text(json.dumps({"model_list": models}), encoding="utf-8")
    command = [str(binaries / "litellm"), "--config", str(config), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False"]
    with running(
        command,
        port,
        LITELLM_MASTER_KEY=KEY,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_LOG="ERROR",
    ) as listening:
        yield listening
