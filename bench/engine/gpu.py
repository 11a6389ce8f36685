"""Tokens per second and memory on a GPU, on EXAONE-3.5-2.4B's true shape with random weights.

    python -m bench.engine.gpu                       # 10 minutes, a CUDA device, 6 GB of disk
    python -m bench.engine.gpu --only nf4            # one part: bf16, nf4 or adapters
    python -m bench.engine.gpu --tiny --device cpu   # that it runs, nothing more

It needs nothing but this repository and what it installs: the checkpoint is made. A part or a case
that fails, or that the time does not allow, says so in its place and the others go on. Progress
goes to stderr, the report to stdout.

bf16: 1, 8 and 64 streams, free and under FloorPlanAnalysis, greedy, no drafts: this engine with and
without CUDA graphs, and transformers' `generate` (with Outlines' llguidance processor under the
schema) in the same process on the same weights. The speed is that of decoding: a short and a long
answer to the same prompts, the difference of tokens by the difference of seconds. The limit is what
the card's memory allows: the bytes of weights and of keys and values that each step must read, at
the bandwidth that a copy reaches in the same run. Random weights choose tokens that the grammar
does not permit, and each costs a further copy to the host, so the figures under a schema are those
of the worst case.

nf4: the peak of memory of one request of 4,096 tokens under `LOCAL_LLM_MEMORY` of 6 GB beside what
`bench.engine.fits` computes, and the speed of 1 and 8 streams. int8 can be asked for by `--narrow`.

adapters: 6 adapters of rank 16 mixed in 12 streams, beside 12 streams without.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.engine.adapter import write_adapter
from bench.engine.checkpoint import make_tokenizer
from bench.engine.fits import EXAONE_24B
from bench.engine.gpu_clock import Broken, Clock
from bench.engine.gpu_engines import Ask, Generate, Ours, Runs
from bench.engine.gpu_speed import Case, Plan, Report, bandwidth, clean, measure, prompts
from finetune.demo.schema import floorplan_schema
from provider.engine.checkpoint import Checkpoint, Quantization, load
from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM
from provider.engine.footprint import footprint
from provider.engine.limits import Limits

TINY: dict[str, Any] = EXAONE_24B | {
    "vocab_size": 4096,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PARTS = ("bf16", "nf4", "adapters")
MEMORY = 6_000_000_000


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("there is no CUDA device; --tiny --device cpu shows that this runs")
        return 2
    if options.tiny:
        torch.set_num_threads(1)
    clock = Clock(options.minutes)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        print(describe(options.device), flush=True)
        try:
            return 0 if run(options, folder, clock) else 1
        except Broken as error:
            print(f"{error}; what follows was not measured", flush=True)
            return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--streams", default="1,8,64")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--narrow", choices=["nf4", "int8"], default="nf4")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, help="keeps the checkpoint there")
    return parser


def run(options: argparse.Namespace, folder: Path, clock: Clock) -> bool:
    """All parts that are asked for; whether none failed."""
    device = options.device
    streams = tuple(int(count) for count in options.streams.split(","))
    plan = Plan(256, max(1, options.tokens // 8), options.tokens, options.rounds)
    tokens = 512 if options.tiny else 4096
    shape = TINY if options.tiny else EXAONE_24B
    parts: dict[str, Callable[[], None]] = {
        "bf16": lambda: speed(folder, device, plan, streams, clock),
        "nf4": lambda: narrow(folder, device, options.narrow, plan, tokens, clock),
        "adapters": lambda: adapters(folder, device, plan, clock),
    }
    wanted = [options.only] if options.only else list(PARTS)
    good = clock.part("checkpoint", device, lambda: write(folder, shape, device))
    for name in wanted if good else []:
        good &= clock.part(name, device, parts[name])
        clean(device)
    return good


def write(folder: Path, shape: dict[str, Any], device: str) -> None:
    """The checkpoint, made where it is fast; one that is there is kept."""
    if (folder / "tokenizer.json").exists():
        return
    torch.manual_seed(0)
    stated = shape | {"initializer_range": 0.02, "eos_token_id": 5, "rope_theta": 1e6}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = ExaoneForCausalLM(ExaoneConfig(**stated))
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
    free, whole = torch.cuda.mem_get_info(device)
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    memory = f"{free / 1e9:.1f} of {whole / 1e9:.1f} GB free"
    return f"{card.name}, compute capability {card.major}.{card.minor}, {memory}, {versions}"


def speed(folder: Path, device: str, plan: Plan, streams: tuple[int, ...], clock: Clock) -> None:
    checkpoint = load(folder, device, "bf16", progress=False)
    schema = floorplan_schema()
    cases = [Case(n, text, s) for n in streams for text, s in (("free", None), ("json", schema))]
    limits = room(max(streams), plan)
    engines: dict[str, Callable[[], Runs]] = {
        "with graphs": lambda: Ours(checkpoint, limits, True),
        "generate": lambda: Generate(checkpoint),
        "without graphs": lambda: Ours(checkpoint, limits, False),
    }
    compare(checkpoint, engines, cases, plan, clock)


def compare(
    checkpoint: Checkpoint,
    engines: dict[str, Callable[[], Runs]],
    cases: list[Case],
    plan: Plan,
    clock: Clock,
) -> None:
    """All cases on each engine in turn, then a table; an engine that fails leaves its cases out."""
    model: Any = checkpoint.model
    device = str(model.device)
    rate = bandwidth(device)
    report = Report()
    for name, make in engines.items():
        held: list[Runs] = []

        def work(name: str = name, make: Any = make, held: list[Runs] = held) -> None:
            held.append(make())
            measure(name, held[0], cases, plan, model.config.vocab_size, clock, report)
            print(f"<!-- {name}: {held[0].note()} -->", flush=True)

        try:
            clock.part(name, device, work)
        finally:
            for engine in held:
                engine.close()
            held.clear()
            clean(device)
    print(f"a copy reads and writes {rate / 1e9:.0f} GB/s")
    print("\n".join(report.lines(model, plan, rate, "generate")), flush=True)


def room(streams: int, plan: Plan, memory: int | None = None) -> Limits:
    """What a case needs: room for all its streams, no drafts, nothing kept."""
    return Limits(
        max_batch=streams,
        memory=memory,
        context_length=2 * (plan.prompt + plan.long),
        prefix_share=0.0,
        drafts=False,
    )


def narrow(
    folder: Path, device: str, kind: Quantization, plan: Plan, tokens: int, clock: Clock
) -> None:
    """The peak of one long request, beside what is computed for it, and the speed."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    checkpoint = load(folder, device, "bf16", kind, progress=False, memory=MEMORY)
    peak(checkpoint, kind, tokens)
    clean(device)
    cases = [Case(n, text) for n in (1, 8) for text in ("free",)]
    cases.append(Case(1, "json", floorplan_schema()))
    limits = room(8, plan, MEMORY)
    engines: dict[str, Callable[[], Runs]] = {
        f"{kind} with graphs": lambda: Ours(checkpoint, limits, True),
        f"{kind} without": lambda: Ours(checkpoint, limits, False),
    }
    compare(checkpoint, engines, cases, plan, clock)


