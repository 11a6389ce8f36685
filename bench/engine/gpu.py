"""Tokens per second on a GPU, on EXAONE-3.5-2.4B's true shape with random weights.

    python -m bench.engine.gpu                       # all of it; a CUDA device, 6 GB of disk
    python -m bench.engine.gpu --only speed          # or --only memory: NF4 on a card of 8 GB
    python -m bench.engine.gpu --tiny --device cpu   # that it runs, nothing more

Speed: 1, 8 and 64 streams, free and under FloorPlanAnalysis, in bf16, greedy, no drafts: this
engine with and without CUDA graphs, and transformers' `generate` (with Outlines' llguidance
processor under the schema) in the same process on the same weights. The speed is that of decoding:
a short and a long answer to the same prompts, the difference of tokens by the difference of
seconds. The limit is what the card's memory allows: the bytes of weights and of keys and values
that each step must read, at the bandwidth that a copy reaches in the same run. Random weights
choose tokens that the grammar does not permit, and each costs a further copy to the host, so the
figures under a schema are those of the worst case.

Memory: NF4, a request of 4,096 tokens, `LOCAL_LLM_MEMORY` of 6 GB; the peak beside what
`bench.engine.fits` computes.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.engine.checkpoint import make_tokenizer
from bench.engine.fits import EXAONE_24B
from bench.engine.gpu_engines import Ask, generate, ours
from finetune.demo.schema import floorplan_schema
from provider.engine.checkpoint import Checkpoint, load
from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM
from provider.engine.footprint import footprint
from provider.engine.limits import Limits
from provider.engine.runner import attention_heads

TINY: dict[str, Any] = EXAONE_24B | {
    "vocab_size": 4096,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class Plan:
    """What is measured: numbers of streams, tokens of prompts and of the two answers."""

    streams: tuple[int, ...]
    prompt: int
    short: int
    long: int
    rounds: int


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=["speed", "memory"])
    parser.add_argument("--streams", default="1,8,64")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, help="keeps the checkpoint there")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("there is no CUDA device; --tiny --device cpu shows that this runs")
        return 2
    if options.tiny:
        torch.set_num_threads(1)
    streams = tuple(int(count) for count in options.streams.split(","))
    plan = Plan(streams, 256, max(1, options.tokens // 8), options.tokens, options.rounds)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        write(folder, TINY if options.tiny else EXAONE_24B, options.device)
        print(describe(options.device))
        if options.only != "memory":
            speed(load(folder, options.device, "bf16", progress=False), plan)
        if options.only != "speed":
            memory(folder, options.device, 512 if options.tiny else 4096)
    return 0


def write(folder: Path, shape: dict[str, Any], device: str) -> None:
    """The checkpoint, made where it is fast; one that is there is kept."""
    if (folder / "config.json").exists():
        return
    torch.manual_seed(0)
    stated = shape | {"initializer_range": 0.02, "eos_token_id": 5, "rope_theta": 1e6}
    config = ExaoneConfig(**stated)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = ExaoneForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    make_tokenizer(shape["vocab_size"]).save_pretrained(folder)
    del model
    clean(device)


def describe(device: str) -> str:
    if not device.startswith("cuda"):
        return f"on {device}, torch {torch.__version__}: figures mean nothing here"
    card = torch.cuda.get_device_properties(device)
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    return f"{card.name}, {card.total_memory / 1e9:.1f} GB, {versions}"


def speed(checkpoint: Checkpoint, plan: Plan) -> None:
    model: Any = checkpoint.model
    device = str(model.device)
    rate = bandwidth(device)
    print(f"a copy reads and writes {rate / 1e9:.0f} GB/s")
    print("| streams | text | engine | tokens/s | of generate | of the memory's limit |")
    print("|---|---|---|---|---|---|")
    for streams in plan.streams:
        most = limit(model, streams, plan.prompt + plan.long // 2, rate)
        for schema in (None, floorplan_schema()):
            engines: dict[str, Callable[[Ask], int]] = {
                "generate": generate(checkpoint, schema),
                "without graphs": ours(checkpoint, schema, room(streams, plan), False),
                "with graphs": ours(checkpoint, schema, room(streams, plan), True),
            }
            found = {name: decode(run, streams, plan, model) for name, run in engines.items()}
            for name, tokens in found.items():
                text = "free" if schema is None else "json"
                ratios = f"{tokens / found['generate']:.2f} x | {100 * tokens / most:.0f} %"
                print(f"| {streams} | {text} | {name} | {tokens:.0f} | {ratios} |", flush=True)
            clean(device)


def decode(run: Callable[[Ask], int], streams: int, plan: Plan, model: Any) -> float:
    """Tokens per second after the first ones: the median of the rounds. A first run warms up."""
    rates = []
    for number in range(-1, plan.rounds):
        ask = Ask(prompts(streams, plan.prompt, number, model.config.vocab_size), plan.short)
        first, some = timed(run, ask)
        second, all_ = timed(run, Ask(ask.prompts, plan.long))
        if number >= 0:
            rates.append((all_ - some) / max(1e-9, second - first))
    run(Ask([], 0))
    return sorted(rates)[len(rates) // 2]


def timed(run: Callable[[Ask], int], ask: Ask) -> tuple[float, int]:
    started = time.perf_counter()
    tokens = run(ask)
    return time.perf_counter() - started, tokens


def prompts(streams: int, length: int, seed: int, vocabulary: int) -> list[list[int]]:
    chance = torch.Generator().manual_seed(seed + 7)
    drawn: list[list[int]] = torch.randint(
        6, vocabulary, (streams, length), generator=chance
    ).tolist()
    return drawn


def room(streams: int, plan: Plan) -> Limits:
    """What a case needs: room for all its streams, no drafts, nothing kept."""
    return Limits(
        max_batch=streams,
        context_length=2 * (plan.prompt + plan.long),
        prefix_share=0.0,
        drafts=False,
    )


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


def memory(folder: Path, device: str, tokens: int) -> None:
    """The peak of one long request in NF4, beside what is computed for it."""
    clean(device)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    checkpoint = load(folder, device, "bf16", "nf4", progress=False, memory=6_000_000_000)
    limits = Limits(max_batch=1, memory=6_000_000_000, context_length=tokens, drafts=False)
    run = ours(checkpoint, None, limits, True)
    new = 64
    vocabulary = checkpoint.model.config.vocab_size
    count = run(Ask(prompts(1, tokens - new, 0, vocabulary), new))
    run(Ask([], 0))
    computed = footprint(checkpoint.model.config, torch.bfloat16, "nf4", tokens=tokens)
    print(f"NF4, {tokens} tokens ({count} new), LOCAL_LLM_MEMORY=6GB")
    print("\n".join(computed.lines()))
    if device.startswith("cuda"):
        free, whole = torch.cuda.mem_get_info(device)
        print(f"allocated    {torch.cuda.max_memory_allocated(device) / 1e9:7.3f} GB at the peak")
        print(f"reserved     {torch.cuda.max_memory_reserved(device) / 1e9:7.3f} GB at the peak")
        print(f"on the card  {(whole - free) / 1e9:7.3f} GB now, the driver's own included")


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def clean(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
