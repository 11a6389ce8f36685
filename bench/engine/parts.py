"""What single parts of the engine cost, on this machine, in this process.

    python -m bench.engine.parts WIDE_FOLDER [ADAPTERS]

`WIDE_FOLDER` is what `bench.engine.widen` wrote. Prints compile and mask times, time to the first
token cold and with a repeated prefix, what scheduling and sampling add to a bare forward pass, and
the first token after an adapter was swapped in from disk.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch

from bench.engine.adapter import write_adapter
from finetune.demo.corpus import heldout_plans
from finetune.demo.schema import floorplan_schema
from provider.engine.checkpoint import load
from provider.engine.constraint import ConstraintState, GrammarCache
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.engine.request import Done, GenerationRequest, Sampling
from provider.protocol.schema import compile


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    checkpoint = load(folder / "original", device="cpu", dtype="bf16", progress=False)
    engine = Engine(checkpoint, Limits())
    grammar(engine, checkpoint)
    engine.start()
    sampled(engine, checkpoint)
    prefix(engine, checkpoint)
    overhead(engine, checkpoint)
    adapters(engine, checkpoint)
    engine.close()


def grammar(engine: Engine, checkpoint: Any) -> None:
    """Compile time, and CPU time of masks over a held-out answer."""
    started = time.perf_counter()
    tokenizer = engine.vocabulary.grammar
    print(f"llguidance tokenizer      {time.perf_counter() - started:8.2f} s, once")
    cache = GrammarCache(tokenizer)
    for name in ("cold", "cached", "again"):
        schema = floorplan_schema()
        started = time.perf_counter()
        constraint = compile(schema)
        cache.matcher(constraint)
        print(f"schema and matcher {name:6} {1e3 * (time.perf_counter() - started):8.2f} ms")
    masks, asked, tokens = [], [], 0
    for sample in heldout_plans(4):
        ids = checkpoint.tokenizer.encode(sample.answer)
        tokens += len(ids)
        state = ConstraintState(cache.matcher(constraint), tokenizer)
        at = len(state.forced())
        while at < len(ids):
            started = time.thread_time()
            state.compute_mask()
            masks.append(time.thread_time() - started)
            started = time.thread_time()
            state.permits(ids[at])
            asked.append(time.thread_time() - started)
            state.accept(ids[at])
            at += 1 + len(state.forced())
    mean, worst = 1e6 * statistics.mean(masks), 1e6 * max(masks)
    print(f"mask, sampled rows        {mean:8.1f} us mean, {worst:.0f} us worst, CPU time")
    print(f"one token, greedy rows    {1e6 * statistics.mean(asked):8.1f} us mean")
    print(f"tokens per draw           {tokens / len(masks):8.2f} from forced tokens alone")


def sampled(engine: Engine, checkpoint: Any) -> None:
    """CPU time of masks, of asking about tokens and of draws, in answers at temperature 1."""
    spent: defaultdict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()

    def timed(owner: Any, name: str) -> None:
        bare = getattr(owner, name)

        def run(*given: Any, **named: Any) -> Any:
            started = time.thread_time()
            result = bare(*given, **named)
            spent[name] += time.thread_time() - started
            calls[name] += 1
            return result

        setattr(owner, name, run)

    made = engine._answer

    def answer(job: Any, index: int) -> Any:
        watched = made(job, index)
        for name in ("compute_mask", "permits"):
            timed(watched.constraint, name)
        timed(watched, "_choose")
        return watched

    engine._answer = answer  # type: ignore[method-assign]
    constraint = compile(floorplan_schema())
    tokens = 0
    for number, sample in enumerate(heldout_plans(3)):
        prompt = tuple(checkpoint.tokenizer.encode_chat(sample.messages))
        tokens += run_one(
            engine, GenerationRequest(prompt, Sampling(seed=number), 400, constraint=constraint)
        )
    engine._answer = made  # type: ignore[method-assign]
    checks = 1e6 * (spent["compute_mask"] + spent["permits"]) / tokens
    print(f"masks and checks, T = 1   {checks:8.1f} us a token of {tokens}")
    print(f"the draw included         {1e6 * spent['_choose'] / tokens:8.1f} us a token")
    print(f"draws, masks, questions   {[calls[n] for n in ('_choose', 'compute_mask', 'permits')]}")


def prefix(engine: Engine, checkpoint: Any) -> None:
    """Time to the first token of 1,500 tokens: unknown, and known but for the last few."""
    chance = torch.Generator().manual_seed(0)
    cold, warm = [], []
    for _ in range(3):
        known = torch.randint(300, 1500, (1500,), generator=chance).tolist()
        cold.append(first_token(engine, tuple(known)))
        warm.append(first_token(engine, (*known[:-8], *range(400, 408))))
    a, b = statistics.median(cold), statistics.median(warm)
    print(
        f"first token, 1,500 tokens {1e3 * a:8.0f} ms cold, {1e3 * b:.0f} ms repeated: "
        f"{a / b:.1f} x"
    )


def overhead(engine: Engine, checkpoint: Any) -> None:
    """CPU time of whole steps against their forward passes, 8 streams, 128 tokens each."""
    spent = [0.0, 0]
    bare = engine._runner.forward

    def timed(step: Any) -> Any:
        started = time.thread_time()
        logits = bare(step)
        if len(step.tokens) <= 8:
            spent[0] += time.thread_time() - started
            spent[1] += 1
        return logits

    whole = [0.0, 0]

    def watch(scheduler: Any) -> None:
        step = scheduler.step

        def stepped() -> None:
            before, started = spent[1], time.thread_time()
            step()
            if spent[1] > before:
                whole[0] += time.thread_time() - started

        scheduler.step = stepped

    engine._runner.forward = timed  # type: ignore[method-assign]
    with engine._lock:
        engine._inbox.append(watch)
    requests = [
        GenerationRequest(tuple(range(300 + 40 * row, 330 + 40 * row)), Sampling(seed=row), 128)
        for row in range(8)
    ]
    over = [threading.Event() for _ in requests]
    for request, event in zip(requests, over, strict=True):

        def on_event(said: Any, event: threading.Event = event) -> None:
            if isinstance(said, Done | Exception):
                event.set()

        engine.submit(request, on_event)
    for event in over:
        event.wait()
    engine._runner.forward = bare  # type: ignore[method-assign]
    print(f"forward pass, 8 streams   {1e3 * spent[0] / spent[1]:8.2f} ms CPU")
    print(f"scheduling and sampling   {100 * (whole[0] - spent[0]) / spent[0]:8.1f} % of it")


def adapters(engine: Engine, checkpoint: Any) -> None:
    """First token of an adapter that is read from disk for the request."""
    with tempfile.TemporaryDirectory() as folder:
        times = []
        for number in range(6):
            path = write_adapter(Path(folder) / str(number), checkpoint.model, rank=16)
            started = time.perf_counter()
            engine.load_adapter(f"base:{number}", path)
            first_token(engine, tuple(range(400, 600)), adapter=f"base:{number}")
            times.append(time.perf_counter() - started)
    print(f"first token after a swap  {1e3 * statistics.median(times):8.0f} ms, load included")


def first_token(engine: Engine, prompt: tuple[int, ...], adapter: str | None = None) -> float:
    """Seconds from the request to its first token."""
    started = time.perf_counter()
    run_one(engine, GenerationRequest(prompt, Sampling(temperature=0), 1, adapter=adapter))
    return time.perf_counter() - started


def run_one(engine: Engine, request: GenerationRequest) -> int:
    """Waits for the request's end; how many tokens it wrote."""
    over = threading.Event()
    tokens = [0]

    def on_event(said: Any) -> None:
        if isinstance(said, Done):
            tokens[0] = said.usage.completion
        if isinstance(said, Done | Exception):
            over.set()

    engine.submit(request, on_event)
    over.wait()
    return tokens[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
