"""What `provider.OpenAI` adds to a call of `openai.OpenAI`, in this process, on one upstream.

    python -m bench.gateway.inprocess
    python -m bench.gateway.inprocess --calls 2000

Three clients ask in turn, call by call: the SDK's own; ours where OpenAI alone is asked for (the
stock client, so nothing should be added); ours that can be switched at run time (a state file: the
request passes the switch, the meter and the integrity check, and a second HTTP client). A figure is
the median over the calls, what is added the median of the differences, call by call.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import openai

import provider
from bench.gateway.targets import upstream
from provider.settings import Settings

ASKED: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "안녕하세요"}]}
Call = Callable[[bool], Awaitable[None]]
"""Asks once, and closes the client when that was the last time."""


def _sync(client: openai.OpenAI, stream: bool) -> Call:
    async def call(last: bool) -> None:
        answer = client.chat.completions.create(**ASKED, stream=stream)
        for _ in answer if stream else ():
            pass
        if last:
            client.close()

    return call


def _async(client: openai.AsyncOpenAI, stream: bool) -> Call:
    async def call(last: bool) -> None:
        answer: Any = await client.chat.completions.create(**ASKED, stream=stream)
        if stream:
            async for _ in answer:
                pass
        if last:
            await client.close()

    return call


async def _timed(calls: dict[str, Call], count: int) -> dict[str, list[float]]:
    """Seconds of each call, the clients in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-50, count):
        for name, call in calls.items():
            began = time.perf_counter()
            await call(number == count - 1)
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def _show(kind: str, seconds: dict[str, list[float]]) -> None:
    base = next(iter(seconds.values()))
    for name, taken in seconds.items():
        added = statistics.median(mine - sdk for mine, sdk in zip(taken, base, strict=True))
        p50 = statistics.median(taken)
        print(f"{kind:16}{name:34}{p50 * 1e6:9.0f}{added * 1e6:+9.0f}", flush=True)


@click.command()
@click.option("--calls", default=1000, show_default=True)
def main(calls: int) -> None:
    """Print the median call and what is added, in microseconds."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(upstream())
        how: dict[str, Any] = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "sk-bench"}
        plain = Settings(
            _env_file=None, openai_base_url=how["base_url"], openai_api_key=how["api_key"]
        )
        switchable = plain.model_copy(update={"sllm_state_file": folder / "providers.json"})
        print(f"{'':16}{'client':34}{'p50 us':>9}{'added us':>9}")
        for stream in (False, True):
            kind = "streamed" if stream else "plain"
            ours = {"provider.OpenAI": plain, "provider.OpenAI, switchable": switchable}
            sync = {"openai.OpenAI": _sync(openai.OpenAI(**how), stream)}
            sync |= {n: _sync(provider.OpenAI(settings=s), stream) for n, s in ours.items()}
            _show(f"{kind}, sync", asyncio.run(_timed(sync, calls)))
            asynchronous = {"openai.AsyncOpenAI": _async(openai.AsyncOpenAI(**how), stream)}
            asynchronous |= {
                n.replace("OpenAI", "AsyncOpenAI"): _async(provider.AsyncOpenAI(settings=s), stream)
                for n, s in ours.items()
            }
            _show(f"{kind}, async", asyncio.run(_timed(asynchronous, calls)))


if __name__ == "__main__":
    main()
