"""The servers under load, each a process of its own on one checkpoint."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.gateway.targets import KEY, free_port, running

INFINITY = Path(".venv-infinity/bin/infinity_emb")
PEER_VERSION = "0.0.78"


@contextlib.contextmanager
def sllm(folder: Path, dtype: str, state: Path) -> Iterator[int]:
    """`sllm serve` with the local embedder."""
    port = free_port()
    command = [sys.executable, "-m", "provider.cli", "serve", "--port", str(port), "--quiet"]
    settings = {
        "LLM_PROVIDER": "openai",
        "OPENAI_API_KEY": "sk-none",
        "EMBEDDING_PROVIDER": "local",
        "LOCAL_EMBEDDING_MODEL": str(folder.absolute()),
        "LOCAL_EMBEDDING_DTYPE": dtype,
        "SLLM_API_KEYS": KEY,
        "SLLM_STATE_FILE": str(state / f"{port}.json"),
    }
    with running(command, port, **settings):
        yield port


@contextlib.contextmanager
def infinity(folder: Path, environment: Path) -> Iterator[int]:
    """infinity-emb with its torch engine, as its README starts it on a CPU."""
    port = free_port()
    command = [str(environment), "v2", "--model-id", str(folder.absolute())]
    command += ["--served-model-name", folder.name, "--device", "cpu", "--engine", "torch"]
    command += ["--dtype", "float32"]
    command += ["--url-prefix", "/v1", "--port", str(port), "--log-level", "error"]
    command += ["--no-bettertransformer", "--api-key", KEY]
    offline = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with running(command, port, **offline):
        yield port
