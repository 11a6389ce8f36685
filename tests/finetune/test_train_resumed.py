"""What a second session finds: order, borders of epochs, ends that were cut off, other limits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner, Result
from filelock import FileLock

from finetune.train.checkpoints import listed, step_of
from finetune.train.cli import train
from finetune.train.journal import Journal
from finetune.train.sampler import EpochSampler
from tests import tiny
from tests.finetune import training

pytestmark = pytest.mark.filterwarnings(
    "ignore:`.*gradient_checkpointing.*:FutureWarning", "ignore::UserWarning:torch"
)
WEIGHTS = "adapter_model.safetensors"


def run(folder: Path, *flags: str, **changes: Any) -> Result:
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(training.stated(folder, **changes)), encoding="utf-8")
    return CliRunner().invoke(train, [str(path), *flags])


def test_each_epoch_has_an_order_of_its_own_also_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []
    order = EpochSampler.order

    def seen(self: EpochSampler, epoch: int) -> list[int]:
        epochs.append(epoch)
        return order(self, epoch)

    monkeypatch.setattr(EpochSampler, "order", seen)
    training.write_data(tmp_path, 10)
    settled: dict[str, Any] = {"max_steps": None, "epochs": 2.5, "eval_steps": None}  # 2 an epoch
    assert run(tmp_path, save_steps=2, keep=9, **settled).exit_code == 0
    assert epochs == [0, 1, 2]
    output = tmp_path / "run"
    assert [step_of(folder) for folder in listed(output)] == [2, 4, 5]
    whole = training.losses(output)
    shutil.rmtree(output / "adapter")
    shutil.rmtree(output / "checkpoint-5")
    shutil.rmtree(output / "checkpoint-4")
    assert run(tmp_path, "--resume", save_steps=1, keep=9, **settled).exit_code == 0
    assert epochs == [0, 1, 2, 1, 2]
    assert training.losses(output) == whole
    assert [step_of(folder) for folder in listed(output)] == [2, 3, 4, 5]  # by the new save_steps


@pytest.mark.parametrize("kept", ["best", "last"])
def test_a_kill_between_the_last_step_and_the_adapter_trains_nothing_again(
    tmp_path: Path, kept: str
) -> None:
    training.write_data(tmp_path, 20)
    settled = {"max_steps": 3, "eval_steps": 1}  # within an epoch of 4
    assert run(tmp_path, **settled).exit_code == 0
    output = tmp_path / "run"
    before, figures = (output / "adapter" / WEIGHTS).read_bytes(), training.losses(output)
    shutil.rmtree(output / "adapter")
    if kept == "last":
        before = (output / "checkpoint-3" / WEIGHTS).read_bytes()
        shutil.rmtree(output / "best")
    result = run(tmp_path, "--resume", **settled)
    assert result.exit_code == 0, result.output
    assert "Step 3 of 3" in result.output
    assert training.losses(output) == figures
    assert (output / "adapter" / WEIGHTS).read_bytes() == before
    manifest = json.loads((output / "adapter" / "manifest.json").read_text())
    assert ("best_step" in manifest["metrics"]) == (kept == "best")


def test_a_best_state_of_another_step_is_not_passed_off_as_the_best(tmp_path: Path) -> None:
    training.write_data(tmp_path, 20)
    settled = {"max_steps": 3, "eval_steps": 1}
    assert run(tmp_path, **settled).exit_code == 0
    output = tmp_path / "run"
    shutil.rmtree(output / "adapter")
    journal = Journal(output)
    kept = json.loads((output / "best" / "step.json").read_text())
    for entry in journal.entries:  # a lower one, whose state was never kept
        if "eval_loss" in entry and entry["step"] == (1 if kept != 1 else 2):
            entry["eval_loss"] = 0.5
    journal.rewind(3)
    assert run(tmp_path, "--resume", **settled).exit_code == 0
    taken = (output / "adapter" / WEIGHTS).read_bytes()
    assert taken == (output / "checkpoint-3" / WEIGHTS).read_bytes()
    manifest = json.loads((output / "adapter" / "manifest.json").read_text())
    assert manifest["metrics"]["eval_loss"] != 0.5


def test_early_stopping_is_remembered(tmp_path: Path) -> None:
    training.write_data(tmp_path, 20)
    settled = {
        "max_steps": 9, "eval_steps": 1, "save_steps": 1, "patience": 1, "learning_rate": 0.5,
    }  # fmt: skip
    assert run(tmp_path, **settled).exit_code == 0
    output = tmp_path / "run"
    steps = sorted(training.losses(output))
    assert len(steps) < 9
    before = (output / "adapter" / WEIGHTS).read_bytes()
    shutil.rmtree(output / "adapter")
    assert run(tmp_path, "--resume", **settled).exit_code == 0
    assert sorted(training.losses(output)) == steps
    assert (output / "adapter" / WEIGHTS).read_bytes() == before


def test_a_resume_over_another_base_or_other_held_out_data_names_every_difference(
    tmp_path: Path,
) -> None:
    training.write_data(tmp_path, 20)
    base, aside = tmp_path / "base", tmp_path / "aside.jsonl"
    shutil.copytree(tiny.llm_folder(), base)
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    aside.write_text("\n".join(lines[:4]), encoding="utf-8")
    settled = {"max_steps": 2, "base": str(base), "eval_data": str(aside)}
    assert run(tmp_path, **settled).exit_code == 0
    stated = json.loads((base / "config.json").read_text())
    elsewhere = {**stated, "transformers_version": "9.9.9"}  # another copy of the same model
    (base / "config.json").write_text(json.dumps(elsewhere))
    assert "is finished already" in run(tmp_path, "--resume", **settled).output

    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-2] ^= 1  # one weight, one bit
    (base / "model.safetensors").write_bytes(weights)
    (base / "config.json").write_text(json.dumps({**stated, "rope_theta": 12345.0}))
    (base / "more.safetensors").write_bytes(b"x")
    aside.write_text("\n".join(lines[:3]), encoding="utf-8")
    refused = run(tmp_path, "--resume", **settled)
    assert refused.exit_code == 1
    assert (
        "cannot be continued: the held-out data are others; the base's config.json has other "
        "contents; the base's model.safetensors has other contents; the base's more.safetensors is "
        "new; put it back as it was"
    ) in refused.output
    (base / "model.safetensors").unlink()
    assert "the base's model.safetensors is gone" in run(tmp_path, "--resume", **settled).output


def test_a_run_begun_before_bases_were_noted_still_goes_on(tmp_path: Path) -> None:
    training.write_data(tmp_path, 20)
    assert run(tmp_path, max_steps=2).exit_code == 0
    noted = json.loads((tmp_path / "run" / "run.json").read_text())
    del noted["base"], noted["eval_sha256"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(noted))
    assert "is finished already" in run(tmp_path, "--resume", max_steps=2).output


def test_two_trainings_in_one_output_take_turns(tmp_path: Path) -> None:
    training.write_data(tmp_path, 20)
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):  # as another process holds it
        refused = run(tmp_path, max_steps=1)
    assert refused.exit_code == 1
    assert f"Another process trains in {tmp_path / 'run'}; wait for it" in refused.output
    assert run(tmp_path, max_steps=1).exit_code == 0
