"""The GPU benchmark runs to its end, and goes on where a part fails; its figures are for GPUs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from bench.engine.gpu import main
from bench.engine.gpu_clock import Broken, Clock
from bench.engine.gpu_engines import Ask
from bench.engine.gpu_speed import Case, Plan, Report, measure

_TINY = ["--tiny", "--device", "cpu", "--streams", "2", "--tokens", "16", "--rounds", "1"]


@pytest.mark.slow
def test_the_gpu_benchmark_runs() -> None:
    pytest.importorskip("outlines")
    command = [sys.executable, "-m", "bench.engine.gpu", *_TINY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for engine in ("generate", "without graphs", "with graphs"):
        assert f"| 2 | free | {engine} |" in done.stdout
        assert f"| 2 | json | {engine} |" in done.stdout
    assert "graphs were off" in done.stdout
    assert "NF4, 512 tokens (64 new)" in done.stdout
    assert "| 12 | 6 adapters | with graphs |" in done.stdout
    assert "failed" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "no CUDA device" in capsys.readouterr().out


class Fake:
    """Answers at once, but for free text at eight streams."""

    def run(self, ask: Ask) -> int:
        if len(ask.prompts) == 8 and ask.schema is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return len(ask.prompts) * ask.tokens

    def note(self) -> str:
        return ""

    def close(self) -> None:
        pass


def test_a_case_that_fails_says_so_in_its_place() -> None:
    report = Report()
    cases = [Case(1, "free"), Case(8, "free"), Case(8, "json", {})]
    measure("fake", Fake(), cases, Plan(4, 2, 8, 2), 100, Clock(1.0), report)
    assert isinstance(report.found[8, "free"]["fake"], str)
    assert isinstance(report.found[8, "json"]["fake"], float)
    assert isinstance(report.found[1, "free"]["fake"], float)


def test_a_part_that_fails_leaves_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("no such kernel")

    clock = Clock(1.0)
    assert not clock.part("speed", "cpu", fail)
    assert clock.part("memory", "cpu", lambda: None)
    assert Clock(0.0).part("late", "cpu", fail)
    said = capsys.readouterr().out
    assert "speed: failed, ValueError: no such kernel" in said
    assert "late: not measured" in said
    monkeypatch.setattr("bench.engine.gpu_clock.works", lambda _: False)
    with pytest.raises(Broken, match="does not compute"):
        clock.part("speed", "cpu", fail)


def test_a_run_that_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**6, 50))
    monkeypatch.setattr("bench.engine.gpu_speed.time.perf_counter", lambda: float(next(ticks)))
    report = Report()
    slow: Any = Fake()
    measure("slow", slow, [Case(1, "free")], Plan(4, 2, 80, 2), 100, Clock(1.0), report)
    assert "a round would take" in str(report.found[1, "free"]["slow"])
