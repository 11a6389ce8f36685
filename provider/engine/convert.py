"""Turns a checkpoint or LoRA adapter of EXAONE-3.x into its other layout, bit for bit.

Only names change: a safetensors file is a JSON header and raw bytes, so the header is rewritten and
the bytes are copied as they are. Memory stays at a copy buffer whatever the size of the model. The
result appears whole or not at all: it is written beside the destination and renamed at the end.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm  # type: ignore[import-untyped]

from provider.engine.convert_config import convert_adapter_config, convert_config
from provider.engine.layout import Layout, UnknownName, layout_of, rename
from provider.engine.model_card import MANIFEST, read_json
from provider.engine.weights import INDEX, read_file_headers, read_headers, weight_files
from provider.errors import ConfigurationError

ADAPTER_CONFIG, ADAPTER_WEIGHTS, ADAPTER_MANIFEST = (
    "adapter_config.json", "adapter_model.safetensors", "manifest.json",
)  # fmt: skip
PEFT_PREFIX = "base_model.model."
_LEFT_BEHIND = {".py", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5"}
_BUFFER = 8 * 2**20


def convert(source: Path, destination: Path, to: Layout, *, progress: bool = True) -> Path:
    """Write `source` in the layout `to` at `destination`, which must not exist.

    `ConfigurationError` for a source that is damaged, in that layout already, or of another
    architecture. Code and pickled weights beside the safetensors are left behind.
    """
    if destination.exists() or destination.is_symlink():
        raise ConfigurationError(
            f"{destination} exists; expected a path that does not; "
            "remove it or choose another destination."
        )
    adapter = (source / ADAPTER_CONFIG).is_file()
    files = [ADAPTER_WEIGHTS] if adapter else weight_files(source)
    names = _new_names(source, files, to, adapter)
    destination.parent.mkdir(parents=True, exist_ok=True)
    _check_room(source, destination.parent)
    partial = destination.parent / f".{destination.name}.{secrets.token_hex(4)}"
    partial.mkdir()
    try:
        _copy_others(source, partial)
        (_write_adapter_json if adapter else _write_json)(source, partial, names, to)
        _copy_weights(source, partial, files, names, progress)
        partial.rename(destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return destination


def rename_safetensors(
    source: Path, destination: Path, names: Mapping[str, str], copied: Callable[[int], object]
) -> None:
    """Copy a safetensors file with its tensors renamed; `copied` hears of bytes as they go."""
    with source.open("rb") as reading, destination.open("wb") as writing:
        (length,) = struct.unpack("<Q", reading.read(8))
        header: dict[str, Any] = json.loads(reading.read(length))
        renamed = {names.get(name, name): entry for name, entry in header.items()}
        encoded = json.dumps(renamed, separators=(",", ":"), ensure_ascii=False).encode()
        encoded += b" " * (-len(encoded) % 8)
        writing.write(struct.pack("<Q", len(encoded)) + encoded)
        _copy_bytes(reading, writing, copied)
        writing.flush()
        os.fsync(writing.fileno())


def _copy_bytes(reading: BinaryIO, writing: BinaryIO, copied: Callable[[int], object]) -> None:
    while block := reading.read(_BUFFER):
        writing.write(block)
        copied(len(block))


def _new_names(source: Path, files: list[str], to: Layout, adapter: bool) -> dict[str, str]:
    """New name of every tensor; checks all of them before anything is written."""
    if adapter:
        names = list(read_file_headers(_existing(source / ADAPTER_WEIGHTS)))
    else:
        convert_config(read_json(source / "config.json"), to)
        names = list(read_headers(source))
    prefix = PEFT_PREFIX if adapter else ""
    if layout_of(names) == to:
        raise ConfigurationError(f"{source} is in the {to} layout already; nothing to convert.")
    try:
        renamed = {name: prefix + rename(_without(name, prefix), to) for name in names}
    except UnknownName as error:
        raise ConfigurationError(
            f"{source}: {error}; expected a checkpoint or LoRA adapter of EXAONE-3.x."
        ) from error
    if len(set(renamed.values())) != len(renamed):
        raise ConfigurationError(f"{source} holds tensors whose new names coincide.")
    return renamed


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(
            f"{path.parent} has no {path.name}; expected a LoRA adapter in safetensors; "
            "save it with safe_serialization."
        )
    return path


def _without(name: str, prefix: str) -> str:
    if not name.startswith(prefix):
        raise UnknownName(f"{name} does not start with {prefix}")
    return name[len(prefix) :]


def _check_room(source: Path, parent: Path) -> None:
    needed = sum(path.stat().st_size for path in source.iterdir() if path.is_file())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise ConfigurationError(
            f"{parent} has {free / 2**30:.1f} GiB free; expected {needed / 2**30:.1f} GiB for the "
            "converted copy; free space or choose another destination."
        )


def _copy_others(source: Path, partial: Path) -> None:
    """Tokenizer, template, licence and the like, byte for byte."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix not in {*_LEFT_BEHIND, ".safetensors"}:
            shutil.copy2(path, partial / path.name)


def _copy_weights(
    source: Path, partial: Path, files: list[str], names: Mapping[str, str], progress: bool
) -> None:
    total = sum((source / name).stat().st_size for name in files)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc="Converting", disable=not progress
    ) as bar:
        for name in files:
            rename_safetensors(source / name, partial / name, names, bar.update)


def _write_json(source: Path, partial: Path, names: Mapping[str, str], to: Layout) -> None:
    _dump(partial / "config.json", convert_config(read_json(source / "config.json"), to))
    if (source / INDEX).is_file():
        index = read_json(source / INDEX)
        index["weight_map"] = {names[name]: file for name, file in index["weight_map"].items()}
        _dump(partial / INDEX, index)
    _restate_layout(partial / MANIFEST, to)
    _declare_tokenizer(partial / "tokenizer_config.json")


def _write_adapter_json(source: Path, partial: Path, names: Mapping[str, str], to: Layout) -> None:
    modules = {name.removeprefix(PEFT_PREFIX).split(".lora_")[0] for name in names.values()}
    stated = read_json(source / ADAPTER_CONFIG)
    converted = convert_adapter_config(stated, modules, to)
    _dump(partial / ADAPTER_CONFIG, converted)
    _restate_layout(partial / ADAPTER_MANIFEST, to, converted.get("target_modules"))


def _restate_layout(path: Path, to: Layout, target_modules: Any = None) -> None:
    if not path.is_file():
        return
    manifest = read_json(path)
    if "layout" in manifest:
        manifest["layout"] = to
    if "target_modules" in manifest and target_modules:
        manifest["target_modules"] = target_modules
    _dump(path, manifest)


def _declare_tokenizer(path: Path) -> None:
    """transformers 5 rebuilds a tokenizer declared as GPT-2's and loses its digit splitting."""
    if not path.is_file():
        return
    declared = read_json(path)
    if declared.get("tokenizer_class") in {"GPT2Tokenizer", "GPT2TokenizerFast"}:
        _dump(path, declared | {"tokenizer_class": "PreTrainedTokenizerFast"})


def _dump(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
