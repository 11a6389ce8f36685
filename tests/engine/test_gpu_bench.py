"""The GPU benchmark runs to its end; its figures are for machines with a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from bench.engine.gpu import main

_TINY = ["--tiny", "--device", "cpu", "--streams", "2", "--tokens", "16", "--rounds", "1"]


@pytest.mark.slow
def test_the_gpu_benchmark_runs() -> None:
    pytest.importorskip("outlines")
    command = [sys.executable, "-m", "bench.engine.gpu", *_TINY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for engine in ("generate", "without graphs", "with graphs"):
        assert f"| 2 | free | {engine} |" in done.stdout
        assert f"| 2 | json | {engine} |" in done.stdout
    assert "graphs were off" in done.stdout
    assert "NF4, 512 tokens (64 new)" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "no CUDA device" in capsys.readouterr().out
