"""`sllm finetune train` beside plain TRL: tokens per second, peak memory and loss, in one run.

    python -m bench.finetune.train [--steps 5] [--rounds 2]

Both train the same LoRA on the same randomly initialised EXAONE (16 M parameters, 16,000 entries)
from the same seed, on the same conversations (demo floor plans, forms and chat: 60 to 1,100 tokens)
with the same labels, 4 x 4 conversations a step, gradient checkpointing on. TRL's `SFTTrainer` has
its defaults: padded batches in random order. Each trains in a process of its own, in turns; figures
are medians. Tokens are those of conversations, padding is not counted. The evaluation loss is
computed by the same code for both, on conversations that neither has seen.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

SHAPE = {
    "hidden_size": 384, "intermediate_size": 1024, "num_layers": 6, "num_attention_heads": 6,
    "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 16_000,
}  # fmt: skip
NAMES = ("ours", "trl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        print(json.dumps(_work(asked.worker[0], Path(asked.worker[1]), asked.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder), asked.steps)
        results = defaultdict(list)
        for _ in range(asked.rounds):
            for name in NAMES:
                results[name].append(_run(name, folder, asked.steps))
                print(name, results[name][-1], file=sys.stderr, flush=True)
    _print(results)


def _run(name: str, folder: str, steps: int) -> dict[str, float]:
    done = subprocess.run(
        [
            sys.executable, "-m", "bench.finetune.train", "--worker", name, folder,
            "--steps", str(steps),
        ],
        stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _prepare(folder: Path, steps: int) -> None:
    import torch

    from finetune.demo.artifacts import EXAONE_DEMO
    from finetune.demo.corpus import mixed_sample
    from provider.engine.exaone import ExaoneConfig, ExaoneForCausalLM
    from provider.engine.model_card import read_json

    torch.manual_seed(0)
    stated: Any = {**read_json(EXAONE_DEMO / "config.json"), **SHAPE, "dtype": "float32"}
    ExaoneForCausalLM(ExaoneConfig(**stated)).save_pretrained(folder / "base")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / "base" / name).write_bytes((EXAONE_DEMO / name).read_bytes())
    random = Random(0)
    for name, count in (("train", steps * 16), ("eval", 24)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(count):
                sample = mixed_sample(random)
                messages = [*sample.messages, {"role": "assistant", "content": sample.answer}]
                file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def _work(name: str, folder: Path, steps: int) -> dict[str, float]:
    from finetune.train.base import load_base
    from finetune.train.config import parse_config
    from finetune.train.plan import make_plan
    from finetune.train.quiet import quiet

    quiet()
    config = parse_config(
        {
            "base": str(folder / "base"), "data": str(folder / "train.jsonl"), "method": "lora",
            "eval_data": str(folder / "eval.jsonl"), "eval_steps": 10**6, "epochs": 1,
            "output": str(folder / name), "save_steps": 10**6, "device": "cpu",
            "precision": "fp32", "learning_rate": 1e-3, "warmup": 0, "max_steps": steps,
        }
    )  # fmt: skip
    plan = make_plan(config)
    base = load_base(config, progress=False)
    at_rest = _peak()
    make = _trl if name == "trl" else _ours
    trainer = make(plan, base)
    began, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    tokens = plan.train.tokens  # of conversations; what either rounds up by is not counted
    return {
        "tokens/s": tokens / seconds,
        "tokens/CPU-s": tokens / cpu,
        "peak over base, MiB": (_peak() - at_rest) / 2**20,
        "eval loss": _evaluation(plan, base),
    }


def _ours(plan: Any, base: Any) -> Any:
    from finetune.train.base import add_adapter
    from finetune.train.run import _trainer

    return _trainer(plan, base, add_adapter(base.model, plan.config))


def _trl(plan: Any, base: Any) -> Any:
    """TRL with its defaults; the steps' size and the learning rate are the same."""
    from datasets import Dataset  # type: ignore[import-untyped]
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from finetune.train.base import target_modules

    config = plan.config
    base.model.config._attn_implementation = "sdpa"
    rows = [{"input_ids": list(row.ids), "labels": row.labels} for row in plan.train.rows]
    return SFTTrainer(
        model=base.model,
        args=SFTConfig(
            output_dir=str(config.output), per_device_train_batch_size=config.batch_size,
            gradient_accumulation_steps=config.accumulation, learning_rate=config.learning_rate,
            lr_scheduler_type=config.schedule, max_steps=config.max_steps, bf16=False, use_cpu=True,
            max_length=config.max_length, seed=config.seed, disable_tqdm=True, report_to=[],
            save_strategy="no", logging_steps=1,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=base.tokenizer.hf,
        peft_config=LoraConfig(
            r=config.r, lora_alpha=config.alpha, lora_dropout=config.dropout, task_type="CAUSAL_LM",
            target_modules=target_modules(base.model, ["all"]),
        ),
    )  # fmt: skip


def _evaluation(plan: Any, base: Any) -> float:
    """Loss per learnt token of the model as it is now, one conversation after the other."""
    import torch
    from torch.nn.functional import cross_entropy

    base.model.config._attn_implementation = "sdpa"
    model = base.model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for row in plan.held_out.rows:
            logits = model(input_ids=torch.tensor([list(row.ids)])).logits[0, :-1].float()
            labels = torch.tensor(row.labels[1:])
            total += float(cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
            count += int((labels != -100).sum())
    return total / count


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _print(results: dict[str, list[dict[str, float]]]) -> None:
    columns = ["tokens/s", "tokens/CPU-s", "peak over base, MiB", "eval loss"]
    medians = {
        name: {column: statistics.median(run[column] for run in runs) for column in columns}
        for name, runs in results.items()
    }
    print("| | " + " | ".join(columns) + " | CPU against TRL |\n|" + "---|" * (len(columns) + 2))
    for name, row in medians.items():
        ratio = row["tokens/CPU-s"] / medians["trl"]["tokens/CPU-s"]
        cells = [f"{row[column]:,.{3 if column == 'eval loss' else 0}f}" for column in columns]
        print(f"| {name} | " + " | ".join(cells) + f" | {ratio:.2f} x |")


if __name__ == "__main__":
    main()
