"""Engines side by side on one checkpoint: same prompts, same schema, one run, in turns, medians.

    python -m bench.engine.run WIDE_FOLDER [--python vllm=PATH] [--python llama=PATH] [--rounds 3]

`WIDE_FOLDER` is what `bench.engine.widen` wrote (llama.cpp also needs `model.gguf` in it, from
`bench.engine.gguf_file`). Every engine is a process of its own, in its own environment, with one
thread; all are loaded before the first case, and the cases go round the engines. Figures are
milliseconds per generated token: CPU time of the process, and wall-clock beside it, which means
something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.demo.corpus import heldout_plans
from finetune.demo.schema import floorplan_schema
from provider.engine.chat import ChatTokenizer

WORKERS = {
    "ours": ("ours", "original", {}),
    "ours-no-drafts": ("ours", "original", {"DRAFTS": "0"}),
    "generate": ("generate", "llama", {}),
    "vllm": ("vllm_cpu", "llama", {}),
    "llama": ("llama_cpp", "model.gguf", {}),
}


class Worker:
    """An engine in its own process; see `bench.engine.workers.protocol`."""

    def __init__(self, name: str, python: str, folder: Path, threads: int) -> None:
        module, part, environment = WORKERS[name]
        self.name = name
        ours = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [python, "-m", f"bench.engine.workers.{module}", str(folder / part)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ours, **environment},
        )

    def read(self) -> dict[str, Any] | None:
        """The next message, None if the process has gone."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        message: dict[str, Any] | None = json.loads(line) if line else None
        return message

    def run(self, case: dict[str, Any]) -> dict[str, Any] | None:
        if self.process.stdin is None or self.process.poll() is not None:
            return None
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=60)


def cases(tokenizer: ChatTokenizer, rounds: int, new_tokens: int, streams: Sequence[int]) -> Any:
    """(label, case) in the order in which they run; every round has prompts of its own."""
    samples = heldout_plans(rounds * sum(streams) * 2 + 1)
    prompts = [tokenizer.encode_chat(sample.messages) for sample in samples]
    schema = json.dumps(floorplan_schema(), ensure_ascii=False)
    for _ in range(rounds):
        for kind in ("free", "json"):
            for count in streams:
                taken, prompts = prompts[:count], prompts[count:]
                case = {
                    "prompts": taken,
                    "new_tokens": new_tokens,
                    "schema": schema if kind == "json" else None,
                }
                yield f"{kind} x{count}", case


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH")
    parser.add_argument("--engines", default=",".join(["ours", "ours-no-drafts", "generate"]))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--streams", default="1,8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    pythons = dict(item.split("=", 1) for item in options.python)
    names = [*options.engines.split(","), *pythons]
    workers = []
    for name in names:
        worker = Worker(name, pythons.get(name, sys.executable), options.folder, options.threads)
        if worker.read() is None:
            print(f"{name}: did not start", file=sys.stderr)
        else:
            workers.append(worker)
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    tokenizer = ChatTokenizer.load(options.folder / "original")
    streams = [int(count) for count in options.streams.split(",")]
    plan = list(cases(tokenizer, options.rounds, options.new_tokens, streams))
    for worker in workers:
        worker.run({**plan[0][1], "new_tokens": 8})
        worker.run({**plan[-1][1], "new_tokens": 8})
    for number, (label, case) in enumerate(plan):
        turn = number % len(workers)
        for worker in workers[turn:] + workers[:turn]:
            result = worker.run(case)
            if result is not None:
                rows[label, worker.name].append(result)
    for worker in workers:
        worker.close()
    report(rows)
    if options.out:
        listed = [{"case": c, "engine": e, "runs": runs} for (c, e), runs in rows.items()]
        options.out.write_text(json.dumps(listed, ensure_ascii=False), encoding="utf-8")


def report(rows: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """One line per case and engine: medians over the rounds."""
    print(
        f"{'case':10} {'engine':18} {'CPU ms/token':>13} {'wall ms/token':>14} {'tokens':>7} note"
    )
    for (label, engine), runs in sorted(rows.items()):
        cpu = statistics.median(1e3 * run["cpu"] / run["tokens"] for run in runs)
        wall = statistics.median(1e3 * run["wall"] / run["tokens"] for run in runs)
        tokens = statistics.median(run["tokens"] for run in runs)
        forward = [run["per_forward"] for run in runs if "per_forward" in run]
        note = f"{statistics.median(forward):.2f} tokens/forward" if forward else ""
        print(f"{label:10} {engine:18} {cpu:13.2f} {wall:14.2f} {tokens:7.0f} {note}")


if __name__ == "__main__":
    main()
