"""A language model from a folder or hub id: weights, chat tokenizer and card.

Any causal language model of transformers loads, EXAONE-3.x in its original and in its Llama layout
among them. Nothing is filled in or left over silently: every tensor of the checkpoint must be used
and every parameter of the model must be in it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers import logging as transformers_logging
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from provider.engine import exaone
from provider.engine.chat import ChatTokenizer, declared_eos
from provider.engine.device import (
    DType,
    free_memory,
    quiet_libraries,
    resolve_device,
    resolve_dtype,
)
from provider.engine.model_card import ModelCard, licence, read_json, read_manifest
from provider.engine.repository import resolve
from provider.engine.weights import TensorHeader, read_headers
from provider.errors import ConfigurationError

Quantization = Literal["nf4", "int8"]
_DERIVED = re.compile(r"rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$")
"""Buffers that old checkpoints store although they follow from the config."""
_WEIGHT_BYTES = {"nf4": 0.53, "int8": 1.02}  # per weight of a linear layer, its scales included
_ALSO_NEEDED = 64 * 2**20  # activations of a first step; the engine budgets its cache by itself
_SHORT_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Checkpoint:
    """`model` is in evaluation mode, on its device, without gradients."""

    model: PreTrainedModel
    tokenizer: ChatTokenizer
    card: ModelCard
    folder: Path


def load(
    path_or_id: str | Path,
    device: str = "auto",
    dtype: DType = "auto",
    quantization: Quantization | None = None,
    revision: str | None = None,
    *,
    memory: int | None = None,
    progress: bool = True,
    setting: str = "LOCAL_LLM_MODEL_PATH",
) -> Checkpoint:
    """Load a model; `ConfigurationError` with one sentence for whatever keeps it from loading.

    `memory` is the most bytes that the weights may take on the device (unset: what is free).
    `progress` shows a bar while weights are read. `setting` is the variable that errors name.
    """
    exaone.register()
    quiet_libraries()
    folder = resolve(path_or_id, revision, setting=setting)
    config = _config(folder, setting)
    where, precision = resolve_device(device), resolve_dtype(dtype, resolve_device(device))
    headers = read_headers(folder)
    _check_memory(_needed(headers, precision, quantization), where, memory, folder)
    template = exaone.CHAT_TEMPLATE if config.model_type == "exaone" else None
    tokenizer = ChatTokenizer.load(folder, declared_eos(folder), template)
    _check_vocabulary(tokenizer, config, folder)
    model = _load_model(folder, config, where, precision, quantization, progress)
    card = _card(str(path_or_id), folder, revision, model, tokenizer, quantization)
    return Checkpoint(model, tokenizer, card, folder)


def _config(folder: Path, setting: str) -> Any:
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise ConfigurationError(
            f"{setting}={str(folder)!r} is a LoRA adapter; expected the base model's folder; "
            "load its base and give the adapter to LOCAL_LLM_ADAPTERS."
        )
    stated = read_json(folder / "config.json")
    kind = stated.get("model_type")
    if kind != "exaone" and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ConfigurationError(
            f"{setting}={str(folder)!r} has model_type {kind!r}; expected a causal language model "
            "that transformers knows natively (exaone, exaone4, llama, qwen3, ...); code that a "
            "repository ships is not run."
        )
    names = stated.get("architectures") or []
    if names and not any(re.search(r"ForCausalLM$|LMHead", name) for name in names):
        raise ConfigurationError(
            f"{setting}={str(folder)!r} is a {names[0]}; expected a causal language model "
            "(...ForCausalLM); an embedding model belongs to LOCAL_EMBEDDING_MODEL."
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, KeyError, TypeError, OSError, StrictDataclassError) as error:
        raise ConfigurationError(
            f"{folder / 'config.json'} cannot be used ({_one_line(error)}); expected the "
            f"config of a {kind} model; copy or download it again."
        ) from error


def _needed(
    headers: Mapping[str, TensorHeader], dtype: torch.dtype, quantization: Quantization | None
) -> int:
    """Bytes of the weights once loaded; embeddings and the head stay in `dtype`."""
    total = 0.0
    for name, header in headers.items():
        linear = len(header.shape) == 2 and not re.search(r"embed|wte|lm_head", name)
        each = _WEIGHT_BYTES[quantization] if quantization and linear else dtype.itemsize
        total += header.elements * each
    return int(total)


def _check_memory(needed: int, device: torch.device, limit: int | None, folder: Path) -> None:
    room = free_memory(device) - _ALSO_NEEDED
    if limit is not None and needed > limit:
        raise ConfigurationError(
            f"LOCAL_LLM_MEMORY={limit} allows {_gib(limit)} but the weights of {folder} take "
            f"{_gib(needed)}; raise it, or set LOCAL_LLM_QUANTIZATION=nf4 or a smaller model."
        )
    if needed > room:
        raise ConfigurationError(
            f"The weights of {folder} take {_gib(needed)} but {device} has {_gib(room)} free; "
            "free memory, set LOCAL_LLM_QUANTIZATION=nf4 or LOCAL_LLM_DTYPE=bf16, or choose a "
            "smaller model."
        )


def _gib(size: int) -> str:
    return f"{max(size, 0) / 2**30:.2f} GiB"


def _check_vocabulary(tokenizer: ChatTokenizer, config: Any, folder: Path) -> None:
    width = int(config.get_text_config().vocab_size)
    if tokenizer.vocab_size > width:
        raise ConfigurationError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {width}; "
            "expected both from one model; put the model's own tokenizer into the folder."
        )


def _load_model(
    folder: Path,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Quantization | None,
    progress: bool,
) -> PreTrainedModel:
    options: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": "sdpa",
        "ignore_mismatched_sizes": True,  # reported with everything else, and refused below
    }
    if quantization:
        options["quantization_config"] = _bits_and_bytes(config, quantization, dtype)
    if quantization or device.type == "cuda":
        options["device_map"] = {"": device}
    try:
        with _progress(progress):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, config=config, local_files_only=True, output_loading_info=True, **options
            )
    except (ValueError, RuntimeError, OSError, ImportError, KeyError) as error:
        raise _not_loaded(error, folder, device, quantization) from error
    model: PreTrainedModel = loaded[0] if "device_map" in options else loaded[0].to(device)
    _check_report(loaded[1], folder)
    _check_tied(model, folder)
    if quantization == "nf4" and device.type == "cpu":
        _check_nf4_shapes(model)
    model.eval()
    model.requires_grad_(False)
    return model


def _not_loaded(
    error: Exception, folder: Path, device: torch.device, quantization: Quantization | None
) -> ConfigurationError:
    if isinstance(error, torch.OutOfMemoryError):
        return ConfigurationError(
            f"{folder} does not fit on {device} ({error}); free memory, set "
            "LOCAL_LLM_QUANTIZATION=nf4 or choose a smaller model."
        )
    if isinstance(error, ImportError):
        extra = "quantized" if quantization else "local"
        return ConfigurationError(
            f"{folder} cannot be loaded ({_one_line(error)}); install what is missing: "
            f"pip install 'sllm-provider[{extra}]'."
        )
    return ConfigurationError(
        f"{folder} cannot be loaded ({_one_line(error)}); expected weights that fit its "
        "config.json; copy or download the folder again."
    )


def _check_tied(model: PreTrainedModel, folder: Path) -> None:
    """transformers unties embeddings without a word when the file has two that differ."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    stated = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if stated and outputs is not None and outputs.weight is not inputs.weight:
        raise ConfigurationError(
            f"{folder / 'config.json'} ties the head to the embeddings but the weights have a "
            "head of their own that differs; expected one or the other; set tie_word_embeddings "
            "to false, or remove the head from the weights."
        )


