"""Settings that must have their effect on machines that the suite does not run on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from trl.trainer.sft_config import SFTConfig

from finetune.train import checkpoints
from finetune.train.arguments import arguments, rows_of_a_step
from finetune.train.config import parse_config
from finetune.train.journal import Journal
from finetune.train.plan import _check_same, make_plan, opened
from finetune.train.sampler import EpochSampler
from provider.errors import ConfigurationError
from tests.finetune import training

pytestmark = pytest.mark.filterwarnings("ignore:`.*gradient_checkpointing.*:FutureWarning")


def test_two_gpus_without_a_launcher_do_not_cut_up_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SFTConfig, "n_gpu", property(lambda _: 2))
    config = training.config(tmp_path, batch_size=4)
    settled = arguments(config, steps=9, evaluates=True, device="cpu", dtype=torch.float32)
    monkeypatch.undo()
    assert settled.n_gpu <= 1
    assert settled.train_batch_size == 4


def test_rows_of_similar_length_share_a_step_over_all_processes(tmp_path: Path) -> None:
    config = training.config(tmp_path, batch_size=2, accumulation=1)
    group = rows_of_a_step(config, processes=2)
    lengths = [number % 8 * 100 for number in range(64)]
    order = EpochSampler(lengths, 0, group).order(0)
    for start in range(0, len(order), 4):
        step = [lengths[row] for row in order[start : start + 4]]
        assert max(step) - min(step) <= 100


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": float("inf")}, "epochs=inf"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"target_modules": []}, "target_modules"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_config(training.stated(tmp_path, **changes))


def test_an_output_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    training.write_data(tmp_path, 6)
    (tmp_path / "run").write_text("a file")
    plan = make_plan(training.config(tmp_path))
    with (
        pytest.raises(ConfigurationError, match="cannot be written to"),
        opened(plan, resume=False),
    ):
        pass


def test_another_number_of_processes_is_another_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.write_data(tmp_path, 6)
    plan = make_plan(training.config(tmp_path))
    with opened(plan, resume=False):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ConfigurationError, match="processes were 1 and are 2"):
            _check_same(plan, resume=True)


def test_an_infinite_gradient_leaves_valid_json(tmp_path: Path) -> None:
    Journal(tmp_path).add({"step": 1, "loss": 2.0, "grad_norm": float("inf")})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse)["grad_norm"] is None


def test_a_seal_syncs_files_that_are_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to sync any other."""
    import fcntl

    sync = os.fsync

    def checked(handle: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{handle}"):
            assert fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        sync(handle)

    (tmp_path / "weights").write_bytes(b"w")
    monkeypatch.setattr(os, "fsync", checked)
    checkpoints.seal(tmp_path)
    assert checkpoints.why_not(tmp_path) is None
