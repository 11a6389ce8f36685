"""The held-out figures of a demo checkpoint: under the schema, free, and beside an untrained twin.

The twin has the same shape and the same start as the checkpoint and has seen no data. Under the
schema its answers are as well-formed, so the distance between the two is what was learnt.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import PreTrainedTokenizerFast

from finetune.demo.architecture import build_model
from finetune.demo.corpus import Sample, heldout_plans
from finetune.demo.decode import decode
from finetune.demo.schema import floorplan_schema
from finetune.demo.scoring import Score, score
from finetune.demo.tokenizer import load_tokenizer, row_marks
from provider.engine.exaone import ExaoneForCausalLM

ROWS = 50


@dataclass(frozen=True)
class Evaluation:
    """Scores on plans that no training seed draws."""

    schema: Score
    free: Score
    untrained: Score

    def figures(self) -> dict[str, Any]:
        """The totals, as the manifest carries them."""
        named = {"schema": self.schema, "free": self.free, "untrained": self.untrained}
        figures: dict[str, Any] = {"samples": self.schema.samples}
        for name, result in named.items():
            totals = asdict(result)
            figures[name] = {key: round(totals[key], 4) for key in ("valid", "exact", "macro")}
        return figures


def evaluate(folder: Path, count: int = 200) -> Evaluation:
    """Decode `count` held-out plans three times, greedily, in float32."""
    tokenizer = load_tokenizer(folder)
    model = ExaoneForCausalLM.from_pretrained(folder, dtype=torch.float32)
    twin = build_model(model.config, 0, row_marks(tokenizer))
    for each in (model, twin):
        each.train(False)
    samples, schema = heldout_plans(count), floorplan_schema()
    return Evaluation(
        schema=_score(model, tokenizer, samples, schema, "under the schema"),
        free=_score(model, tokenizer, samples, None, "free"),
        untrained=_score(twin, tokenizer, samples, schema, "untrained twin"),
    )


def table(evaluation: Evaluation) -> str:
    """The figures as Markdown: totals first, then one line per field."""
    columns = (evaluation.schema, evaluation.free, evaluation.untrained)
    lines = [
        f"| {evaluation.schema.samples} held-out plans "
        "| under the schema | free | untrained twin, under the schema |",
        "|---|---|---|---|",
    ]
    totals = {"valid": "valid JSON", "exact": "every field right", "macro": "macro field accuracy"}
    for key, label in totals.items():
        shares = (f"{getattr(column, key):.3f}" for column in columns)
        lines.append(f"| **{label}** | " + " | ".join(shares) + " |")
    for field in evaluation.schema.fields:
        shares = (f"{column.fields.get(field, 0.0):.3f}" for column in columns)
        lines.append(f"| `{field}` | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def _score(
    model: ExaoneForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    samples: list[Sample],
    schema: dict[str, Any] | None,
    label: str,
) -> Score:
    answers: list[str] = []
    with tqdm(total=len(samples), desc=label, unit="plan") as bar:
        for rows in _chunks(samples, ROWS):
            prompts = [_prompt(tokenizer, sample) for sample in rows]
            answers += decode(model, tokenizer, prompts, schema)
            bar.update(len(rows))
    return score(answers, [sample.answer for sample in samples], floorplan_schema())


def _chunks(samples: list[Sample], size: int) -> Iterator[list[Sample]]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _prompt(tokenizer: PreTrainedTokenizerFast, sample: Sample) -> list[int]:
    text = tokenizer.apply_chat_template(
        sample.messages, add_generation_prompt=True, tokenize=False
    )
    return list(tokenizer.encode(text, add_special_tokens=False))