def peak(checkpoint: Checkpoint, kind: Quantization, tokens: int, new: int = 64) -> None:
    model: Any = checkpoint.model
    device = str(model.device)
    limits = Limits(max_batch=1, memory=MEMORY, context_length=tokens, drafts=False)
    engine = Ours(checkpoint, limits, True)
    try:
        count = engine.run(Ask(prompts(1, tokens - new, 0, model.config.vocab_size), new))
        note = engine.note()
        free, whole = torch.cuda.mem_get_info(device) if device.startswith("cuda") else (0, 0)
    finally:
        engine.close()
    print(f"{kind.upper()}, {tokens} tokens ({count} new), LOCAL_LLM_MEMORY=6GB; {note}")
    computed = footprint(model.config, torch.bfloat16, kind, tokens=tokens)
    print("\n".join(computed.lines()))
    if device.startswith("cuda"):
        print(f"allocated    {torch.cuda.max_memory_allocated(device) / 1e9:7.3f} GB at the peak")
        print(f"reserved     {torch.cuda.max_memory_reserved(device) / 1e9:7.3f} GB at the peak")
        print(f"on the card  {(whole - free) / 1e9:7.3f} GB in use, the driver's own included")


def adapters(folder: Path, device: str, plan: Plan, clock: Clock) -> None:
    """Six adapters mixed in twelve streams, and none."""
    checkpoint = load(folder, device, "bf16", progress=False)
    names = [f"a{number}" for number in range(6)]
    with tempfile.TemporaryDirectory() as made:
        folders = {
            name: write_adapter(Path(made) / name, checkpoint.model, rank=16) for name in names
        }

        def engine() -> Runs:
            ours = Ours(checkpoint, room(12, plan), True)
            ours.load_adapters(folders)
            return ours

        cases = [Case(12, "no adapter"), Case(12, "6 adapters", None, names)]
        compare(checkpoint, {"with graphs": engine}, cases, plan, clock)


if __name__ == "__main__":
    sys.exit(main())
