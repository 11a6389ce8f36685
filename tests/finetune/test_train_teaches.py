"""A LoRA on the demo checkpoint learns a second task, and the local provider serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune.demo.artifacts import EXAONE_DEMO
from finetune.demo.inquiries import inquiries
from finetune.train.config import load_config
from provider.client import OpenAI
from provider.settings import Settings
from tests.finetune import training

CONFIG = Path("finetune/train/configs/cpu-demo.yaml")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of adapters with one that the shipped configuration trained, at half its steps."""
    folder = tmp_path_factory.mktemp("teach")
    training.write_data(folder, 1200)
    stated = load_config(CONFIG).model_dump(mode="json", exclude_none=True)
    places = {"base": str(EXAONE_DEMO), "data": str(folder / "train.jsonl")}
    stated |= {**places, "output": str(folder / "run"), "max_steps": 130, "eval_share": 0.02}
    done = training.train(folder, **stated)
    assert done.returncode == 0, done.stderr
    assert "license: apache-2.0\n" in (folder / "run" / "adapter" / "README.md").read_text()
    served = folder / "adapters"
    served.mkdir()
    (served / "inquiries").symlink_to(folder / "run" / "adapter", target_is_directory=True)
    return served


@pytest.mark.slow
def test_the_second_task_is_learnt(adapters: Path) -> None:
    settings = Settings(
        _env_file=None,
        llm_provider="local",
        local_llm_model_path=str(EXAONE_DEMO),
        local_llm_adapters=adapters,
        local_llm_memory="512MiB",
    )
    held_out = list(inquiries(24, seed=99, held_out=True))
    with OpenAI(settings=settings) as client:
        right = {
            model: sum(_answer(client, model, record) for record in held_out)
            for model in ("exaone-demo", "inquiries")
        }
    assert right["exaone-demo"] == 0
    assert right["inquiries"] >= 5, right


def _answer(client: OpenAI, model: str, record: dict[str, Any]) -> bool:
    *asked, expected = record["messages"]
    answer = client.chat.completions.create(
        model=model,
        messages=asked,
        temperature=0,
        max_tokens=60,
    )
    return bool(answer.choices[0].message.content == expected["content"])
