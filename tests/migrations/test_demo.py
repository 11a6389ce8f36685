"""`make demo-migration`, small: the stand-in for OpenAI, the demo embedder, an app under load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from migrations.demo.load import Sample
from migrations.demo.timeline import Phase, Timeline, felt


@pytest.mark.slow
def test_the_demo_switches_and_comes_back() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "migrations.demo", "--rows", "300"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "SAFE TO SWITCH to local" in done.stdout
    assert "0 kinds of error []" in done.stdout
    assert done.stdout.count("written on the local side is found") == 2


def test_what_was_due_in_a_phase_counts_there() -> None:
    samples = [Sample("read", float(n), 0.001 * n, "{}") for n in range(10)]
    samples.append(Sample("write", 5.0, 2.0, "{}", "Error: x"))
    phase = Phase("middle", 4.0, 7.0)
    reads, writes = felt(samples, phase, ("read",)), felt(samples, phase, ("write",))
    assert (reads.count, reads.p50, reads.worst, reads.errors) == (3, 5.0, 6.0, 0)
    assert (writes.count, writes.worst, writes.errors) == (1, 2000.0, 1)
    line = Timeline(lambda text: None, [phase])
    assert "| middle | 3.0 | 5.0 / 6 / 6 | 2000.0 / 2000 / 2000 | 1 |" in line.table(samples)
