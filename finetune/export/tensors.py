"""Safetensors read and written one tensor at a time, so that memory is that of the largest one."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from provider.engine.weights import read_headers, weight_files
from provider.errors import ConfigurationError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one tensor lies: `start` and `stop` are bytes of the file, `dtype` as in `DTYPES`."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def read(self) -> torch.Tensor:
        """The tensor in memory of its own; `ConfigurationError` when the file ends early."""
        data = bytearray(self.size)
        with self.path.open("rb") as file:
            file.seek(self.start)
            if file.readinto(data) != self.size:
                raise ConfigurationError(
                    f"{self.path} ends within a tensor; it is truncated; copy it again."
                )
        if not data:
            return torch.empty(self.shape, dtype=DTYPES[self.dtype])
        return torch.frombuffer(data, dtype=DTYPES[self.dtype]).reshape(self.shape)


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor of a checkpoint by name, in the order of the files.

    `ConfigurationError` for missing, truncated or damaged files, and for a type without a
    counterpart here.
    """
    read_headers(folder)  # refuses what is damaged, the index included
    found: dict[str, Stored] = {}
    for name in weight_files(folder):
        found |= _file_tensors(folder / name)
    return found


def _file_tensors(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    unknown = {entry["dtype"] for entry in header.values()} - DTYPES.keys()
    if unknown:
        raise ConfigurationError(
            f"{path} holds tensors of type {', '.join(sorted(unknown))}; expected one of "
            f"{', '.join(DTYPES)}; save the model in bf16 first."
        )
    begin = 8 + length
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"][0])
    return {
        name: Stored(
            path,
            entry["dtype"],
            tuple(entry["shape"]),
            begin + entry["data_offsets"][0],
            begin + entry["data_offsets"][1],
        )
        for name, entry in entries
    }


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor that will be written."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_file(
    path: Path, plan: Mapping[str, Planned], values: Iterator[tuple[str, torch.Tensor]]
) -> None:
    """One safetensors file; `values` gives the tensors of `plan` in its order, one at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, planned in plan.items():
        end = position + planned.size
        header[name] = {
            "dtype": NAMES[planned.dtype],
            "shape": list(planned.shape),
            "data_offsets": [position, end],
        }
        position = end
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for (name, planned), (given, tensor) in zip(plan.items(), values, strict=True):
            if given != name or tensor.dtype != planned.dtype or tensor.shape != planned.shape:
                raise AssertionError(f"{given} is not the {name} that the header promises")
            file.write(as_bytes(tensor))
        file.flush()
        os.fsync(file.fileno())


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """The tensor's own memory, row by row."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
