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
from finetune.train import cli as command
from finetune.train.arguments import arguments, rows_of_a_step
from finetune.train.base import _attend, load_base, precision
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


def test_fp16_is_for_gpus_that_scale_gradients() -> None:
    assert precision("auto", torch.device("mps")) == "bf16"
    assert precision("fp16", torch.device("cuda")) == "fp16"
    for kind in ("cpu", "mps"):
        with pytest.raises(ConfigurationError, match=f"does not train on {kind}"):
            precision("fp16", torch.device(kind))


def by_agent(folder: Path, **agents: int) -> Path:
    path = folder / "eval.jsonl"
    records = [
        {"instruction": f"{agent} {number}", "output": "yes", "agent_type": agent}
        for agent, count in agents.items()
        for number in range(count)
    ]
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def test_each_agent_is_evaluated_on_its_own_conversations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = by_agent(tmp_path, tax=5, housing=3)
    config = training.config(tmp_path, data=str(data), eval_data=str(data), per="agent_type")
    assert command._all(config, resume=False, dry_run=True, started=0)
    said = capsys.readouterr().out
    assert "3 for evaluation" in said
    assert "5 for evaluation" in said
    (tmp_path / "more").mkdir()
    further = by_agent(tmp_path / "more", tax=1, adapters=1)
    config = training.config(tmp_path, data=str(further), per="agent_type")
    with pytest.raises(ConfigurationError, match="'adapters' is the name"):
        command._all(config, resume=False, dry_run=True, started=0)
    (tmp_path / "less").mkdir()
    less = by_agent(tmp_path / "less", tax=1)
    config = training.config(tmp_path, data=str(data), eval_data=str(less), per="agent_type")
    with pytest.raises(ConfigurationError, match="nothing of the agent 'housing'"):
        command._all(config, resume=False, dry_run=True, started=0)


def test_where_links_are_not_allowed_adapters_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tax" / "adapter").mkdir(parents=True)
    (tmp_path / "tax" / "adapter" / "manifest.json").write_text("{}")
    (tmp_path / "adapters").mkdir()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    command._linked(tmp_path / "adapters" / "tax", Path("..") / "tax" / "adapter")
    assert (tmp_path / "adapters" / "tax" / "manifest.json").is_file()


def test_a_finished_training_holds_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    import weakref

    from finetune.train import base

    models: list[Any] = []
    load = base.load_base

    def seen(*args: Any, **options: Any) -> Any:
        loaded = load(*args, **options)
        models.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(base, "load_base", seen)
    training.write_data(tmp_path, 8)
    config = training.config(tmp_path, max_steps=1, eval_share=0, eval_steps=None)
    gc.disable()  # what a device holds until someone asks for it back
    try:
        assert command.one(config, None, resume=False, dry_run=False, started=0)
    finally:
        gc.enable()
    assert models[0]() is None


def test_attention_that_cannot_be_computed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="flash-attn"):
        load_base(training.config(tmp_path, attention="flash_attention_2"))
    model = load_base(training.config(tmp_path), progress=False).model
    model.config.attn_logit_softcapping = 50.0
    with pytest.raises(ConfigurationError, match="set attention: eager"):
        _attend(model, "packed")
    _attend(model, "eager")
