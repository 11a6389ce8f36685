"""One tracked run for each training, however often it is resumed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner, Result

from finetune.train.checkpoints import listed
from finetune.train.cli import train
from finetune.train.tracking import begin_tracking, check_trackers, end_tracking
from provider.errors import ConfigurationError
from tests.finetune import training

pytestmark = pytest.mark.filterwarnings(
    "ignore:`.*gradient_checkpointing.*:FutureWarning", "ignore::UserWarning:torch"
)


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)


def run(folder: Path, *flags: str, **changes: Any) -> Result:
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(training.stated(folder, **changes)), encoding="utf-8")
    return CliRunner().invoke(train, [str(path), *flags])


def scalars(folder: Path, name: str) -> list[int]:
    """The steps that TensorBoard shows of a figure, as it reads the folder."""
    from tensorboard.backend.event_processing import (  # type: ignore[import-untyped]
        event_accumulator,
    )

    seen = event_accumulator.EventAccumulator(str(folder))
    seen.Reload()
    return [event.step for event in seen.Scalars(name)]


def test_a_resumed_training_goes_on_in_the_runs_that_it_has(tmp_path: Path) -> None:
    training.write_data(tmp_path, 20)
    settled = {"max_steps": 6, "save_steps": 2, "keep": 9, "tensorboard": True, "wandb": "offline"}
    assert run(tmp_path, **settled).exit_code == 0
    output = tmp_path / "run"
    shutil.rmtree(output / "adapter")  # killed after step 5, say: 3 and 4 are taken again
    for folder in listed(output)[1:]:
        shutil.rmtree(folder)
    resumed = run(tmp_path, "--resume", **settled)
    assert resumed.exit_code == 0, resumed.output
    assert scalars(output / "tensorboard", "train/loss") == [1, 2, 3, 4, 5, 6]
    known = json.loads((output / "tracking.json").read_text())["wandb"]
    sessions = [path.name.rsplit("-", 1)[-1] for path in output.glob("wandb/offline-run-*")]
    assert sessions == [known, known]


def test_trainings_of_one_process_have_runs_of_their_own(tmp_path: Path) -> None:
    import wandb

    seen = []
    for name in ("tax", "housing", "tax"):
        output = tmp_path / name
        output.mkdir(exist_ok=True)
        config = training.config(tmp_path, wandb="offline", output=str(output), name=name)
        begin_tracking(config)
        assert wandb.run is not None
        seen.append(wandb.run.id)
        end_tracking(config)
        assert wandb.run is None
    assert seen[0] == seen[2] != seen[1]


def test_an_id_of_the_users_own_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_RUN_ID", "mine1234")
    config = training.config(tmp_path, wandb="offline", output=str(tmp_path))
    begin_tracking(config)
    assert wandb.run is not None
    assert wandb.run.id == "mine1234"
    end_tracking(config)
    assert json.loads((tmp_path / "tracking.json").read_text()) == {"wandb": "mine1234"}


def test_a_service_that_wants_a_login_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = training.config(tmp_path, wandb="online", output=str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"wandb='online' cannot begin .* `wandb login`"):
        begin_tracking(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"wandb": "offline"},
            r"wandb='offline' needs the package wandb; .*sllm-provider\[wandb\]",
        ),
        ({"tensorboard": True}, r"tensorboard=True needs the package tensorboard"),
    ],
)
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=said):
        check_trackers(training.config(tmp_path, **changes))
    check_trackers(training.config(tmp_path))
