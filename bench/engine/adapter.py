"""A LoRA adapter of random weights, as PEFT writes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def write_adapter(folder: Path, model: Any, rank: int) -> Path:
    """All linear layers but the head, under the model's own names, in bf16."""
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    tensors = {}
    for name, module in linears.items():
        for side, shape in {
            "A": (rank, module.in_features),
            "B": (module.out_features, rank),
        }.items():
            key = f"base_model.model.{name}.lora_{side}.weight"
            tensors[key] = 0.01 * torch.randn(shape, dtype=torch.bfloat16)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in linears}),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
