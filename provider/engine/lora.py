"""LoRA adapters on disk: read, checked against the model they are for, renamed to its layout.

An adapter is a PEFT directory (`adapter_config.json`, `adapter_model.safetensors`) and, when it
comes from our own training, a `manifest.json`. Every key of the manifest is optional; what it
states is checked:

    base_model            id of the base; its last path component must be the loaded model's
    base_revision         revision of the base, where the loaded one is known
    layout                `original` or `llama`, as its tensors are named
    target_modules        as in adapter_config.json
    chat_template_sha256  of the template it was trained with
    adapter_sha256        of adapter_model.safetensors
    data_sha256           of the training data (its form only; the data are not here)
    licence               shown in `/v1/models`

Nothing is dropped silently: a tensor that is not used, a target module without tensors and a
mismatch of any kind refuse the adapter, and every one of them is listed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load as load_tensors

from provider.engine.layout import Layout, UnknownName, layout_of, other, rename
from provider.engine.lora_config import LoraConfig
from provider.engine.model_card import ModelCard, licence, read_json
from provider.engine.weights import read_file_headers
from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from provider.engine.checkpoint import Checkpoint

CONFIG, WEIGHTS, MANIFEST = "adapter_config.json", "adapter_model.safetensors", "manifest.json"
_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 8


class AdapterRefused(ConfigurationError):
    """An adapter that does not fit; `problems` has one sentence for each reason."""

    def __init__(self, folder: Path, problems: list[str]) -> None:
        self.problems = tuple(problems)
        listed = "".join(f"\n- {problem}" for problem in problems)
        super().__init__(f"The LoRA adapter in {folder} cannot be served:{listed}")


@dataclass(frozen=True)
class LoraModule:
    """`weight + scaling * b @ a` is the adapted weight. a: [rank, in], b: [out, rank]."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: float

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])


@dataclass(frozen=True)
class LoraAdapter:
    """`modules` is keyed by the loaded model's own module paths; tensors are on the CPU in the
    precision of the file."""

    folder: Path
    modules: Mapping[str, LoraModule]
    licence: str
    manifest: Mapping[str, Any]

    @property
    def rank(self) -> int:
        """The largest of its modules."""
        return max(module.rank for module in self.modules.values())

    @property
    def bytes(self) -> int:
        return sum(m.a.nbytes + m.b.nbytes for m in self.modules.values())


def read_adapter(folder: Path, checkpoint: Checkpoint) -> LoraAdapter:
    """The adapter in `folder` for the loaded model; `AdapterRefused` with every reason at once."""
    return read_adapter_for(folder, checkpoint.card, linear_shapes(checkpoint.model))


