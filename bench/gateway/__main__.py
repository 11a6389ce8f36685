"""Added latency and throughput of the server as a gateway, beside LiteLLM's proxy, in one run.

    python -m bench.gateway                       # ours against the bare upstream
    python -m bench.gateway --litellm PATH/bin    # and LiteLLM's proxy from its own environment
    python -m bench.gateway --rounds 5 --seconds 3

Every target forwards to the same upstream and is asked in turn, round by round; a figure is the
median over the rounds. One worker process each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from bench.gateway.load import load


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


@contextlib.contextmanager
def _running(command: list[str], port: int, **environment: str) -> Iterator[int]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def _upstream() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.gateway.upstream"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def _ours(upstream: int, folder: Path, **extra: str) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-m", "provider.cli", "serve", "--port", str(port)]
    base = f"http://127.0.0.1:{upstream}/v1"
    state = str(folder / f"{port}.json")
    with _running(
        command,
        port,
        OPENAI_BASE_URL=base,
        OPENAI_API_KEY="sk-up",
        LLM_PROVIDER="openai",
        EMBEDDING_PROVIDER="openai",
        SLLM_STATE_FILE=state,
        **extra,
    ) as listening:
        yield listening


@contextlib.contextmanager
def _litellm(upstream: int, folder: Path, binaries: Path) -> Iterator[int]:
    port = _free_port()
    config = folder / "litellm.json"
    parameters = {
        "model": "openai/gpt-4o-mini",
        "api_base": f"http://127.0.0.1:{upstream}/v1",
        "api_key": "sk-up",
    }
    models = [{"model_name": "gpt-4o-mini", "litellm_params": parameters}]
    config.write_text(json.dumps({"model_list": models}), encoding="utf-8")
    command = [str(binaries / "litellm"), "--config", str(config), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False"]
    with _running(command, port, LITELLM_LOCAL_MODEL_COST_MAP="True") as listening:
        yield listening


@click.command()
@click.option(
    "--litellm", type=click.Path(path_type=Path), help="The bin folder of LiteLLM's venv."
)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Of load per target and round.")
@click.option("--clients", default=32, show_default=True, help="Connections for throughput.")
def main(litellm: Path | None, rounds: int, seconds: float, clients: int) -> None:
    """Print added latency (1 client) and requests per second (many clients), plain and streamed."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(_upstream())
        observed = {
            "LLM_RECORD": str(folder / "record.jsonl"),
            "LLM_SHADOW": "none",
        }
        targets = {
            "upstream itself": upstream,
            "sllm": stack.enter_context(_ours(upstream, folder)),
            "sllm + record": stack.enter_context(_ours(upstream, folder, **observed)),
        }
        if litellm is not None:
            targets["litellm proxy"] = stack.enter_context(_litellm(upstream, folder, litellm))
        for stream in (False, True):
            _measure(targets, rounds, seconds, clients, stream=stream)


def _measure(
    targets: dict[str, int], rounds: int, seconds: float, clients: int, *, stream: bool
) -> None:
    for port in targets.values():
        asyncio.run(load(port, 1, 0.5, stream=stream))  # warm up
    single: dict[str, list[list[float]]] = {name: [] for name in targets}
    many: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, port in targets.items():
            single[name].append(asyncio.run(load(port, 1, seconds, stream=stream)))
            many[name].append(
                len(asyncio.run(load(port, clients, seconds, stream=stream))) / seconds
            )
    base = {share: _quantile(single["upstream itself"], share) for share in (0.5, 0.99)}
    peer = statistics.median(many["litellm proxy"]) if "litellm proxy" in many else None
    print(f"\n{'streamed' if stream else 'plain'}: 1 client; {clients} clients; {rounds} rounds")
    print(f"{'target':18}{'p50 ms':>9}{'p99 ms':>9}{'+p50':>8}{'+p99':>8}{'req/s':>9}{'x peer':>8}")
    for name in targets:
        p50, p99 = _quantile(single[name], 0.5), _quantile(single[name], 0.99)
        rate = statistics.median(many[name])
        ratio = f"{rate / peer:8.1f}" if peer else f"{'':>8}"
        print(
            f"{name:18}{p50 * 1e3:9.2f}{p99 * 1e3:9.2f}{(p50 - base[0.5]) * 1e3:8.2f}"
            f"{(p99 - base[0.99]) * 1e3:8.2f}{rate:9.0f}{ratio}"
        )


def _quantile(rounds: list[list[float]], share: float) -> float:
    return statistics.median(ordered[int(share * (len(ordered) - 1))] for ordered in rounds)


if __name__ == "__main__":
    main()
