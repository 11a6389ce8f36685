"""An adapter merged into its base: `base + scaling * B @ A`, computed in fp32 and rounded once.

Tensors pass through one at a time; memory is the adapter's and that of the largest tensor. What
the adapter does not touch is copied bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from finetune.export.base import Base, read_base
from finetune.export.companions import copy_companions
from finetune.export.nf4 import round_trip
from finetune.export.tensors import DTYPES, Planned, write_file
from finetune.export.whole import written_whole
from provider.engine.convert_config import convert_config
from provider.engine.layout import Layout, UnknownName, rename
from provider.engine.lora import LoraAdapter, LoraModule, read_adapter_for
from provider.engine.model_card import read_json
from provider.engine.weights import INDEX
from provider.errors import ConfigurationError

Into = Literal["original", "dequantised"]
MANIFEST = "merge.json"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_JSON = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}


@dataclass(frozen=True)
class Merge:
    """What goes where: `files` maps a file to its tensors by new name, `sources` a new name to the
    old one, `modules` an old weight's name to what is added to it."""

    base: Base
    adapter: LoraAdapter
    into: Into
    layout: Layout
    files: Mapping[str, Mapping[str, Planned]]
    sources: Mapping[str, str]
    modules: Mapping[str, LoraModule]
    unties: bool

    @property
    def size(self) -> int:
        return sum(planned.size for plan in self.files.values() for planned in plan.values())

    @property
    def name(self) -> str:
        """Of the adapter: its manifest's, or its folder's."""
        return str(self.adapter.manifest.get("name") or self.adapter.folder.resolve().name)

    def lines(self, destination: Path) -> list[str]:
        """What was done, for a terminal."""
        into = "the base's own weights" if self.into == "original" else "the weights' NF4 values"
        told = [
            f"{destination} holds {self.base.card.id} with {self.name}: "
            f"{len(self.modules)} of {len(self.sources)} tensors changed, {self.layout} layout, "
            f"{self.size / 10**6:,.1f} MB.",
            f"Added to {into}; licence of the base {self.base.card.licence}, of the adapter "
            f"{self.adapter.licence}.",
        ]
        if self.unties:
            told.append("The adapter changes the head, so head and embeddings are two tensors now.")
        if self.into == "original" and _trained_in_four_bits(self.adapter.manifest):
            told.append(
                "The adapter was trained on the base's NF4 values, which are not these weights: "
                "--into dequantised keeps what was trained; to serve in 4 bit, leave it unmerged."
            )
        return told


def _trained_in_four_bits(manifest: Mapping[str, Any]) -> bool:
    return manifest.get("base_quantization") == "nf4"


def merge(
    base: str | Path,
    adapter: Path,
    destination: Path,
    *,
    into: Into = "original",
    layout: Layout | None = None,
    dtype: str | None = None,
    progress: bool = True,
) -> Merge:
    """Write the merged model to `destination`, which must not exist and appears whole or not at
    all.

    `into` "dequantised" rounds the base's linear layers to NF4 and back first, which is what an
    adapter trained in 4 bit saw. `layout` and `dtype` (bf16, fp16, fp32) are the base's unless
    given. `ConfigurationError` for a damaged base, one that the adapter does not fit (every
    mismatch is listed), a full disk, and values that the dtype cannot hold.
    """
    plan = plan_merge(base, adapter, into=into, layout=layout, dtype=dtype)
    with written_whole(destination, needed=plan.size) as partial:
        _write_weights(plan, partial, progress)
        copy_companions(plan.base.folder, partial)
        _write_json(plan, adapter, partial)
    return plan


def plan_merge(
    base: str | Path, adapter: Path, *, into: Into, layout: Layout | None, dtype: str | None
) -> Merge:
    """Everything that can be checked before anything is written."""
    read = read_base(base)
    lora = read_adapter_for(adapter, read.card, read.linears)
    to = layout or read.card.layout
    unties = read.tied and read.head in lora.modules
    names = _new_names(read, to)
    files: dict[str, dict[str, Planned]] = {}
    sources: dict[str, str] = {}
    for name, stored in read.tensors.items():
        planned = Planned(_target(DTYPES[stored.dtype], dtype), stored.shape)
        files.setdefault(stored.path.name, {})[names[name]] = planned
        sources[names[name]] = name
    head = f"{read.head}.weight"
    if unties and head not in read.tensors:
        embeddings = read.tensors[f"{read.embeddings}.weight"]
        planned = Planned(_target(DTYPES[embeddings.dtype], dtype), embeddings.shape)
        files[embeddings.path.name][head] = planned
        sources[head] = f"{read.embeddings}.weight"
    modules = {f"{name}.weight": module for name, module in lora.modules.items()}
    return Merge(read, lora, into, to, files, sources, modules, unties)