def read_adapter_for(
    folder: Path, card: ModelCard, shapes: Mapping[str, tuple[int, int]]
) -> LoraAdapter:
    """The same for a model that is not loaded; `shapes` as `linear_shapes` gives them."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise AdapterRefused(folder, [f"it has no {name}; expected a PEFT adapter directory"])
    config = LoraConfig(read_json(folder / CONFIG))
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    names = list(read_file_headers(folder / WEIGHTS))
    data = (folder / WEIGHTS).read_bytes()
    problems = config.problems() + _manifest_problems(
        manifest, card, config, names, hashlib.sha256(data).hexdigest()
    )
    if config.problems():
        raise AdapterRefused(folder, problems)
    modules = _modules(load_tensors(data), config, shapes, card.layout, problems)
    if problems:
        raise AdapterRefused(folder, problems)
    stated = manifest.get("licence")
    return LoraAdapter(folder, modules, str(stated or licence(folder)), manifest)


def linear_shapes(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every linear layer by its path, 4-bit and 8-bit ones included."""
    return {
        name: (int(module.out_features), int(module.in_features))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def _modules(
    tensors: Mapping[str, torch.Tensor],
    config: LoraConfig,
    shapes: Mapping[str, tuple[int, int]],
    layout: Layout,
    problems: list[str],
) -> dict[str, LoraModule]:
    """Modules by the model's own paths; what does not fit goes to `problems`."""
    stored = layout_of(name.removeprefix("base_model.model.") for name in tensors)
    renamed = stored is not None and stored != layout and layout_of(shapes) == layout
    theirs = {_stored_name(name, layout, renamed): name for name in shapes}
    pairs = _pairs(tensors, theirs, problems)
    missing = config.targets(theirs) - pairs.keys()
    if missing:
        problems.append(f"it has no tensors for its target modules {_some(missing)}")
    surplus = pairs.keys() - config.targets(theirs)
    if surplus:
        problems.append(f"it has tensors for modules it does not target: {_some(surplus)}")
    return {
        theirs[name]: LoraModule(pair["A"], pair["B"], config.scaling(name))
        for name, pair in sorted(pairs.items())
        if _fits(name, pair, config.rank(name), shapes[theirs[name]], problems)
    }


def _stored_name(name: str, layout: Layout, renamed: bool) -> str:
    """What a module of the loaded model is called in the adapter's file."""
    if not renamed:
        return name
    try:
        return rename(name, other(layout))
    except UnknownName:
        return name


def _pairs(
    tensors: Mapping[str, torch.Tensor], theirs: Mapping[str, str], problems: list[str]
) -> dict[str, dict[str, torch.Tensor]]:
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    unused = []
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found and found[1] in theirs:
            pairs.setdefault(found[1], {})[found[2]] = tensor
        else:
            unused.append(key)
    if unused:
        problems.append(f"the model has no place for its tensors {_some(unused)}")
    return pairs


def _fits(
    name: str,
    pair: Mapping[str, torch.Tensor],
    rank: int,
    shape: tuple[int, int],
    problems: list[str],
) -> bool:
    before = len(problems)
    for side, wanted in (("A", (rank, shape[1])), ("B", (shape[0], rank))):
        tensor = pair.get(side)
        if tensor is None:
            problems.append(f"{name} has no lora_{side}")
        elif tuple(tensor.shape) != wanted:
            problems.append(
                f"{name}.lora_{side} has shape {tuple(tensor.shape)}; expected {wanted}"
            )
        elif not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            problems.append(f"{name}.lora_{side} has values that are not finite numbers")
    return len(problems) == before


def _manifest_problems(
    manifest: Mapping[str, Any],
    card: ModelCard,
    config: LoraConfig,
    names: list[str],
    adapter_sha256: str,
) -> list[str]:
    stored = layout_of(name.removeprefix("base_model.model.") for name in names)
    checks = {
        "base_model": (card.id, _same_model),
        "base_revision": (card.revision, _same_if_known),
        "layout": (stored, _same_if_known),
        "target_modules": (config.stated.get("target_modules"), _same_names),
        "chat_template_sha256": (card.chat_template_sha256, _same),
        "adapter_sha256": (adapter_sha256, _same),
    }
    problems = [
        f"its manifest says {key} {manifest[key]!r}, here it is {here!r}"
        for key, (here, same) in checks.items()
        if manifest.get(key) is not None and not same(manifest[key], here)
    ]
    data = manifest.get("data_sha256")
    if data is not None and not (isinstance(data, str) and _SHA256.fullmatch(data)):
        problems.append(f"its manifest says data_sha256 {data!r}; expected 64 hexadecimal digits")
    return problems


def _same(stated: Any, here: Any) -> bool:
    return bool(stated == here)


def _same_if_known(stated: Any, here: Any) -> bool:
    return here is None or bool(stated == here)


def _same_names(stated: Any, here: Any) -> bool:
    if isinstance(stated, list) and isinstance(here, list):
        return sorted(map(str, stated)) == sorted(map(str, here))
    return bool(stated == here)


def _same_model(stated: Any, here: Any) -> bool:
    """Hub ids and folders name the same model by their last component."""
    return str(stated).rstrip("/").rsplit("/", 1)[-1] == str(here).rstrip("/").rsplit("/", 1)[-1]


def _some(names: Any) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
