"""Speed of decoding on a device: tokens per second of each engine in each case, and the limit."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from bench.engine.gpu_clock import Clock
from bench.engine.gpu_engines import Ask, Runs
from provider.engine.runner import attention_heads


@dataclass(frozen=True)
class Case:
    """`streams` answers at once; `adapters` take turns among them."""

    streams: int
    text: str
    schema: Any = None
    adapters: Sequence[str | None] = (None,)


@dataclass(frozen=True)
class Plan:
    """Tokens of prompts and of the two answers, and how often each case is repeated."""

    prompt: int
    short: int
    long: int
    rounds: int


@dataclass
class Report:
    """Tokens per second by case and engine; a text where there is no figure."""

    found: dict[tuple[int, str], dict[str, float | str]] = field(default_factory=dict)

    def lines(self, model: Any, plan: Plan, rate: float, against: str) -> list[str]:
        """A table; `against` is the engine that the others are compared with."""
        said = ["| streams | text | engine | tokens/s | of generate | of the memory's limit |"]
        said.append("|---|---|---|---|---|---|")
        for (streams, text), engines in self.found.items():
            most = limit(model, streams, plan.prompt + plan.long // 2, rate)
            base = engines.get(against)
            for name, tokens in engines.items():
                if isinstance(tokens, str):
                    said.append(f"| {streams} | {text} | {name} | {tokens} | | |")
                    continue
                ratio = f"{tokens / base:.2f} x" if isinstance(base, float) else ""
                part = f"{100 * tokens / most:.0f} %"
                said.append(f"| {streams} | {text} | {name} | {tokens:.0f} | {ratio} | {part} |")
        return said


def measure(
    name: str,
    engine: Runs,
    cases: list[Case],
    plan: Plan,
    vocabulary: int,
    clock: Clock,
    to: Report,
) -> None:
    """All cases of one engine; one that fails, or has no time, says so in the table."""
    for number, case in enumerate(cases):
        entry = to.found.setdefault((case.streams, case.text), {})
        share = clock.left / (len(cases) - number)
        try:
            rate, rounds = decode(engine, case, plan, vocabulary, share)
        except Exception as error:
            said = " ".join(str(error).split())[:120]
            entry[name] = f"failed: {type(error).__name__}: {said}"
            clock.say(f"{name}, {case.streams} x {case.text}: {entry[name]}")
            if not isinstance(error, TimeoutError | ImportError | torch.OutOfMemoryError):
                raise
            continue
        entry[name] = rate
        clock.say(f"{name}, {case.streams} x {case.text}: {rate:.0f} tokens/s ({rounds} rounds)")


def decode(
    engine: Runs, case: Case, plan: Plan, vocabulary: int, seconds: float
) -> tuple[float, int]:
    """Tokens per second after the first ones: the median of the rounds that `seconds` allow.

    The difference of tokens by the difference of time between a long and a short answer to the same
    prompts. A short run warms up. Raises TimeoutError if one round would take too long.
    """
    started = time.perf_counter()
    warm = prompts(case.streams, plan.prompt, 0, vocabulary)
    engine.run(Ask(warm, plan.short, case.schema, case.adapters))
    rates: list[float] = []
    for number in range(1, plan.rounds + 1):
        asked = prompts(case.streams, plan.prompt, number, vocabulary)
        first, some = timed(engine, Ask(asked, plan.short, case.schema, case.adapters))
        passed = time.perf_counter() - started
        if not rates and passed + first * plan.long / plan.short > 2 * seconds:
            raise TimeoutError(f"a round would take {first * plan.long / plan.short:.0f} s")
        second, all_ = timed(engine, Ask(asked, plan.long, case.schema, case.adapters))
        # On a tiny model the long answer may come first; then the whole answer counts.
        gained = (all_ - some) / (second - first) if second > first else all_ / second
        rates.append(gained)
        if (time.perf_counter() - started) * (number + 1) / number > seconds:
            break
    return sorted(rates)[len(rates) // 2], len(rates)


def timed(engine: Runs, ask: Ask) -> tuple[float, int]:
    started = time.perf_counter()
    tokens = engine.run(ask)
    return time.perf_counter() - started, tokens


def prompts(streams: int, length: int, seed: int, vocabulary: int) -> list[list[int]]:
    chance = torch.Generator().manual_seed(seed + 7)
    drawn: list[list[int]] = torch.randint(
        6, vocabulary, (streams, length), generator=chance
    ).tolist()
    return drawn


def bandwidth(device: str, megabytes: int = 512) -> float:
    """Bytes per second of a copy on the device, read and written."""
    source = torch.empty(megabytes << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(5):
        wait(device)
        started = time.perf_counter()
        target.copy_(source)
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * source.nbytes / best


def limit(model: Any, streams: int, length: int, rate: float) -> float:
    """Tokens per second if a step only read the weights and what its rows attend to."""
    layers, heads, width = attention_heads(model)
    row: int = 2 * layers * heads * width * model.dtype.itemsize * length
    weights: int = sum(parameter.nbytes for parameter in model.parameters())
    return streams * rate / (weights + streams * row)


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def clean(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
