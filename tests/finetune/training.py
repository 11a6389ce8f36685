"""A tiny training as a user starts it: data, flags, a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune.demo.inquiries import inquiries
from finetune.train.config import TrainConfig, parse_config
from tests import tiny

SLLM = [sys.executable, "-m", "provider.cli"]


def write_data(folder: Path, count: int = 40, seed: int = 0) -> Path:
    path = folder / "train.jsonl"
    lines = (json.dumps(record, ensure_ascii=False) for record in inquiries(count, seed))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def stated(folder: Path, **changes: Any) -> dict[str, Any]:
    """A training of 12 steps with dropout, evaluations and checkpoints, on the tiny model."""
    return {
        "base": str(tiny.llm_folder()),
        "data": str(folder / "train.jsonl"),
        "output": str(folder / "run"),
        "method": "lora",
        "device": "cpu",
        "precision": "fp32",
        "r": 4,
        "alpha": 8,
        "dropout": 0.1,
        "batch_size": 2,
        "accumulation": 2,
        "max_steps": 12,
        "learning_rate": 1e-2,
        "eval_share": 0.2,
        "eval_steps": 4,
        "save_steps": 3,
        **changes,
    }


def config(folder: Path, **changes: Any) -> TrainConfig:
    return parse_config(stated(folder, **changes))


def command(folder: Path, *flags: str, **changes: Any) -> list[str]:
    """`sllm finetune train CONFIG FLAGS`, the configuration written beside the data."""
    import yaml  # type: ignore[import-untyped]

    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(stated(folder, **changes)), encoding="utf-8")
    return [*SLLM, "finetune", "train", str(path), *flags]


def environment(**further: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd(), **further}


def train(folder: Path, *flags: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *flags, **changes),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=240,
        check=False,
    )


def losses(run: Path) -> dict[int, float]:
    """Training loss by step, as the journal has it."""
    return {entry["step"]: entry["loss"] for entry in entries(run) if "loss" in entry}


def entries(run: Path) -> Iterator[Mapping[str, Any]]:
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
