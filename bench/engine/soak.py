"""Ten thousand mixed requests, and what memory they leave behind.

    python -m bench.engine.soak [REQUESTS]

A tiny checkpoint with two adapters, in float32: free text and JSON schemas, repeated and new
prompts, drafts, several answers, hang-ups in the queue, before and within an answer, adapters that
are reloaded meanwhile. Prints resident memory, KV cache and open requests after every tenth; the
last line compares the end with what was there after the first tenth. Exits 1 if anything is left.
"""

from __future__ import annotations

import gc
import random
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch

from bench.engine.adapter import write_adapter
from bench.engine.checkpoint import make_tokenizer
from provider.engine.checkpoint import Checkpoint, load
from provider.engine.engine import Engine, Ticket
from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM, register
from provider.engine.limits import Limits
from provider.engine.request import Done, GenerationRequest, Sampling
from provider.protocol.schema import Constraint, compile

IN_FLIGHT = 48
ADAPTERS = (None, None, "soak:a", "soak:b")
ROOM = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "area": {"type": "integer"}},
    "required": ["name", "area"],
    "additionalProperties": False,
}


def main(count: int) -> int:
    torch.set_num_threads(1)
    register()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = tiny(Path(folder) / "model")
        engine = Engine(checkpoint, Limits(memory=256 << 20, max_adapters=1))
        for name in ADAPTERS[2:]:
            path = write_adapter(Path(folder) / str(name), checkpoint.model, rank=4)
            engine.load_adapter(str(name), path)
        engine.start()
        left = soak(engine, count, Path(folder))
        engine.close()
    return left


def tiny(folder: Path) -> Checkpoint:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": 2560,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "eos_token_id": 5,
    }
    config = ExaoneConfig(**shape)
    ExaoneForCausalLM(config).save_pretrained(folder)
    make_tokenizer(2560).save_pretrained(folder)
    return load(folder, device="cpu", dtype="fp32", progress=False)


def soak(engine: Engine, count: int, folder: Path) -> int:
    """1 if memory or KV cache grew after the first tenth, or a request never ended."""
    chance = random.Random(0)
    schemas = [compile(ROOM), compile({"type": "array", "items": ROOM, "maxItems": 2})]
    places = threading.Semaphore(IN_FLIGHT)
    resident: list[float] = []
    for number in range(count):
        places.acquire()
        submit(engine, request(chance, schemas), chance, places)
        if number % 500 == 499:
            engine.load_adapter("soak:a", folder / "soak:a")
        if (number + 1) % (count // 10) == 0:
            for _ in range(IN_FLIGHT):
                places.acquire()
            resident.append(report(engine, number + 1))
            places.release(IN_FLIGHT)
    stats = engine.stats()
    grown = resident[-1] - resident[0]
    idle = not stats["running"] and not stats["waiting"]
    bounded = stats["kv_tokens"] <= stats["kv_budget"]
    print(f"grown by {grown:+.1f} MiB after the first tenth; idle {idle}; KV bounded {bounded}")
    return int(grown > 32 or not idle or not bounded or stats["failed"] > 0 or stats["deaths"] > 0)


def request(chance: random.Random, schemas: list[Constraint]) -> GenerationRequest:
    first = chance.randrange(10, 40)
    prompt = [first] * chance.choice([8, 40, 150]) + [chance.randrange(10, 1000) for _ in range(4)]
    return GenerationRequest(
        tuple(prompt),
        Sampling(temperature=chance.choice([0, 1.0]), seed=chance.randrange(100)),
        max_tokens=chance.choice([1, 4, 12]),
        n=chance.choice([1, 1, 1, 3]),
        stop=chance.choice([(), ("a",)]),
        constraint=chance.choice([None, *schemas]),
        adapter=chance.choice(ADAPTERS),
    )


def submit(
    engine: Engine, asked: GenerationRequest, chance: random.Random, places: threading.Semaphore
) -> None:
    """Hands a request in; one in five is given up, at once or in its midst."""
    leave = chance.choice([0, 1, 2, 3] if chance.random() < 0.2 else [None])
    ticket: list[Ticket] = []
    over = threading.Lock()
    said = [0]

    def end() -> None:
        if over.acquire(blocking=False):
            places.release()

    def on_event(event: Any) -> None:
        said[0] += 1
        if isinstance(event, Done | Exception):
            end()
        elif leave and said[0] >= leave and ticket:
            ticket[0].cancel()
            end()

    ticket.append(engine.submit(asked, on_event))
    if leave == 0:
        ticket[0].cancel()
        end()


def report(engine: Engine, done: int) -> float:
    gc.collect()
    stats = engine.stats()
    mebibytes = _resident()
    print(
        f"{done:6d} requests  RSS {mebibytes:7.1f} MiB  KV {stats['kv_tokens']:6.0f} tokens, "
        f"{stats['kv_bytes'] / 2**20:5.1f} MiB  cancelled {stats['cancelled']:5.0f}  "
        f"preempted {stats['preemptions']:4.0f}  failed {stats['failed']:.0f}",
        flush=True,
    )
    return mebibytes


def _resident() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