def _bits_and_bytes(config: Any, quantization: Quantization, dtype: torch.dtype) -> Any:
    if getattr(config, "quantization_config", None):
        raise ConfigurationError(
            f"LOCAL_LLM_QUANTIZATION={quantization!r} was asked for a checkpoint that is quantised "
            "already; expected full-precision weights; set LOCAL_LLM_QUANTIZATION=none."
        )
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _check_nf4_shapes(model: PreTrainedModel) -> None:
    """bitsandbytes' CPU kernel wants 32-row, 64-column blocks and fails only when it is run."""
    for name, module in model.named_modules():
        if type(module).__name__ != "Linear4bit":
            continue
        rows, columns = int(module.out_features), int(module.in_features)
        if rows % 32 or columns % 64:
            raise ConfigurationError(
                f"LOCAL_LLM_QUANTIZATION='nf4' cannot run {name} ({rows} x {columns}) on a CPU; "
                "expected rows divisible by 32 and columns by 64; set LOCAL_LLM_QUANTIZATION=int8 "
                "or none."
            )


def _check_report(report: Mapping[str, Any], folder: Path) -> None:
    unused = sorted(key for key in report["unexpected_keys"] if not _DERIVED.search(key))
    missing = sorted(report["missing_keys"])
    misshapen = sorted(
        f"{name}: stored {tuple(stored)}, expected {tuple(expected)}"
        for name, stored, expected in report["mismatched_keys"]
    )
    problems = [
        f"{len(names)} {what} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"
        for what, names in (
            ("parameters are not in the checkpoint", missing),
            ("tensors of the checkpoint belong to no parameter", unused),
            ("tensors have another shape", misshapen),
        )
        if names
    ]
    if problems or report["error_msgs"]:
        raise ConfigurationError(
            f"{folder} does not match its config.json: {'; '.join(problems)}"
            f"{'; '.join(report['error_msgs'])}; expected every parameter exactly once; use the "
            "weights and the config of one model."
        )


def _one_line(error: Exception, limit: int = 300) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."


@contextmanager
def _progress(shown: bool) -> Iterator[None]:
    """transformers' bar over tensors, and not its report, which we raise instead."""
    verbosity = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    _show_bar(shown)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        _show_bar(bar)


def _show_bar(shown: bool) -> None:
    if shown:
        transformers_logging.enable_progress_bar()
    else:
        transformers_logging.disable_progress_bar()


def _card(
    asked: str,
    folder: Path,
    revision: str | None,
    model: PreTrainedModel,
    tokenizer: ChatTokenizer,
    quantization: str | None,
) -> ModelCard:
    manifest = read_manifest(folder)
    config: Any = model.config.get_text_config()
    is_folder = Path(asked).expanduser().is_dir()
    return ModelCard(
        id=str(manifest.get("name") or (folder.resolve().name if is_folder else asked)),
        architecture=type(model).__name__,
        parameters=_parameters(model),
        device=str(model.device),
        dtype=_SHORT_NAMES.get(model.dtype, str(model.dtype)),
        quantization=quantization,
        licence=licence(folder),
        context_length=int(config.max_position_embeddings),
        layout="original" if config.model_type == "exaone" else "llama",
        demo=manifest.get("demo") is True,
        chat_template_sha256=tokenizer.chat_template_sha256,
        revision=revision,
        description=str(manifest.get("description", "")),
    )


def _parameters(model: PreTrainedModel) -> int:
    """Parameters of the architecture; a 4-bit weight holds two in each byte."""
    return sum(
        2 * parameter.numel() if type(parameter).__name__ == "Params4bit" else parameter.numel()
        for parameter in model.parameters()
    )
