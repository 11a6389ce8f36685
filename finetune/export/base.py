"""A base model as its files tell it: tensors, linear layers and card, with no weights loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from finetune.export.tensors import Stored, stored_tensors
from provider.engine.chat import ChatTokenizer
from provider.engine.exaone import CHAT_TEMPLATE, register
from provider.engine.lora import linear_shapes
from provider.engine.model_card import ModelCard, licence, read_json, read_manifest
from provider.engine.repository import resolve
from provider.errors import ConfigurationError

_SHOWN = 8


@dataclass(frozen=True)
class Base:
    """`linears` are (outputs, inputs) by module path, `head` and `embeddings` the paths of the two
    that may share one weight; `tied` says whether they do, in the files and in the config."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    linears: Mapping[str, tuple[int, int]]
    head: str
    embeddings: str
    tied: bool
    card: ModelCard

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(stored.size for stored in self.tensors.values())


def read_base(path_or_id: str | Path) -> Base:
    """The base in a folder, or of a hub id.

    `ConfigurationError` when a file is damaged, when the weights are quantised, or listing every
    tensor that the config's architecture lacks, has too many or has in another shape.
    """
    register()
    folder = resolve(path_or_id, setting="BASE")
    stated = read_json(folder / "config.json")
    if stated.get("quantization_config"):
        raise ConfigurationError(
            f"{folder} holds quantised weights; expected the unquantised base that they were made "
            "from, because a sum can be rounded once only; name that folder or hub id."
        )
    tensors = stored_tensors(folder)
    model = _skeleton(folder)
    _check_tensors(folder, model, tensors)
    names = {module: name for name, module in model.named_modules()}
    return Base(
        folder,
        stated,
        tensors,
        linear_shapes(model),
        names.get(model.get_output_embeddings(), ""),
        names[model.get_input_embeddings()],
        bool(model.config.get_text_config().tie_word_embeddings),
        _card(str(path_or_id), folder, model, tensors),
    )


def _skeleton(folder: Path) -> Any:
    """The architecture without memory for its weights."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigurationError(
            f"{folder / 'config.json'} cannot be used ({' '.join(str(error).split())[:200]}); "
            "expected that of a causal language model that transformers knows."
        ) from error


def _check_tensors(folder: Path, model: Any, tensors: Mapping[str, Stored]) -> None:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    problems = [f"{name} is missing" for name in wanted if name not in tensors and name not in tied]
    problems += [f"{name} has no place in the architecture" for name in tensors.keys() - wanted]
    problems += [
        f"{name} has shape {tensors[name].shape}; expected {shape}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if problems:
        more = len(problems) - _SHOWN
        listed = "".join(f"\n- {problem}" for problem in sorted(problems)[:_SHOWN])
        raise ConfigurationError(
            f"{folder} does not hold the weights of its config.json:{listed}"
            + (f"\n- and {more} more" if more > 0 else "")
        )


def _card(asked: str, folder: Path, model: Any, tensors: Mapping[str, Stored]) -> ModelCard:
    config = model.config.get_text_config()
    manifest = read_manifest(folder)
    template = CHAT_TEMPLATE if config.model_type == "exaone" else None
    return ModelCard(
        id=str(manifest.get("name") or (folder.resolve().name if _is_here(asked) else asked)),
        architecture=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device="meta",
        dtype="/".join(sorted({stored.dtype for stored in tensors.values()})),
        quantization=None,
        licence=licence(folder),
        context_length=int(config.max_position_embeddings),
        layout="original" if config.model_type == "exaone" else "llama",
        demo=manifest.get("demo") is True,
        chat_template_sha256=ChatTokenizer.load(folder, (), template).chat_template_sha256,
        revision=_revision(folder),
    )


def _is_here(asked: str) -> bool:
    return Path(asked).expanduser().is_dir()


def _revision(folder: Path) -> str | None:
    """Of a hub's cache, whose folders are `snapshots/<revision>`."""
    return folder.name if folder.parent.name == "snapshots" else None