def _target(stored: torch.dtype, dtype: str | None) -> torch.dtype:
    return _DTYPES[dtype] if dtype and stored.is_floating_point else stored


def _new_names(base: Base, to: Layout) -> dict[str, str]:
    if to == base.card.layout:
        return {name: name for name in base.tensors}
    convert_config(dict(base.config), to)
    try:
        return {name: rename(name, to) for name in base.tensors}
    except UnknownName as error:
        raise ConfigurationError(
            f"{base.folder}: {error}; only EXAONE-3.x has two layouts; leave --layout out."
        ) from error


def _write_weights(plan: Merge, partial: Path, progress: bool) -> None:
    with tqdm(
        total=plan.size, unit="B", unit_scale=True, desc="Merging", disable=not progress
    ) as bar:
        for file, planned in plan.files.items():
            write_file(partial / file, planned, _values(plan, planned, bar))
    if (plan.base.folder / INDEX).is_file():
        index = {
            "metadata": {"total_size": plan.size},
            "weight_map": {name: file for file, names in plan.files.items() for name in names},
        }
        _dump(partial / INDEX, index)


def _values(
    plan: Merge, planned: Mapping[str, Planned], bar: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    for name, wanted in planned.items():
        source = plan.sources[name]
        # An untied head starts from the embeddings' weight, and is adapted under its own name.
        own = f"{plan.base.head}.weight" if name == f"{plan.base.head}.weight" else source
        yield name, merged_tensor(plan, own, source, wanted.dtype)
        bar.update(wanted.size)


def merged_tensor(plan: Merge, name: str, source: str, dtype: torch.dtype) -> torch.Tensor:
    """The tensor `name`, read from `source`, as it is stored after merging."""
    value = plan.base.tensors[source].read()
    module = plan.modules.get(name)
    if plan.into == "dequantised" and _in_four_bits(plan, name):
        value = round_trip(value)
    if module is not None:
        value = add(value, module)
    rounded = value.to(dtype)
    if rounded is not value and not bool(torch.isfinite(rounded).all()):
        raise ConfigurationError(
            f"{name} holds values that {_JSON.get(dtype, dtype)} cannot; "
            "expected finite numbers; use --dtype bf16 or fp32."
        )
    return rounded


def _in_four_bits(plan: Merge, name: str) -> bool:
    """As transformers quantises: every linear layer but the head."""
    module = name.removesuffix(".weight")
    return name.endswith(".weight") and module in plan.base.linears and module != plan.base.head


def add(weight: torch.Tensor, module: LoraModule) -> torch.Tensor:
    """`weight + scaling * b @ a` in float32, not yet rounded."""
    summed = weight.to(torch.float32, copy=True)
    return summed.addmm_(module.b.float(), module.a.float(), alpha=module.scaling)


def _write_json(plan: Merge, adapter: Path, partial: Path) -> None:
    config = dict(plan.base.config)
    if plan.layout != plan.base.card.layout:
        config = convert_config(config, plan.layout)
    if plan.unties:
        config["tie_word_embeddings"] = False
    kinds = {p.dtype for files in plan.files.values() for p in files.values()}
    floating = [kind for kind in kinds if kind.is_floating_point]
    if len(floating) == 1 and floating[0] in _JSON:
        config.pop("torch_dtype", None)
        config["dtype"] = _JSON[floating[0]]
    _dump(partial / "config.json", config)
    _dump(partial / MANIFEST, _manifest(plan, adapter))


def _manifest(plan: Merge, adapter: Path) -> dict[str, Any]:
    """Where the weights come from; what the adapter's own manifest says is kept whole."""
    weights = adapter / "adapter_model.safetensors"
    return {
        "base_model": plan.base.card.id,
        "base_revision": plan.base.card.revision,
        "base_licence": plan.base.card.licence,
        "into": plan.into,
        "layout": plan.layout,
        "unties_embeddings": plan.unties,
        "adapter": plan.name,
        "adapter_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "adapter_licence": plan.adapter.licence,
        "adapter_config": read_json(adapter / "adapter_config.json"),
        "adapter_manifest": dict(plan.adapter.manifest),
        "modules": len(plan.modules),
    }


def _dump(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
