"""`metrics.jsonl`: every step's and every evaluation's figures, one JSON object in a line.

It is what curves, the best checkpoint and early stopping are read from, so that a resumed training
decides as one that never stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.durable import write_durably

NAME = "metrics.jsonl"


class Journal:
    """The lines of one training. `write` false reads and remembers only (other processes than the
    first of several)."""

    def __init__(self, run: Path, *, write: bool = True) -> None:
        self.path = run / NAME
        self.entries = read(self.path)
        self._write = write

    def rewind(self, step: int) -> None:
        """Forget what came after `step`: it is about to happen again."""
        self.entries = [entry for entry in self.entries if entry["step"] <= step]
        if self._write:
            lines = "".join(_line(entry) for entry in self.entries)
            write_durably(self.path, lines.encode())

    def add(self, entry: Mapping[str, Any]) -> None:
        """One more line; a full disk costs the line, not the training."""
        self.entries.append(dict(entry))
        if not self._write:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(entry))
        except OSError:
            return

    def evaluations(self) -> list[tuple[int, float]]:
        """(step, evaluation loss) in order."""
        return [(e["step"], e["eval_loss"]) for e in self.entries if "eval_loss" in e]

    def best(self) -> tuple[int, float] | None:
        """The evaluation with the lowest loss, the earliest of equals."""
        return min(self.evaluations(), key=lambda each: each[1], default=None)

    def since_best(self) -> int:
        """How many evaluations came after the best one."""
        evaluations, best = self.evaluations(), self.best()
        return len(evaluations) - 1 - evaluations.index(best) if best else 0

    def losses(self) -> list[tuple[int, float]]:
        """(step, training loss) in order."""
        return [(e["step"], e["loss"]) for e in self.entries if "loss" in e]


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; one that a kill cut is left out."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
    return entries


def _line(entry: Mapping[str, Any]) -> str:
    """JSON has no infinity, which is what fp16's first gradients are."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in entry.items()
    }
    return json.dumps(finite, ensure_ascii=False) + "\n"
