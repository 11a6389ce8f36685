"""100 flips of the provider during 10,000 requests, a quarter of them streams.

    python -m bench.gateway.flips
    python -m bench.gateway.flips --requests 2000 --flips 20

Two upstreams say different words: what a request got tells who answered it. Counted are requests
that failed, whose answer mixes the two sides or contradicts `x-sllm-provider`, and that never
ended. Over HTTP flips alternate between `PUT /admin/providers` and the state file, written by a
process beside the app as `sllm switch` does; in process the file alone, and once more with the
command in a thread of the app, which has to wait for its turns of the interpreter.
Timed is each flip: from the command to the first answer (its head, for a stream) that the other
side gives to a request sent after it; beside it stands the median of all requests, without which no
flip can be seen. Over HTTP (several workers behind one port), then in process
(`provider.AsyncOpenAI`), each under load and, for the switch's own time, with a few clients.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bench.gateway.asking import HttpAsker, SdkAsker, Told
from bench.gateway.commander import commander
from bench.gateway.targets import KEY, upstream, workers
from provider.factory import PROVIDERS
from provider.overrides import Overrides
from provider.settings import Settings

SIDES = ("openai", "local")
_FEW = 4
Ask = Callable[[bool], Awaitable[Told]]
Flip = Callable[[str], Awaitable[None]]


@dataclass
class Tally:
    """What became of the requests and of the flips (seconds each, of `requests` to their heads)."""

    ended: int = 0
    failed: int = 0
    mixed: int = 0
    streams: int = 0
    by_side: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))
    seconds: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    errors: set[str] = field(default_factory=set)


class Run:
    """Clients that ask until `requests` are done, while the provider is flipped `flips` times."""

    def __init__(self, ask: Ask, flip: Flip, requests: int, flips: int) -> None:
        self._ask, self._flip = ask, flip
        self._left = requests
        self._per_flip = requests // flips
        self._flips = flips
        self._waiting: tuple[str, float, asyncio.Event] | None = None
        self._next, self._due = 0, asyncio.Event()
        self.tally = Tally()

    async def done(self, clients: int) -> Tally:
        flipping = asyncio.create_task(self._flipping())
        async with asyncio.timeout(300):
            await asyncio.gather(*(self._client() for _ in range(clients)))
            await flipping
        return self.tally

    async def _client(self) -> None:
        while self._left > 0 or self._waiting is not None:
            self._left -= 1
            await self._one(stream=self._left % 4 == 0)

    async def _one(self, *, stream: bool) -> None:
        tally, sent = self.tally, time.perf_counter()
        tally.streams += stream
        try:
            told = await self._ask(stream)
        except Exception as error:  # noqa: BLE001 - every kind of failure is counted
            tally.failed += 1
            tally.errors.add(f"{type(error).__name__}: {error}"[:200])
            return
        finally:
            tally.ended += 1
            if tally.ended >= self._next:
                self._due.set()
        tally.mixed += not told.pure
        tally.requests.append(told.at - sent)
        tally.by_side[told.provider] = tally.by_side.get(told.provider, 0) + 1
        if self._waiting is not None and sent >= self._waiting[1]:
            name, began, seen = self._waiting
            if told.provider == name and not seen.is_set():
                tally.seconds.append(told.at - began)
                seen.set()

    async def _reached(self, count: int) -> None:
        """Waits until so many requests have ended."""
        self._next = count
        self._due.clear()
        if self.tally.ended < count:
            await self._due.wait()

    async def _flipping(self) -> None:
        for number in range(self._flips):
            await self._reached(number * self._per_flip)
            seen = asyncio.Event()
            name = SIDES[(number + 1) % 2]
            self._waiting = (name, time.perf_counter(), seen)
            await self._flip(name)
            await seen.wait()
            self._waiting = None


def _settings(folder: Path, hosted: int, local: int) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{hosted}/v1",
        "OPENAI_API_KEY": "sk-up",
        "LLM_PROVIDER": "openai",
        "LOCAL_LLM_BASE_URL": f"http://127.0.0.1:{local}/v1",
        "SLLM_API_KEYS": KEY,
        "SLLM_ADMIN_KEY": f"{KEY}-admin",
        "SLLM_STATE_FILE": str(folder / "providers.json"),
    }


def _in_turn(first: Flip, second: Flip) -> Flip:
    """The one and the other command, each every other time."""
    count = 0

    async def flip(name: str) -> None:
        nonlocal count
        count += 1
        await (first if count % 2 else second)(name)

    return flip


@click.command()
@click.option("--requests", default=10_000, show_default=True)
@click.option("--flips", default=100, show_default=True)
@click.option("--clients", default=32, show_default=True, help="Requests at the same time.")
@click.option("--processes", default=2, show_default=True, help="Workers behind the port.")
def main(requests: int, flips: int, clients: int, processes: int) -> None:
    """Print what became of the requests, and how long a flip takes."""
    logging.getLogger("provider").setLevel(logging.ERROR)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hosted = stack.enter_context(upstream("openai", "0.001"))
        local = stack.enter_context(upstream("local", "0.001"))
        settings = _settings(folder, hosted, local)
        overrides = Overrides(folder / "providers.json", PROVIDERS)
        port = stack.enter_context(workers(processes, **settings))
        print(f"{'':28}{'requests':>9}{'streams':>9}{'failed':>8}{'mixed':>7}{'lost':>6}", end="")
        print(f"{'flips':>7}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}{'request':>9}")

        def measure(name: str, asker: Any, flip: Flip, at_once: int, share: int) -> None:
            overrides.set({"llm": None})
            wanted = requests // share
            run = Run(asker.ask, flip, wanted, flips)
            _show(f"{name}, {at_once} clients", asyncio.run(_closed(run, asker, at_once)), wanted)

        async def from_a_thread(name: str) -> None:
            await asyncio.to_thread(overrides.set, {"llm": name})

        beside = stack.enter_context(commander(folder / "providers.json"))
        http = HttpAsker(port)
        over_http = _in_turn(http.switch, beside)
        measure(f"HTTP, {processes} workers", http, over_http, clients, 1)
        measure(f"HTTP, {processes} workers", http, over_http, _FEW, 5)
        lowered = {name.lower(): value for name, value in settings.items()}
        sdk = SdkAsker(Settings(_env_file=None, **lowered))
        measure("in process", sdk, beside, clients, 1)
        measure("in process", sdk, beside, _FEW, 5)
        measure("from a thread", sdk, from_a_thread, clients, 1)


async def _closed(run: Run, asker: Any, clients: int) -> Tally:
    try:
        return await run.done(clients)
    finally:
        await asker.aclose()


def _show(name: str, tally: Tally, wanted: int) -> None:
    ordered = sorted(tally.seconds)
    quantiles = [ordered[int(share * (len(ordered) - 1))] * 1e3 for share in (0.5, 0.99, 1)]
    print(
        f"{name:28}{tally.ended:9}{tally.streams:9}{tally.failed:8}{tally.mixed:7}"
        f"{max(0, wanted - tally.ended):6}{len(ordered):7}"
        + "".join(f"{value:8.1f}" for value in quantiles)
        + f"{statistics.median(tally.requests) * 1e3:9.1f}",
        flush=True,
    )
    print(f"{'':28}answered by {tally.by_side}", *sorted(tally.errors)[:3], sep="  ", flush=True)


if __name__ == "__main__":
    main()
