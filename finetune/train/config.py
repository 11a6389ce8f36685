"""The configuration of a training: every key, its default and its meaning, in one place.

A YAML file holds any of these keys; each is also a flag of `sllm finetune train`. What is not known
is refused with the nearest known name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from finetune.train.elsewhere import unknown_key
from finetune.yaml_file import read_yaml
from provider.errors import ConfigurationError

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Optimizer = Literal["auto", "adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"]


class TrainConfig(BaseModel):
    """One training. Paths are taken as they are given, relative ones from the working directory."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    base: str = Field(description="Base model: a folder or a hub id.")
    revision: str | None = Field(None, description="Revision of the base, for a hub id.")
    data: Path = Field(description="Training conversations: a JSONL file or a datasets folder.")
    eval_data: Path | None = Field(
        None, description="Conversations for evaluation; unset: a share of the training data."
    )
    eval_share: float = Field(
        0.05, ge=0, lt=1, description="Share held out for evaluation; 0: no evaluation."
    )
    output: Path = Field(description="Folder of the run: checkpoints, metrics, adapters.")
    name: str = Field(
        "adapter", pattern=r"^[A-Za-z0-9._-]+$", description="The adapter's name when it is served."
    )
    per: Literal["agent_type"] | None = Field(
        None, description="agent_type: one adapter for each agent in the data."
    )
    licence: str | None = Field(None, description="Licence of the adapter; unset: the base's.")

    method: Literal["lora", "qlora"] = Field(
        "qlora", description="qlora: the base in NF4 with double quantisation; lora: unquantised."
    )
    r: int = Field(16, ge=1, description="Rank of the adapter.")
    alpha: int = Field(32, ge=1, description="Scale of the adapter: alpha / r.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout on the adapter's input.")
    target_modules: list[str] = Field(
        ["all"],
        min_length=1,
        description="Names of linear layers, in the base's layout; all: attention and MLP.",
    )
    rslora: bool = Field(False, description="Scale by alpha / sqrt(r) instead.")

    max_length: int = Field(2048, ge=8, description="Longest conversation in tokens.")
    too_long: Literal["refuse", "drop", "truncate"] = Field(
        "refuse", description="What happens to a longer conversation; truncate cuts its end."
    )
    packing: bool = Field(
        False,
        description="Fill each row up to max_length with conversations: fewer, larger steps. "
        "Rows are never padded either way, and no conversation sees another.",
    )
    group_by_length: bool = Field(
        False, description="Rows of similar length in one step: evens out the work of several GPUs."
    )
    json_answers: Literal["compact", "verbatim"] = Field(
        "compact",
        description="compact: JSON answers in the one form that the server constrains to.",
    )

    epochs: float = Field(3, gt=0, description="Passes over the data.")
    max_steps: int | None = Field(None, ge=1, description="Optimiser steps, instead of epochs.")
    batch_size: int = Field(4, ge=1, description="Rows per device and forward pass.")
    accumulation: int = Field(4, ge=1, description="Forward passes per optimiser step.")
    learning_rate: float = Field(2e-4, gt=0, description="Peak learning rate.")
    warmup: float = Field(0.03, ge=0, lt=1, description="Share of the steps that warm up.")
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        "cosine", description="How the learning rate falls."
    )
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of the adapter.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are clipped to it; 0: never.")
    optimizer: Optimizer = Field(
        "auto", description="auto: paged 8-bit AdamW for qlora on a GPU, AdamW otherwise."
    )
    seed: int = Field(0, ge=0, description="Of the adapter's start, the data order and dropout.")

    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="Where to train.")
    precision: Precision = Field(
        "auto", description="Of base and compute; auto: bf16 where the device has it."
    )
    attention: Literal["packed", "sdpa", "eager", "flash_attention_2"] = Field(
        "packed",
        description="packed: SDPA on each conversation by itself; sdpa and eager: with a mask over "
        "the row; flash_attention_2 needs its package.",
    )
    gradient_checkpointing: bool = Field(
        True, description="Recompute activations in the backward pass instead of keeping them."
    )

    eval_steps: int | None = Field(
        None, ge=1, description="Evaluate every so many steps; unset: ten times in all."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many evaluations without a better loss."
    )
    save_steps: int = Field(100, ge=1, description="Checkpoint every so many steps.")
    save_minutes: float | None = Field(
        15, gt=0, description="Checkpoint at least every so many minutes."
    )
    keep: int = Field(2, ge=1, description="Newest checkpoints kept, beside the best one.")
    max_hours: float | None = Field(
        None, gt=0, description="Save and stop cleanly after so many hours (11.5 for a notebook)."
    )
    tensorboard: bool = Field(False, description="Also write TensorBoard files.")
    wandb: Literal["off", "offline", "online"] = Field(
        "off", description="Also log to Weights & Biases; offline writes files only."
    )
    memory_limit: float | None = Field(
        None, gt=0, description="GiB that training may take; unset: what the device has free."
    )

    @field_validator("target_modules", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        """A name alone, and PEFT's word for all."""
        names = [value] if isinstance(value, str) else value
        return ["all"] if names == ["all-linear"] else names

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.patience and not (self.eval_data or self.eval_share):
            raise ValueError("patience needs an evaluation: give eval_data or eval_share")
        return self


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The file's keys with `overrides` on top. Raises `ConfigurationError` in one sentence."""
    return parse_config({**(read_yaml(path) if path else {}), **(overrides or {})}, path)


def parse_config(stated: Mapping[str, Any], path: Path | None = None) -> TrainConfig:
    """`stated` as a config. Raises `ConfigurationError` naming key, value and the way out."""
    where = str(path) if path else "The configuration"
    if {"train", "vary"} <= set(stated):
        raise ConfigurationError(f"{where} is a sweep's file; run it by `sllm finetune sweep`.")
    for key in stated:
        if key not in TrainConfig.model_fields:
            raise ConfigurationError(f"{where}: {unknown_key(str(key), TrainConfig.model_fields)}")
    try:
        return TrainConfig.model_validate(dict(stated))
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {_sentence(error)}") from error


def write_config(config: TrainConfig, path: Path) -> None:
    """The whole configuration as YAML, defaults included."""
    stated = config.model_dump(mode="json")
    path.write_text(yaml.safe_dump(stated, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        meaning = TrainConfig.model_fields[key].description
        return f"{key!r} is missing ({meaning}); add it to the file or give --{_flag(key)}."
    said = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"{said}."
    return f"{key}={first['input']!r}: {said[0].lower()}{said[1:]}."


def _flag(key: str) -> str:
    return key.replace("_", "-")
