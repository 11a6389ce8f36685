"""What a resume costs: from the start of a process to its first step, fresh and resumed.

    python -m bench.finetune.resume [--rounds 3]

Trains on the demo checkpoint with a checkpoint after every step, is killed at step 20, and starts
again. Also the time of a step that saves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from finetune.demo.artifacts import EXAONE_DEMO
from finetune.demo.inquiries import inquiries

KILLED_AT = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    fresh, resumed, saving = [], [], []
    for _ in range(parser.parse_args().rounds):
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder) / "train.jsonl")
            fresh.append(_first_step(Path(folder), after=0, until=KILLED_AT))
            saving.append(_step_seconds(Path(folder)))
            resumed.append(_first_step(Path(folder), after=KILLED_AT - 2, until=KILLED_AT + 1))
    print(f"fresh:   {statistics.median(fresh):.2f} s from start to the first step")
    print(f"resumed: {statistics.median(resumed):.2f} s")
    print(f"a step that saves: {statistics.median(saving):.2f} s")


def _write(path: Path) -> None:
    lines = (json.dumps(record, ensure_ascii=False) for record in inquiries(2400))
    path.write_text("\n".join(lines), encoding="utf-8")


def _first_step(folder: Path, *, after: int, until: int) -> float:
    """Seconds from the start of the process to its first step beyond `after`; killed at `until`."""
    journal = folder / "run" / "metrics.jsonl"
    began = time.time()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "provider.cli", "finetune", "train", "--resume",
            "--base", str(EXAONE_DEMO), "--data", str(folder / "train.jsonl"),
            "--output", str(folder / "run"), "--method", "lora", "--device", "cpu",
            "--precision", "fp32", "--save-steps", "1", "--eval-share", "0",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while process.poll() is None and not _reached(journal, until, began):
        time.sleep(0.02)
    process.kill()
    process.wait()
    new = [e["time"] for e in _entries(journal) if e["time"] > began and e["step"] > after]
    return min(new) - began


def _reached(journal: Path, step: int, began: float) -> bool:
    return any(e["step"] >= step and e["time"] > began for e in _entries(journal))


def _step_seconds(folder: Path) -> float:
    times = [entry["time"] for entry in _entries(folder / "run" / "metrics.jsonl")]
    return statistics.median(b - a for a, b in pairwise(times))


def _entries(journal: Path) -> list[dict[str, float]]:
    text = journal.read_text(encoding="utf-8") if journal.is_file() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


if __name__ == "__main__":
    main()
