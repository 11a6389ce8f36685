"""The base model, loaded as the server loads it, and the LoRA matrices on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel, set_seed
from transformers.utils.import_utils import is_flash_attn_2_available

from finetune.train import attention
from finetune.train.config import TrainConfig
from finetune.train.processes import local_rank
from provider.engine.checkpoint import Checkpoint, load
from provider.engine.device import DType, resolve_device
from provider.errors import ConfigurationError

_EVERY = "all"


def load_base(config: TrainConfig, *, progress: bool = True) -> Checkpoint:
    """The base in the precision that training wants. `ConfigurationError` for whatever keeps it
    from loading."""
    if config.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ConfigurationError(
            "attention='flash_attention_2' needs the package flash-attn and a CUDA GPU; choose "
            "packed, or install it."
        )
    attention.register()
    loaded = load(
        config.base,
        device=placed(config.device),
        dtype=precision(config.precision, resolve_device(placed(config.device), setting="device")),
        quantization="nf4" if config.method == "qlora" else None,
        revision=config.revision,
        progress=progress,
        setting="base",
    )
    _attend(loaded.model, config.attention)
    return loaded


def precision(wanted: DType, device: torch.device) -> DType:
    """`auto` as training means it. Raises `ConfigurationError` for fp16 where gradients are not
    scaled: the small ones would be zero."""
    if wanted == "auto" and device.type == "mps":
        return "bf16"
    if wanted == "fp16" and device.type != "cuda":
        raise ConfigurationError(
            f"precision='fp16' does not train on {device.type}, where gradients are not scaled; "
            "choose bf16 or fp32."
        )
    return wanted


def _attend(model: PreTrainedModel, implementation: str) -> None:
    """Through the config: transformers' own setter looks for its pattern in a model's source, which
    EXAONE's subclass of Llama does not repeat."""
    cap = getattr(model.config.get_text_config(), "attn_logit_softcapping", None)
    if cap is not None and implementation != "eager":
        raise ConfigurationError(
            f"attention={implementation!r} cannot cap scores as {type(model).__name__} does; "
            "set attention: eager."
        )
    model.config._attn_implementation = implementation


def placed(device: str) -> str:
    """One GPU for each process where several train together."""
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return f"cuda:{local_rank()}" if on_gpu and local_rank() is not None else device


def target_modules(model: nn.Module, wanted: Sequence[str]) -> list[str]:
    """Names of the linear layers to adapt, in the model's own layout, head and embeddings left out.

    `["all"]` takes every other linear layer. Raises `ConfigurationError` naming a name that no
    layer has, and those that there are.
    """
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    names = sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head
        }
    )
    if list(wanted) == [_EVERY]:
        return names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigurationError(
            f"target_modules={list(wanted)!r}: {type(model).__name__} has no layer named "
            f"{', '.join(map(repr, unknown))}; expected some of {', '.join(names)}, or all."
        )
    return sorted(wanted)


def add_adapter(model: PreTrainedModel, config: TrainConfig) -> PeftModel:
    """The model with fresh LoRA matrices in float32, the only parameters that learn. Their start
    follows from the seed alone."""
    set_seed(config.seed)
    options: dict[str, Any] = {
        "r": config.r,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": target_modules(model, config.target_modules),
        "use_rslora": config.rslora,
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    adapted: PeftModel = get_peft_model(model, LoraConfig(**options))
    in_full_precision(adapted)
    return adapted


def in_full_precision(model: nn.Module) -> None:
    """Learning parameters in float32: in bfloat16 a late, small step would round to nothing."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def remove_adapter(model: PeftModel) -> PreTrainedModel:
    """The base as it was before `add_adapter`."""
    base: Any = model.unload()
    base.__dict__.pop("forward", None)  # the loss that the trainer put over the class's forward
    base.requires_grad_(False)
    return base  # type: ignore[no-any-return]
