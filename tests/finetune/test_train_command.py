"""`sllm finetune train` as it is typed: what it refuses before it loads, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner, Result

import finetune.train
from finetune.train.cli import train
from finetune.train.config import TrainConfig, load_config
from finetune.train.curves import smoothed
from provider.engine.checkpoint import load
from provider.engine.lora import AdapterRefused, read_adapter
from tests import tiny
from tests.finetune import training

pytestmark = pytest.mark.filterwarnings(
    "ignore:`.*gradient_checkpointing.*:FutureWarning", "ignore::UserWarning:torch"
)
CONFIGS = Path(finetune.train.__file__).parent / "configs"


def run(folder: Path, *flags: str, **changes: Any) -> Result:
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(training.stated(folder, **changes)), encoding="utf-8")
    return CliRunner().invoke(train, [str(path), *flags])


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"learning_rat": 1}, "there is no key 'learning_rat'; did you mean"),
    "a wrong type": ({"r": "many"}, "r='many': input should be a valid integer"),
    "out of range": ({"dropout": 1.5}, "dropout=1.5: input should be less than 1"),
    "no such base": ({"base": "/nowhere/model"}, "base="),
    "no such layer": ({"target_modules": ["qq"]}, "no layer named 'qq'; expected some of c_fc_0"),
    "too little memory": ({"memory_limit": 0.01}, "memory_limit=0.01"),
    "beyond the context": ({"max_length": 4097}, "max_length=4097 is beyond the 4096 tokens"),
    "too long": ({"max_length": 16}, "are longer than max_length=16"),
    "patience without": (
        {"patience": 2, "eval_share": 0}, "patience needs an evaluation",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_one_sentence_before_anything_is_loaded(tmp_path: Path, case: str) -> None:
    training.write_data(tmp_path)
    changes, said = REFUSALS[case]
    result = run(tmp_path, **changes)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "NoneType"),
        ("[1]", "holds list"),
        ("a: [", "no YAML"),
        ("data: x\n", "'base' is missing"),
        ("r: 8\ndata: x\nr: 16\n", "the key 'r' stands twice, again in line 3"),
    ],
)
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(text)
    result = CliRunner().invoke(train, [str(path)])
    assert result.exit_code == 1
    assert said in result.output


def test_bad_lines_of_the_data_are_named(tmp_path: Path) -> None:
    training.write_data(tmp_path)
    path = tmp_path / "train.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '\n{"message": []}', encoding="utf-8")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "train.jsonl" in result.output
    assert "41" in result.output


def test_flags_win_over_the_file_and_every_key_is_one(tmp_path: Path) -> None:
    help_text = CliRunner().invoke(train, ["--help"]).output
    for key in TrainConfig.model_fields:
        assert f"--{key.replace('_', '-')}" in help_text
    training.write_data(tmp_path)
    result = run(tmp_path, "--dry-run", "--max-steps", "7", "--target-modules", "q_proj")
    assert result.exit_code == 0, result.output
    assert "7 steps of 2 x 2 rows" in result.output
    assert "Time, roughly" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configurations_are_valid(path: Path) -> None:
    if path.stem.startswith("accelerate"):
        assert yaml.safe_load(path.read_text())["main_training_function"] == "main"
        return
    assert load_config(path).name


def test_a_training_leaves_what_the_server_takes_and_people_read(tmp_path: Path) -> None:
    training.write_data(tmp_path)
    result = run(tmp_path, tensorboard=True)
    assert result.exit_code == 0, result.output
    assert "/v1/load_lora_adapter" in result.output
    assert "Peak memory" in result.output
    output = tmp_path / "run"
    base = load(tiny.llm_folder(), device="cpu", dtype="fp32", progress=False)
    adapter = read_adapter(output / "adapter", base)
    assert adapter.rank == 4
    assert adapter.manifest["examples"] == 32
    assert adapter.manifest["metrics"]["best_step"] in (4, 8, 12)
    assert (output / "curves.png").stat().st_size > 10_000
    assert "data:image/png;base64," in (output / "curves.html").read_text()
    assert list((output / "tensorboard").rglob("events.out.tfevents.*"))
    steps = [entry["step"] for entry in training.entries(output) if "loss" in entry]
    assert steps == list(range(1, 13))
    again = run(tmp_path)
    assert again.exit_code == 1
    assert "holds a training already; continue it with --resume" in again.output
    finished = run(tmp_path, "--resume", tensorboard=True)
    assert finished.exit_code == 0
    assert "is finished already" in finished.output


def test_a_training_that_diverges_says_so_and_saves_nothing_of_it(tmp_path: Path) -> None:
    training.write_data(tmp_path)
    result = run(tmp_path, learning_rate=1e30, warmup=0, save_steps=2, max_grad_norm=0)
    assert result.exit_code == 1
    assert "training has diverged" in result.output
    assert not (tmp_path / "run" / "adapter").exists()
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_every_mismatch_with_another_base_is_listed(tmp_path: Path) -> None:
    training.write_data(tmp_path)
    assert run(tmp_path, max_steps=1, eval_share=0, eval_steps=None).exit_code == 0
    adapter = tmp_path / "run" / "adapter"
    manifest = json.loads((adapter / "manifest.json").read_text())
    manifest |= {"base_model": "EXAONE-3.5-7.8B", "chat_template_sha256": "0" * 64}
    (adapter / "manifest.json").write_text(json.dumps(manifest))
    base = load(tiny.llm_folder(), device="cpu", dtype="fp32", progress=False)
    with pytest.raises(AdapterRefused) as refused:
        read_adapter(adapter, base)
    assert len(refused.value.problems) == 2


@pytest.mark.slow
def test_one_adapter_for_each_agent_and_early_stopping(tmp_path: Path) -> None:
    training.write_data(tmp_path, 60)
    result = run(
        tmp_path, "--per", "agent_type", max_steps=40, eval_steps=1, patience=1, learning_rate=0.5
    )
    assert result.exit_code == 0, result.output
    folder = tmp_path / "run" / "adapters"
    assert sorted(path.name for path in folder.iterdir()) == [
        "education", "environment", "housing", "tax", "traffic", "welfare",
    ]  # fmt: skip
    assert f"LOCAL_LLM_ADAPTERS={folder}" in result.output
    base = load(tiny.llm_folder(), device="cpu", dtype="fp32", progress=False)
    for path in folder.iterdir():
        read_adapter(path, base)
        assert len(training.losses(tmp_path / "run" / path.name)) < 40


@pytest.mark.slow
def test_qlora_trains_on_a_cpu(tmp_path: Path) -> None:
    training.write_data(tmp_path)
    done = training.train(
        tmp_path, method="qlora", max_steps=3, eval_steps=None, base=str(wide_folder(tmp_path))
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "run" / "adapter" / "manifest.json").read_text())
    assert manifest["base_quantization"] == "nf4"


def wide_folder(folder: Path) -> Path:
    """The tiny model with layers that bitsandbytes' CPU kernels take."""
    import torch

    from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM

    stated = ExaoneConfig.from_pretrained(tiny.llm_folder())
    stated.intermediate_size = 128
    torch.manual_seed(0)
    wide = folder / "wide"
    ExaoneForCausalLM(stated).save_pretrained(wide)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (wide / name).write_bytes((tiny.llm_folder() / name).read_bytes())
    return wide


def test_smoothing_begins_at_the_first_value() -> None:
    assert smoothed([(1, 4.0), (2, 4.0), (3, 4.0)]) == [(1, 4.0), (2, 4.0), (3, 4.0)]
