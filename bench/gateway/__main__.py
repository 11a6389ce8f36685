"""Added latency and throughput of the server as a gateway, beside LiteLLM's proxy, in one run.

    python -m bench.gateway                       # ours against the bare upstream
    python -m bench.gateway --litellm PATH/bin    # and LiteLLM's proxy from its own environment
    python -m bench.gateway --rounds 5 --seconds 3

LiteLLM's proxy caps libraries that ours does not, so it lives in an environment of its own:

    python3.11 -m venv /tmp/env-litellm
    /tmp/env-litellm/bin/pip install 'litellm[proxy]==1.105.0'

Every target forwards to the same upstream and is asked in turn, round by round; a figure is the
median over the rounds. One worker process each, each of which checks the client's key.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from pathlib import Path

import click

from bench.gateway.load import load
from bench.gateway.targets import litellm as litellm_proxy
from bench.gateway.targets import observed, sllm, traced, upstream

BARE, PEER = "upstream itself", "litellm proxy"


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
        bare = stack.enter_context(upstream())
        targets = {
            BARE: bare,
            "sllm": stack.enter_context(sllm(bare, folder)),
            "sllm, observed": stack.enter_context(sllm(bare, folder, **observed(bare, folder))),
            "sllm, traced": stack.enter_context(sllm(bare, folder, **traced(bare))),
        }
        if litellm is not None:
            targets[PEER] = stack.enter_context(litellm_proxy(bare, folder, litellm))
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
    print(f"\n{'streamed' if stream else 'plain'}: 1 client; {clients} clients; {rounds} rounds")
    _show(single, many)


def _show(single: dict[str, list[list[float]]], many: dict[str, list[float]]) -> None:
    base = {share: _quantile(single[BARE], share) for share in (0.5, 0.99)}
    peer = statistics.median(many[PEER]) if PEER in many else None
    print(f"{'target':18}{'p50 ms':>9}{'p99 ms':>9}{'+p50':>8}{'+p99':>8}{'req/s':>9}{'x peer':>8}")
    for name in single:
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
