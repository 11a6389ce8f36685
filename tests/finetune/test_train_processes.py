"""Several processes: their losses, every held-out row once, and one exit code for all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finetune.train.journal import Journal
from finetune.train.launch import launch
from finetune.train.rows import collate, dataset, filled_up
from finetune.train.stops import Stops
from tests.finetune import training
from tests.finetune.test_train_survives import killed_at


def started(folder: Path, *flags: str, **changes: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        training.command(folder, *flags, **changes),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=training.environment(),
    )  # fmt: skip


def reached(run: Path, process: subprocess.Popen[str], step: int) -> None:
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if (run / "metrics.jsonl").is_file() and max(training.losses(run), default=0) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one_with_accumulation(tmp_path: Path) -> None:
    alone, two = tmp_path / "alone", tmp_path / "two"
    for folder in (alone, two):
        folder.mkdir()
        lines = training.write_data(folder).read_text(encoding="utf-8").splitlines()
        (folder / "aside.jsonl").write_text("\n".join(lines[:5]), encoding="utf-8")  # not 4 nor 8
    settled = {"dropout": 0.0, "max_steps": 4, "batch_size": 2, "eval_steps": 1}
    done = training.train(alone, accumulation=2, eval_data=str(alone / "aside.jsonl"), **settled)
    assert done.returncode == 0, done.stderr
    command = training.command(two, accumulation=1, eval_data=str(two / "aside.jsonl"), **settled)
    launched = [command[0], "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launched, *command[1:]],
        capture_output=True, text=True, env=training.environment(), timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 x 1 rows x 2 processes" in done.stdout
    assert done.stdout.count("Adapter: ") == 1
    expected = training.losses(alone / "run")
    assert training.losses(two / "run") == {
        step: pytest.approx(loss, rel=1e-3) for step, loss in expected.items()
    }
    one, other = (dict(Journal(each / "run", write=False).evaluations()) for each in (alone, two))
    assert other == {step: pytest.approx(loss, rel=2e-4) for step, loss in one.items()}


def test_rows_that_fill_up_teach_nothing(tmp_path: Path) -> None:
    from finetune.train.plan import make_plan

    training.write_data(tmp_path, 10)
    rows = dataset(make_plan(training.config(tmp_path, eval_share=0)).train)
    filled = filled_up(rows, 4)
    assert (len(rows), len(filled)) == (10, 12)
    assert filled[:10] == rows[:]
    assert filled_up(filled, 4) is filled
    batch = collate([filled[10], filled[11]])
    assert set(batch["shift_labels"].flatten().tolist()) == {-100}


@pytest.mark.slow
def test_processes_that_are_told_to_stop_end_with_75_and_go_on(tmp_path: Path) -> None:
    training.write_data(tmp_path)
    settled: dict[str, Any] = {"save_steps": 1000, "max_steps": 30, "batch_size": 1}
    process = started(tmp_path, "--processes", "2", **settled)
    reached(tmp_path / "run", process, 2)
    process.terminate()
    said, wrong = process.communicate(timeout=120)
    assert process.returncode == 75, (said, wrong)
    assert said.count("SIGTERM was received. Everything is saved; go on with --resume.") == 1
    refused = training.train(tmp_path, "--resume", **settled)
    assert "processes were 2 and are 1" in refused.stderr
    process = started(tmp_path, "--processes", "2", "--resume", **settled)
    said, wrong = process.communicate(timeout=200)
    assert process.returncode == 0, (said, wrong)
    assert sorted(training.losses(tmp_path / "run")) == list(range(1, 31))


@pytest.mark.slow
def test_processes_whose_launcher_was_killed_save_and_end(tmp_path: Path) -> None:
    training.write_data(tmp_path)
    settled: dict[str, Any] = {"save_steps": 1000, "max_steps": 500, "batch_size": 1}
    command = training.command(tmp_path, "--processes", "2", **settled)
    killed_at(command, tmp_path / "run", 2)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("checkpoint-*/complete.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def codes(tmp_path: Path, script: str) -> tuple[int, str]:
    """What `launch` says of three processes that run `script`, itself in a process."""
    (tmp_path / "worker.py").write_text(
        f"import os, sys, time\nrank = os.environ['RANK']\n{script}"
    )
    launcher = (
        "import sys; from finetune.train.launch import launch; "
        f"sys.exit(launch(3, [sys.executable, {str(tmp_path / 'worker.py')!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("print(rank + ' of ' + os.environ['WORLD_SIZE'])", 0, "0 of 3\n"),
        ("sys.exit(75)", 75, ""),
        ("sys.exit(75 if rank == '1' else 0)", 75, ""),
        ("time.sleep(300) if rank != '2' else sys.exit('no GPU for me')", 1, "no GPU for me\n"),
        ("time.sleep(300) if rank != '1' else os.kill(os.getpid(), 9)", 137, ""),
    ],
)
def test_one_exit_code_for_all(tmp_path: Path, script: str, code: int, said: str) -> None:
    assert codes(tmp_path, script) == (code, said)


def test_what_all_find_wrong_is_said_by_the_first(tmp_path: Path) -> None:
    code, said = codes(tmp_path, "sys.exit('wrong config')")
    assert code == 1
    assert set(said.splitlines()) == {"wrong config"}  # twice where another was seen to end first


def test_a_signal_that_comes_twice_at_once_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Stops(save_minutes=None, max_hours=None, started=0.0):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # a terminal's, and the launcher's
        now = 110.0
        os.kill(os.getpid(), signal.SIGTERM)  # a cluster that asks again
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_launch_gives_back_the_signal_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert launch(1, [sys.executable, "-c", ""]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
