"""What a resume costs: CPU time from the start of a process to its first step, fresh and resumed,
and what it costs a step to save.

    python -m bench.finetune.resume [--rounds 3]

Trains on the demo checkpoint with a checkpoint after every step, is killed at step 20, and starts
again; beside it a training that does not save. One thread each, medians.
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
from collections import defaultdict
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from finetune.demo.artifacts import EXAONE_DEMO
from finetune.demo.inquiries import inquiries

KILLED_AT = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    seconds = defaultdict(list)
    for _ in range(parser.parse_args().rounds):
        for saves in (True, False):
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                _write(folder / "train.jsonl")
                start, each = _trained(folder, until=KILLED_AT, saves=saves)
                seconds["a step that saves" if saves else "a step"].append(each)
                if saves:
                    seconds["fresh, to the first step"].append(start)
                    again, _each = _trained(folder, until=KILLED_AT + 2, saves=True)
                    seconds["resumed, to the first step"].append(again)
    for name, values in seconds.items():
        print(f"{name}: {statistics.median(values):.3f} CPU seconds ({len(values)} runs)")


def _write(path: Path) -> None:
    lines = (json.dumps(record, ensure_ascii=False) for record in inquiries(2400))
    path.write_text("\n".join(lines), encoding="utf-8")


def _trained(folder: Path, *, until: int, saves: bool) -> tuple[float, float]:
    """CPU seconds of a process until its first step is in the journal, and of each one after it
    until `until`, where it is killed."""
    journal = folder / "run" / "metrics.jsonl"
    began = time.time()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "provider.cli", "finetune", "train", "--resume",
            "--base", str(EXAONE_DEMO), "--data", str(folder / "train.jsonl"),
            "--output", str(folder / "run"), "--method", "lora", "--device", "cpu",
            "--precision", "fp32", "--save-steps", "1" if saves else "1000", "--eval-share", "0",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        first, at = _seen(process, journal, began, 0)
        last, end = _seen(process, journal, began, until)
    finally:
        process.kill()
        process.wait()
    return at, (end - at) / max(last - first, 1)


def _seen(
    process: subprocess.Popen[bytes], journal: Path, began: float, step: int
) -> tuple[int, float]:
    """The step that the process has taken once it is at least `step`, and its CPU time by then."""
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        taken = [entry["step"] for entry in _entries(journal) if entry["time"] > began]
        if taken and max(taken) >= step:
            used = watched.cpu_times()
            return int(max(taken)), float(used.user + used.system)
        time.sleep(0.01)
    raise SystemExit(f"the training ended with {process.returncode} before step {step}")


def _entries(journal: Path) -> list[dict[str, float]]:
    text = journal.read_text(encoding="utf-8") if journal.is_file() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


if __name__ == "__main__":
    main()
