"""LoRA adapters on disk as PEFT writes them, with random weights strong enough to be noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def write_adapter(folder: Path, model: Any, seed: int, rank: int = 4) -> Path:
    """An adapter of every linear layer but the head, under the model's own module names."""
    chance = torch.Generator().manual_seed(seed)
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    tensors = {}
    for name, module in linears.items():
        shapes = {"A": (rank, module.in_features), "B": (module.out_features, rank)}
        for side, shape in shapes.items():
            key = f"base_model.model.{name}.lora_{side}.weight"
            tensors[key] = 0.3 * torch.randn(shape, generator=chance)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in linears}),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
