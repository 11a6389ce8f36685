"""The safetensors files of a folder: their list, headers and integrity, without reading weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from provider.errors import ConfigurationError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor on disk; `dtype` in safetensors' words (`BF16`)."""

    file: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def weight_files(folder: Path) -> list[str]:
    """Names of the weight files in order; `ConfigurationError` when one is missing."""
    if (folder / INDEX).is_file():
        files = sorted(set(_read_index(folder).values()))
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise ConfigurationError(
                f"{folder} lacks {', '.join(missing)}, which {INDEX} names; "
                "expected every shard; copy or download the folder again."
            )
        return files
    if (folder / SINGLE).is_file():
        return [SINGLE]
    raise ConfigurationError(_no_weights(folder))


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """Every tensor of the folder by name.

    `ConfigurationError` for a missing, truncated or damaged file, and for an index that disagrees
    with the files.
    """
    headers: dict[str, TensorHeader] = {}
    for name in weight_files(folder):
        headers |= read_file_headers(folder / name)
    if (folder / INDEX).is_file():
        promised = set(_read_index(folder))
        if promised != headers.keys():
            differing = sorted(promised ^ headers.keys())
            raise ConfigurationError(
                f"{folder / INDEX} and the weight files disagree on {_some(differing)}; "
                "expected the index to name exactly the stored tensors; download the folder again."
            )
    return headers


def read_file_headers(path: Path) -> dict[str, TensorHeader]:
    """Every tensor of one safetensors file by name."""
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: TensorHeader(path.name, part.get_dtype(), tuple(part.get_shape()))
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise ConfigurationError(
            f"{path} is not an intact safetensors file ({error}); "
            "it is truncated or damaged; copy or download it again."
        ) from error


def _read_index(folder: Path) -> dict[str, str]:
    try:
        mapping: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
    except (ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{folder / INDEX} cannot be read ({error!r}); expected JSON with a weight_map; "
            "copy or download it again."
        ) from error
    return mapping


def _no_weights(folder: Path) -> str:
    found = sorted(
        path.name for path in folder.glob("*") if path.suffix in {".bin", ".gguf", ".pt"}
    )
    if found:
        return (
            f"{folder} has its weights in {', '.join(found[:3])}; expected safetensors "
            "(pickled weights can run code, GGUF is another engine's format); save the model as "
            "safetensors first."
        )
    return (
        f"{folder} has no weights; expected {SINGLE} or {INDEX}; copy or download the folder again."
    )


def _some(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
