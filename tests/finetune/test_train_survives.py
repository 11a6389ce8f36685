"""Killed, stopped, cut off from its disk: a training goes on as if it had never stopped."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.train import checkpoints
from finetune.train.checkpoints import SEAL, listed, newest, rotate, seal, why_not
from finetune.train.journal import Journal
from tests.finetune import training


def make(run: Path, step: int) -> Path:
    folder = run / f"checkpoint-{step}"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * 100)
    (folder / "deep" / "state").write_bytes(str(step).encode())
    seal(folder)
    return folder


def test_a_checkpoint_counts_only_when_it_is_whole(tmp_path: Path) -> None:
    whole, cut, swapped, unsealed = (make(tmp_path, step) for step in (10, 20, 30, 100))
    (cut / "weights").write_bytes(b"w" * 60)
    (swapped / "deep" / "state").write_bytes(b"31")
    (unsealed / SEAL).unlink()
    found, skipped = newest(tmp_path)
    assert found == whole
    assert skipped == {
        unsealed: "it was not written to its end",
        swapped: "deep/state has other contents than were written",
        cut: "weights has 60 bytes instead of 100",
    }
    (whole / "weights").unlink()
    assert why_not(whole) == "weights is missing"
    (whole / SEAL).write_text("{")
    assert "cannot be read" in str(why_not(whole))


def test_rotation_counts_whole_checkpoints_only(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        make(tmp_path, step)
    (tmp_path / "checkpoint-4" / SEAL).unlink()
    rotate(tmp_path, 2)
    assert [checkpoints.step_of(folder) for folder in listed(tmp_path)] == [2, 3, 4]


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=30), st.integers(0, 40))
def test_a_rewound_journal_decides_as_one_that_never_went_on(
    tmp_path_factory: pytest.TempPathFactory, losses: list[float], step: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal, short = Journal(folder), Journal(folder, write=False)
    for number, loss in enumerate(losses, 1):
        journal.add({"step": number, "eval_loss": loss})
        if number <= step:
            short.add({"step": number, "eval_loss": loss})
    with journal.path.open("a") as file:
        file.write('{"step": 99, "eval_')  # a kill in the middle of a line
    again = Journal(folder)
    again.rewind(step)
    assert Journal(folder).entries == again.entries == short.entries
    assert again.best() == short.best()
    assert again.since_best() == short.since_best()


def killed_at(command: list[str], run: Path, step: int) -> None:
    """Start a training and kill -9 it once its journal has reached `step`."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=training.environment()
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        journal = run / "metrics.jsonl"
        if journal.is_file() and max(training.losses(run), default=0) >= step:
            time.sleep(random.random() * 0.05)
            break
        time.sleep(0.01)
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"packing": True, "max_length": 256}])
def test_kills_leave_the_curve_and_the_adapter_bit_for_bit(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        training.write_data(folder)
    done = training.train(whole, **changes)
    assert done.returncode == 0, done.stderr
    for step in (random.randint(1, 6), random.randint(7, 11)):
        killed_at(training.command(broken, "--resume", **changes), broken / "run", step)
    half = broken / "run" / "checkpoint-99"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    resumed = training.train(broken, "--resume", **changes)
    assert resumed.returncode == 0, resumed.stderr
    assert "checkpoint-99 is skipped: it was not written to its end." in resumed.stdout
    assert training.losses(broken / "run") == training.losses(whole / "run")
    adapters = [
        (folder / "run" / "adapter" / "adapter_model.safetensors").read_bytes()
        for folder in (whole, broken)
    ]
    assert adapters[0] == adapters[1]


@pytest.mark.slow
def test_sigterm_saves_and_a_moved_run_goes_on_elsewhere(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    training.write_data(here)
    command = training.command(here, save_steps=1000, max_steps=60)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=training.environment(),
    )  # fmt: skip
    while not (here / "run" / "metrics.jsonl").is_file() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert "SIGTERM was received. Everything is saved; go on with --resume." in said
    assert not (here / "run" / "adapter").exists()
    here.rename(there)  # another machine: other paths everywhere
    refused = training.train(there, "--resume", save_steps=1000, max_steps=61)
    assert "max_steps was 60 and is 61" in refused.stderr
    assert refused.returncode == 1
    done = training.train(there, "--resume", save_steps=1000, max_steps=60)
    assert done.returncode == 0, done.stderr
    assert sorted(training.losses(there / "run")) == list(range(1, 61))


@pytest.mark.slow
def test_max_hours_stops_before_they_are_over_and_a_full_disk_costs_one_checkpoint(
    tmp_path: Path,
) -> None:
    training.write_data(tmp_path)
    stopped = training.train(tmp_path, "--max-hours", "0.0001")
    assert stopped.returncode == 75, stopped.stderr
    assert "max_hours=0.0001 are over" in stopped.stdout
    (kept,) = listed(tmp_path / "run")
    flags = " ".join(training.command(tmp_path, "--resume", "--save-steps", "1"))
    limited = subprocess.run(
        ["bash", "-c", f"ulimit -f 40; trap '' XFSZ; exec {flags}"],  # files of 40 KiB at most
        capture_output=True, text=True, env=training.environment(), timeout=240, check=False,
    )  # fmt: skip
    said = limited.stdout + limited.stderr
    for step in (2, 3, 4):  # told when it happens, not after the night
        assert f"checkpoint-{step} could not be written" in limited.stdout
    assert "The best state, of step 4, could not be kept" in said
    assert f"what is there is {kept.name}; free space" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert newest(tmp_path / "run") == (kept, {})
    done = training.train(tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "run")
