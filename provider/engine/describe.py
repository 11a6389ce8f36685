"""What a model folder holds, told from its files alone; no weights are loaded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from provider.engine.chat import ChatTokenizer
from provider.engine.layout import layout_of
from provider.engine.model_card import count, licence, read_json, read_manifest
from provider.engine.weights import (
    DTYPE_BYTES,
    TensorHeader,
    read_file_headers,
    read_headers,
)
from provider.errors import ConfigurationError


def describe(folder: Path) -> list[str]:
    """Lines for a terminal; `ConfigurationError` when the folder is no intact model or adapter."""
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder)
    return _model(folder)


def _model(folder: Path) -> list[str]:
    config, headers = read_json(folder / "config.json"), read_headers(folder)
    manifest = read_manifest(folder)
    architecture = ", ".join(config.get("architectures") or [str(config.get("model_type"))])
    lines = [
        f"model     {manifest.get('name') or folder.resolve().name}",
        f"          {architecture}, {layout_of(headers) or 'other'} layout, {_weights(headers)}",
    ]
    notice = "demo checkpoint, not EXAONE's own weights" if manifest.get("demo") is True else ""
    told = [text for text in (notice, manifest.get("description")) if text]
    lines += [f"          {text}" for text in dict.fromkeys(told)]
    lines += [
        f"context   {config.get('max_position_embeddings', 'not stated')} tokens",
        f"licence   {licence(folder)}",
    ]
    return lines + _template(folder)


def _template(folder: Path) -> list[str]:
    try:
        tokenizer = ChatTokenizer.load(folder)
    except ConfigurationError:  # an encoder or a base model: there is nothing to tell
        return []
    return [
        f"tokens    {tokenizer.vocab_size:,}",
        f"template  sha256 {tokenizer.chat_template_sha256}",
    ]


def _adapter(folder: Path) -> list[str]:
    config = read_json(folder / "adapter_config.json")
    headers = read_file_headers(folder / "adapter_model.safetensors")
    targets = config.get("target_modules")
    named = ", ".join(sorted(targets)) if isinstance(targets, list) else str(targets)
    return [
        f"adapter   {folder.resolve().name}",
        f"          {config.get('peft_type')}, {layout_of(headers) or 'other'} layout, "
        f"{_weights(headers)}",
        f"rank      {config.get('r')}, alpha {config.get('lora_alpha')}",
        f"modules   {named}",
        f"base      {config.get('base_model_name_or_path') or 'not stated'}",
        f"licence   {licence(folder)}",
    ]


def _weights(headers: dict[str, TensorHeader]) -> str:
    parameters = sum(header.elements for header in headers.values())
    size = sum(header.elements * DTYPE_BYTES.get(header.dtype, 1) for header in headers.values())
    kinds = Counter(header.dtype for header in headers.values())
    return f"{count(parameters)} parameters, {'/'.join(sorted(kinds))}, {size / 10**6:,.1f} MB"
