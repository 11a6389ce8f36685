"""Engines side by side on one checkpoint: same prompts, same schema, one run, in turns, medians.

    python -m bench.engine.run WIDE_FOLDER [--engines ours,generate] [--python vllm=PATH]
        [--python llama=PATH] [--rounds 3] [--kinds free,json,whole]

`WIDE_FOLDER` is what `bench.engine.widen` wrote (llama.cpp also needs `model.gguf` in it, from
`bench.engine.gguf_file`). Every engine is a process of its own, in its own environment, with one
thread; all are loaded before the first case, and the cases go round the engines. Figures are
milliseconds per generated token: CPU time of the process, of the whole request and of what comes
after the first tokens, and wall-clock beside it, which means something on a quiet machine only. An
engine that fails is named with its reason; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.engine.table import Rows, table
from bench.engine.worker import Failed, Worker
from finetune.demo.corpus import heldout_plans
from finetune.demo.schema import floorplan_schema
from provider.engine.chat import ChatTokenizer

WHOLE = 600
"""More tokens than an answer to the schema has."""

KINDS = ("free", "json", "whole")
"""Free text, JSON cut after `--new-tokens`, and JSON to its natural end."""


def cases(
    tokenizer: ChatTokenizer, chosen: argparse.Namespace
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(label, case) in the order in which they run; every round has prompts of its own."""
    streams = [int(count) for count in chosen.streams.split(",")]
    kinds = chosen.kinds.split(",")
    samples = heldout_plans(chosen.rounds * sum(streams) * len(kinds))
    prompts = [tokenizer.encode_chat(sample.messages) for sample in samples]
    schema = json.dumps(floorplan_schema(), ensure_ascii=False)
    for _ in range(chosen.rounds):
        for kind in kinds:
            for count in streams:
                taken, prompts = prompts[:count], prompts[count:]
                yield (
                    f"{kind} x{count}",
                    {
                        "prompts": taken,
                        "new_tokens": WHOLE if kind == "whole" else chosen.new_tokens,
                        "schema": None if kind == "free" else schema,
                    },
                )


class Race:
    """The engines that are still running, what they measured, and why the others are not."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = list(workers)
        self.rows: Rows = {}
        self.failures: dict[str, str] = {}
        for worker in workers:
            self._try(worker, worker.ready)

    def warm_up(self, case: dict[str, Any]) -> None:
        for worker in list(self.workers):
            self._try(worker, lambda worker=worker: worker.run({**case, "new_tokens": 8}))

    def run(self, label: str, case: dict[str, Any], turn: int) -> None:
        """One case through every engine, beginning with another one each turn."""
        at = turn % max(1, len(self.workers))
        for worker in self.workers[at:] + self.workers[:at]:
            result = self._try(worker, lambda worker=worker: worker.run(case))
            if result is not None and result["tokens"]:
                self.rows.setdefault((label, worker.name), []).append(result)

    def _try(self, worker: Worker, call: Any) -> dict[str, Any] | None:
        try:
            result: dict[str, Any] = call()
        except Failed as failed:
            self.failures[worker.name] = str(failed)
            self.workers.remove(worker)
            worker.close()
            return None
        return result


def write(rows: Rows, path: Path) -> None:
    """Every result so far, as JSON: a run that is cut off leaves what it had."""
    listed = [{"case": c, "engine": e, "runs": runs} for (c, e), runs in rows.items()]
    path.write_text(json.dumps(listed, ensure_ascii=False), encoding="utf-8")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH")
    parser.add_argument("--engines", default="ours,generate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--kinds", default="free,json", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--streams", default="1,8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write every result here, as JSON")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    pythons = dict(item.split("=", 1) for item in chosen.python)
    tokenizer = ChatTokenizer.load(chosen.folder / "original")
    plan = list(cases(tokenizer, chosen))
    with tempfile.TemporaryDirectory() as logs:
        race = Race(
            [
                Worker(
                    name,
                    pythons.get(name, sys.executable),
                    chosen.folder,
                    chosen.threads,
                    Path(logs) / name,
                )
                for name in dict.fromkeys([*chosen.engines.split(","), *pythons])
            ]
        )
        for _, case in {label: (label, case) for label, case in plan}.values():
            race.warm_up({**case, "prompts": [prompt[:32] for prompt in case["prompts"]]})
        for turn, (label, case) in enumerate(plan):
            race.run(label, case, turn)
            if chosen.out:
                write(race.rows, chosen.out)
        for worker in race.workers:
            worker.close()
    print(table(race.rows, race.failures))
    return int(bool(race.failures))


if __name__ == "__main__":
    sys.exit(main())
