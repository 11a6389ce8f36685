"""python -m bench.embeddings [--texts 128] [--clients 32] [--infinity PATH]

Texts a second over HTTP with clients that send single texts, relative to sentence-transformers'
own `encode` on one big batch (the best of two batch sizes) and to infinity-emb, on the same
checkpoint in the same run, all in float32 but for the row that says so. The load generator shares
the cores with the servers.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import click

from bench.embeddings import servers
from bench.embeddings.checkpoint import base, demo, texts
from bench.embeddings.load import Measured, embed, health, load


def encode(folder: Path, count: int) -> float:
    """Texts a second of `encode`, in a process of its own."""
    command = [sys.executable, "-m", "bench.embeddings.encode", str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def served(
    server: AbstractContextManager[int], model: str, count: int, clients: int
) -> tuple[Measured, Measured]:
    """The better of two rounds, after a round that warms up; and GET /health, which no model
    has a part in."""
    with server as port:
        requests = [embed(port, model, text) for text in texts(count)]
        asyncio.run(load(port, requests[: max(clients, count // 4)], clients))
        rounds = [asyncio.run(load(port, requests, clients)) for _ in range(2)]
        bare = asyncio.run(load(port, [health(port)] * 2000, clients))
    return max(rounds, key=lambda one: one.per_second), bare


def measure(
    name: str, folder: Path, count: int, clients: int, peer: Path, state: Path
) -> Iterator[str]:
    """The rows of one checkpoint."""
    alone = encode(folder, count)
    yield f"| {name} | sentence-transformers `encode`, one batch | {alone:.1f} | 1.00 | | | |"
    ways = {
        "sllm serve, fp32": servers.sllm(folder, "fp32", state),
        "sllm serve, as it comes (auto)": servers.sllm(folder, "auto", state),
    }
    if peer.exists():
        ways[f"infinity-emb {servers.PEER_VERSION}"] = servers.infinity(folder, peer)
    for way, server in ways.items():
        try:
            seen, bare = served(server, folder.name, count, clients)
        except (RuntimeError, OSError) as error:
            yield f"| {name} | {way} | failed: {str(error)[-600:]} | | | | |"
            continue
        yield (
            f"| {name} | {way} | {seen.per_second:.1f} | {seen.per_second / alone:.2f} | "
            f"{seen.p50_ms:.0f} | {seen.p99_ms:.0f} | {bare.per_second:.0f} |"
        )


@click.command()
@click.option(
    "--texts", "count", default=128, show_default=True, help="For base; 16 times as many for demo."
)
@click.option("--clients", default=32, show_default=True)
@click.option("--infinity", "peer", default=servers.INFINITY, type=click.Path(path_type=Path))
@click.option("--only", type=click.Choice(["demo", "base"]), help="One checkpoint.")
def main(count: int, clients: int, peer: Path, only: str | None) -> None:
    """Print the table."""
    click.echo(
        "| checkpoint | way | texts/s | of encode | p50 ms | p99 ms | GET /health a second |\n"
        "|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = {"demo": demo(Path(folder) / "embedder-demo")}
        if only != "demo":
            found["base"] = base(Path(folder) / "base")
        for name, path in found.items():
            if only in (None, name):
                amount = count if name == "base" else 16 * count
                for row in measure(name, path, amount, clients, peer, Path(folder)):
                    click.echo(row)


if __name__ == "__main__":
    main()
