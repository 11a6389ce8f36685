"""Small models and adapters for the tests of merge, export and bundle."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from provider.engine.exaone import CHAT_TEMPLATE, ExaoneForCausalLM
from tests.engine.conftest import EXAONE_SPECIALS, exaone_config, train_tokenizer

DEMO = Path(__file__).parents[2] / "finetune" / "demo" / "artifacts" / "exaone-demo"
PROMPTS = [
    [{"role": "user", "content": "거실은 남향입니까?"}],
    [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "The kitchen has 12 square metres."},
    ],
]


def tokenizer() -> PreTrainedTokenizerFast:
    made = train_tokenizer(
        EXAONE_SPECIALS, pad_token="[PAD]", bos_token="[BOS]", eos_token="[|endofturn|]"
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def write_model(folder: Path, max_shard_size: str = "5GB", seed: int = 0, **changes: Any) -> Path:
    """A bf16 checkpoint in EXAONE's original layout: 3 layers of 64, llama3 rope scaling, tied."""
    torch.manual_seed(seed)
    model: Any = ExaoneForCausalLM(exaone_config(**changes))
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer().save_pretrained(folder)
    return folder


def write_peft(folder: Path, model: Any, seed: int = 0, **config: Any) -> Path:
    """An adapter that PEFT itself makes and saves, with weights that are all different."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    stated: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # of transformers, about PEFT
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings")
        adapted: Any = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **(stated | config)))
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_" in name:
                value.copy_(0.1 * torch.randn(value.shape))
    adapted.save_pretrained(folder, save_embedding_layers=False)
    adapted.unload()
    return folder


def manifest(folder: Path, **keys: Any) -> Path:
    (folder / "manifest.json").write_text(json.dumps(keys), encoding="utf-8")
    return folder


def logits(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([tokens])).logits[0].float()
    return found
