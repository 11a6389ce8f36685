"""The formats a model can be exported to. An unknown one names the known."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.export.gguf_file import TYPES, Source, kinds, read_source, write_gguf
from finetune.export.modelfile import modelfile
from finetune.export.quantiser import quantise
from finetune.export.whole import written_whole
from provider.errors import ConfigurationError

QUANTISED = ("q4_k_m", "q5_k_m", "q6_k")
"""Made by llama.cpp's own quantiser."""
_ELSEWHERE = {
    "awq": "AWQ needs calibration on a GPU and libraries that pin another transformers; merge with "
    "--layout llama and run `llm-compressor` (or `auto-round --format auto_awq`) on the result in "
    "an environment of its own.",
    "gptq": "GPTQ needs calibration on a GPU and libraries that pin another transformers; merge "
    "with --layout llama and run `gptqmodel` (or `auto-round --format auto_gptq`) on the result in "
    "an environment of its own.",
}
_KEPT = ("LICENSE*", "LICENCE*", "NOTICE*", "README.md", "merge.json")


@dataclass(frozen=True)
class Exported:
    """One file, and how many of its tensors are of which type."""

    file: Path
    size: int
    kinds: Mapping[str, int]
    architecture: str
    licence: str

    def lines(self) -> list[str]:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return [
            f"{self.file}: {self.architecture}, {self.size / 10**6:,.1f} MB, tensors: {listed}.",
            f"Licence: {self.licence}. For Ollama: ollama create NAME -f "
            f"{self.file.parent / 'Modelfile'}",
        ]


def export(
    folder: str | Path, destination: Path, form: str, kind: str, python: Path | None = None
) -> Exported:
    """Write the model in `folder` to the new folder `destination`; whole or not at all.

    `ConfigurationError` for a format that is made elsewhere, with where; for an unknown type; and
    for a model that the format cannot express.
    """
    if form in _ELSEWHERE:
        raise ConfigurationError(f"--format {form}: {_ELSEWHERE[form]}")
    known = (*TYPES, *QUANTISED)
    if form != "gguf" or kind not in known:
        raise ConfigurationError(
            f"--format {form!r} --type {kind!r} is not known; expected gguf and one of "
            f"{', '.join(known)}."
        )
    source = read_source(folder)
    name = f"{source.name}-{kind.upper()}.gguf"
    needed = source.base.size * (3 if kind in QUANTISED else 2)
    with written_whole(destination, needed=needed) as partial:
        if kind in QUANTISED:
            counted = _quantised(source, partial, name, kind, python)
        else:
            counted = kinds(write_gguf(source, partial / name, kind))
        size = (partial / name).stat().st_size
        _write_companions(source, partial, name)
    licence = source.base.card.licence
    return Exported(destination / name, size, counted, source.architecture, licence)


def _quantised(
    source: Source, partial: Path, name: str, kind: str, python: Path | None
) -> Mapping[str, int]:
    """By way of a file in the model's own precision, so that it is rounded once."""
    stored = {tensor.dtype for tensor in source.base.tensors.values()}
    exact = {frozenset({"BF16"}): "bf16", frozenset({"F16"}): "f16"}.get(frozenset(stored), "f32")
    plain = partial / "plain.gguf"
    write_gguf(source, plain, exact)
    quantise(plain, partial / name, kind, python)
    plain.unlink()
    return tensor_kinds(partial / name)


def tensor_kinds(path: Path) -> Mapping[str, int]:
    """How many tensors of a GGUF file there are of each type."""
    from gguf import GGUFReader

    found: Any = GGUFReader(path)
    return Counter(tensor.tensor_type.name for tensor in found.tensors)


def _write_companions(source: Source, partial: Path, name: str) -> None:
    folder, card = source.base.folder, source.base.card
    text = modelfile(name, source.vocabulary, card.context_length, card.licence)
    (partial / "Modelfile").write_text(text, encoding="utf-8")
    for pattern in _KEPT:
        for path in folder.glob(pattern):
            shutil.copy(path, partial / path.name)
    told = {"model": card.id, "licence": card.licence, "architecture": source.architecture}
    (partial / "export.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
