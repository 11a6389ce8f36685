"""From a seed to a checkpoint folder: data, tokenizer, training, evaluation, manifest, card."""

from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from finetune.demo.architecture import build_model, demo_config
from finetune.demo.artifacts import NOTICE, write_manifest
from finetune.demo.batches import Encoded, encode
from finetune.demo.card import model_card
from finetune.demo.corpus import data_hash, training_samples
from finetune.demo.evaluate import Evaluation, evaluate
from finetune.demo.tokenizer import row_marks, train_tokenizer
from finetune.demo.train import Recipe, train
from provider.engine.exaone import ExaoneForCausalLM

TOKENIZER_SAMPLES = 4_000


def make_checkpoint(folder: Path, recipe: Recipe, heldout: int = 200) -> Evaluation:
    """Train by `recipe`, write the folder, measure what was written and write that beside it.

    The folder holds EXAONE's config keys and parameter names in bf16, the tokenizer, `sllm.json`
    and a model card. The same recipe gives the same data, and on the same machine and number of
    threads the same weights.
    """
    samples = list(training_samples(recipe.seed, recipe.samples))
    tokenizer = train_tokenizer(samples[:TOKENIZER_SAMPLES])
    tasks: dict[bool, list[Encoded]] = {True: [], False: []}
    for sample in tqdm(samples, desc="data", unit="sample"):
        tasks[sample.task == "floorplan"].append(encode(tokenizer, sample))
    model = build_model(
        demo_config(len(tokenizer), tokenizer.eos_token_id), recipe.seed, row_marks(tokenizer)
    )
    loss = train(model, tasks[True], tasks[False], recipe)
    _save(model, folder)
    tokenizer.save_pretrained(folder)
    evaluation = evaluate(folder, heldout)
    manifest = {
        "demo": True,
        "name": "exaone-demo",
        "description": NOTICE,
        "notice": NOTICE,
        "licence": "apache-2.0",
        "parameters": model.num_parameters(),
        "recipe": asdict(recipe),
        "data": {
            "sha256": data_hash(samples),
            "samples": len(samples),
            "longest": max(len(row.ids) for rows in tasks.values() for row in rows),
        },
        "loss": round(loss, 4),
        "figures": evaluation.figures(),
    }
    write_manifest(folder, manifest)
    (folder / "README.md").write_text(model_card(manifest, evaluation), encoding="utf-8")
    return evaluation


def _save(model: ExaoneForCausalLM, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.bfloat16()
    model.generation_config.update(
        do_sample=False, eos_token_id=model.config.eos_token_id, pad_token_id=0, bos_token_id=1
    )
    model.save_pretrained(folder)
