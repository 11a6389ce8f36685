"""Our configuration in the words of TRL's `SFTConfig`."""

from __future__ import annotations

import math
from typing import Any

import torch
from trl.trainer.sft_config import SFTConfig

from finetune.train.config import TrainConfig

EVALUATIONS = 10
"""How often a training evaluates where the configuration does not say."""


def steps_in_all(config: TrainConfig, rows: int, processes: int = 1) -> int:
    """Optimiser steps of the whole training."""
    if config.max_steps:
        return config.max_steps
    batches = math.ceil(rows / (config.batch_size * processes))
    return max(1, math.ceil(config.epochs * max(1, math.ceil(batches / config.accumulation))))


def rows_of_a_step(config: TrainConfig, processes: int = 1) -> int:
    """Rows of one optimiser step over all processes."""
    return config.batch_size * config.accumulation * processes


def optimizer(config: TrainConfig, device: str) -> str:
    """The optimiser's name in transformers."""
    chosen = config.optimizer
    if chosen == "auto":
        on_gpu = device.startswith("cuda")
        chosen = "paged_adamw_8bit" if config.method == "qlora" and on_gpu else "adamw"
    return "adamw_torch" if chosen == "adamw" else chosen


def arguments(
    config: TrainConfig, *, steps: int, evaluates: bool, device: str, dtype: torch.dtype
) -> SFTConfig:
    """Everything that TRL needs to know. `dtype` is that of the loaded base."""
    every = config.eval_steps or max(1, steps // EVALUATIONS)
    schedule: dict[str, Any] = (
        {"max_steps": config.max_steps} if config.max_steps else {"num_train_epochs": config.epochs}
    )
    settled = SFTConfig(
        output_dir=str(config.output),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=math.ceil(config.warmup * steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=optimizer(config, device),
        bf16=dtype is torch.bfloat16,
        fp16=dtype is torch.float16 and device.startswith("cuda"),
        use_cpu=device == "cpu",
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=config.save_steps,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=["wandb"] if config.wandb != "off" else [],
        run_name=config.name,
        seed=config.seed,
        data_seed=config.seed,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        remove_unused_columns=False,
        dataloader_pin_memory=device.startswith("cuda"),
        ddp_find_unused_parameters=False,
        **schedule,
    )
    _on_one_device(settled)
    return settled


def _on_one_device(settled: SFTConfig) -> None:
    """A process without a launcher trains on its first GPU: the Trainer would wrap the model in
    torch's DataParallel, which cuts up rows that are one conversation after the other."""
    if settled.n_gpu > 1:
        settled._n_gpu = 1
