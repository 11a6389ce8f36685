"""`verify` tells rounding from a wrong model, for every way of merging."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from finetune.export.cli import verify as command
from finetune.export.distance import distance
from finetune.export.merge import merge
from finetune.export.verify import verify
from provider.engine.checkpoint import load
from provider.engine.convert import convert
from tests.finetune.exporting import DEMO, write_model, write_peft


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load(DEMO, "cpu", "fp32", progress=False).model
    folder = tmp_path_factory.mktemp("adapters") / "demo"
    return write_peft(folder, model, lora_alpha=2)


@pytest.mark.parametrize("into", ["original", "dequantised"])
def test_a_right_merge_passes_and_its_distance_is_that_of_rounding(
    adapter: Path, tmp_path: Path, into: Any
) -> None:
    merge(DEMO, adapter, tmp_path / "m", into=into, layout="llama", progress=False)
    convert(adapter, tmp_path / "renamed", "llama", progress=False)
    verdict = verify(DEMO, tmp_path / "renamed", tmp_path / "m", device="cpu")
    assert verdict.passed, verdict.problems
    assert verdict.four_bit == (into == "dequantised")
    assert verdict.merged.relative == pytest.approx(verdict.rounded.relative, rel=0.05)
    assert verdict.base.relative > 0.05
    assert verdict.share < 0.1


def test_into_the_other_weights_is_noticed(adapter: Path, tmp_path: Path) -> None:
    """A model merged into NF4's values that claims to be merged into the original."""
    merge(DEMO, adapter, tmp_path / "m", into="dequantised", progress=False)
    told = json.loads((tmp_path / "m" / "merge.json").read_text())
    (tmp_path / "m" / "merge.json").write_text(json.dumps(told | {"into": "original"}))
    verdict = verify(DEMO, adapter, tmp_path / "m", device="cpu")
    assert "not made from this base and adapter" in verdict.problems[0]


def test_the_base_itself_and_another_adapter_fail(adapter: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(command, [str(DEMO), str(adapter), str(DEMO), "--device", "cpu"])
    assert ran.exit_code == 1
    assert "FAIL: it is" in ran.output
    model = load(DEMO, "cpu", "fp32", progress=False).model
    other = write_peft(tmp_path / "other", model, seed=1, lora_alpha=2)
    merge(DEMO, other, tmp_path / "m", progress=False)
    assert not verify(DEMO, adapter, tmp_path / "m", device="cpu").passed


def test_an_adapter_that_does_nothing_decides_nothing(tmp_path: Path) -> None:
    model = load(DEMO, "cpu", "fp32", progress=False).model
    nothing = write_peft(tmp_path / "a", model, lora_alpha=1e-7)
    merge(DEMO, nothing, tmp_path / "m", progress=False)
    verdict = verify(DEMO, nothing, tmp_path / "m", device="cpu")
    assert "cannot tell" in verdict.problems[0]


def test_prompts_of_ones_own_and_their_bad_lines(adapter: Path, tmp_path: Path) -> None:
    merge(DEMO, adapter, tmp_path / "m", progress=False)
    prompts = tmp_path / "p.jsonl"
    arguments = [str(DEMO), str(adapter), str(tmp_path / "m"), "--device", "cpu"]
    arguments += ["--prompts", str(prompts)]
    prompts.write_text('{"messages": [{"role": "user", "content": "거실"}]}\n\n{"prompt": "b"}\n')
    ran = CliRunner().invoke(command, arguments)
    assert ran.exit_code == 0, ran.output
    assert "PASS" in ran.output
    prompts.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    ran = CliRunner().invoke(command, arguments)
    assert ran.exit_code == 1
    assert "line 2" in ran.output


def test_a_merged_model_of_another_width_is_one_sentence(adapter: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "small")
    ran = CliRunner().invoke(command, [str(DEMO), str(adapter), str(tmp_path / "small")])
    assert ran.exit_code == 1
    assert "expected a model merged from this base" in ran.output
    shutil.rmtree(tmp_path / "small")
    ran = CliRunner().invoke(command, [str(DEMO), str(adapter), str(tmp_path / "small")])
    assert "does not exist" in ran.output


def test_distances_are_those_of_the_definition() -> None:
    found, wanted = torch.tensor([[1.0, 2.0], [4.0, 3.0]]), torch.tensor([[1.0, 0.0], [4.0, 3.0]])
    apart = distance([found], [wanted])
    assert (apart.largest, apart.mean, apart.agreement, apart.positions) == (2.0, 0.5, 0.5, 2)
    assert apart.relative == pytest.approx(2.0 / 26**0.5)
    assert distance([found * torch.nan], [wanted]).relative == float("inf")
    assert distance([wanted], [wanted]).relative == 0.0
    with pytest.raises(ValueError, match="shapes"):
        distance([found], [wanted[:1]])
