"""`sllm finetune sweep`: every combination once, resumable, a table, a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner, Result

from finetune.sweep.cli import sweep
from tests.finetune import training

pytestmark = pytest.mark.filterwarnings(
    "ignore:`.*gradient_checkpointing.*:FutureWarning", "ignore::UserWarning:torch"
)


def run(folder: Path, *flags: str, **stated: Any) -> Result:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    return CliRunner().invoke(sweep, [str(path), *flags])


def shared(folder: Path, **changes: Any) -> dict[str, Any]:
    settled = training.stated(folder, max_steps=4, eval_steps=2, **changes)
    return settled | {"output": str(folder / "sweep")}


def test_every_combination_is_trained_once_and_the_best_comes_first(tmp_path: Path) -> None:
    training.write_data(tmp_path)
    stated = {
        "train": shared(tmp_path),
        "vary": {"r": [2, 4], "learning_rate": [1e-4, 1e-2]},
    }
    result = run(tmp_path, **stated)
    assert result.exit_code == 0, result.output
    listed = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert len(listed) == 4
    assert [row["state"] for row in listed] == ["finished"] * 4
    assert [row["score"] for row in listed] == sorted(row["score"] for row in listed)
    assert listed[0]["learning_rate"] == "0.01"
    assert "data:image/png" in (tmp_path / "sweep" / "sweep.html").read_text()
    again = run(tmp_path, **stated)
    assert again.output.count("is finished already") == 4


def test_data_are_mixed_by_ratio(tmp_path: Path) -> None:
    sources = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        sources.append(str(training.write_data(tmp_path / name, seed=ord(name))))
    train = shared(tmp_path)
    del train["data"]
    result = run(tmp_path, train=train, sources=sources, vary={"ratio": ["1:1", "3:1"]})
    assert result.exit_code == 0, result.output
    sizes = {
        name: len((tmp_path / "sweep" / name / "data.jsonl").read_text().splitlines())
        for name in ("ratio-1-1", "ratio-3-1")
    }
    assert sizes["ratio-1-1"] == 80
    assert 52 <= sizes["ratio-3-1"] <= 54


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"train": {}}, "needs `train:` and `vary:`"),
        ({"train": {"output": "o"}, "vary": {"ranks": [1]}}, "there is no key 'ranks'"),
        ({"train": {"output": "o"}, "vary": {"r": 4}}, "vary.r must be a list"),
        ({"train": {"output": "o"}, "vary": {"r": [4]}, "more": 1}, "got more"),
        ({"train": {"output": "o"}, "vary": {"ratio": ["6:2"]}}, "6:2"),
        ({"train": {"output": "o"}, "vary": {"r": [4]}}, "'base' is missing"),
        ({"train": {"output": "o"}, "vary": {"name": ["a"]}}, "vary.name cannot vary"),
        ({"train": {"output": "o", "per": "agent_type"}, "vary": {"r": [4]}}, "train.per cannot"),
        (
            {"train": {"output": "o", "data": "d"}, "vary": {"base": ["a/exaone", "b/exaone"]}},
            "two combinations would share the folder 'base-exaone'",
        ),
    ],
)
def test_a_file_that_cannot_work_is_refused_at_once(
    tmp_path: Path, stated: dict[str, Any], said: str
) -> None:
    result = run(tmp_path, **stated)
    assert result.exit_code == 1
    assert said in result.output
