"""An embedding model's folder as a chain: encoder, then sentence-transformers' own modules.

The encoder is loaded here, with every weight accounted for; pooling, dense layers and normalisation
are sentence-transformers' modules, configured by `modules.json` or by the facts that are stated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from sentence_transformers.base.modules import Dense
from sentence_transformers.base.modules.normalize import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, PreTrainedModel
from transformers import logging as transformers_logging

from provider.engine import exaone
from provider.engine.embedding_facts import EmbeddingFacts
from provider.engine.model_card import read_json
from provider.engine.packed_encoder import PackedEncoder, can_pack
from provider.engine.padded_encoder import PaddedEncoder
from provider.errors import ConfigurationError

_UNUSED_HEADS = re.compile(
    r"(^|\.)(pooler|lm_head|cls|classifier|discriminator_predictions|generator_predictions)\."
    r"|position_ids$|(^|\.)predictions\."
)
"""Weights of training heads and of the pooler: a sentence's vector is taken before them."""
_TURNED_BY_POSITION = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "xmod"}
"""Architectures whose first positions belong to padding: 514 positions hold 512 tokens."""


@dataclass(frozen=True)
class Chain:
    """`encoder` gives token embeddings; `modules` turn them into `sentence_embedding`."""

    encoder: PackedEncoder | PaddedEncoder
    modules: tuple[torch.nn.Module, ...]
    tokenizer: Tokenizer
    pooling: str
    normalized: bool
    max_tokens: int
    prompts: dict[str, str]
    lower_case: bool

    def steps(self, ids: Sequence[Sequence[int]]) -> Iterator[torch.Tensor | None]:
        """None after each step of the work, at last float32 [n, dimensions]."""
        for features in self.encoder.steps(ids):
            yield None if features is None else self._pooled(features)

    def _pooled(self, features: dict[str, Any]) -> torch.Tensor:
        for module in self.modules:
            features = module(features)
        found: torch.Tensor = features["sentence_embedding"]
        return found


def load_chain(
    folder: Path, facts: EmbeddingFacts, device: torch.device, products: torch.dtype
) -> Chain:
    """`products` is the precision of matrix products; everything else is computed in fp32.

    `ConfigurationError` when pooling is not stated, or stated twice and differently.
    """
    listed = _listed(folder)
    base = folder / listed[0]["path"] if listed else folder
    model = _encoder(base, device)
    modules = _read_modules(folder, listed) if listed else _stated_modules(folder, facts, model)
    _check(folder, facts, modules)
    normalized = any(isinstance(module, Normalize) for module in modules)
    if facts.normalize and not normalized:
        modules, normalized = [*modules, Normalize()], True
    backend, pad_token = _tokenizer(base)
    settings = _transformer_settings(base)
    pooling = _pooling(modules)
    encoder = (
        PackedEncoder(model, products, first_only=pooling == "cls")
        if can_pack(model)
        else PaddedEncoder(model, products, pad_token)
    )
    return Chain(
        encoder,
        tuple(module.to(device=device, dtype=torch.float32).eval() for module in modules),
        backend,
        pooling,
        normalized,
        _max_tokens(model, settings, facts),
        _prompts(folder),
        bool(settings.get("do_lower_case")),
    )


def _listed(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    if not path.is_file():
        return []
    parsed = cast(Any, read_json_list(path))
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in parsed]
    if not kinds or kinds[0] != "Transformer" or kinds.count("Pooling") != 1:
        raise ConfigurationError(
            f"{path} lists {', '.join(kinds) or 'nothing'}; expected a Transformer followed by one "
            "Pooling; other kinds of embedding models are not served here."
        )
    return [dict(module, kind=kind) for module, kind in zip(parsed, kinds, strict=True)]


def read_json_list(path: Path) -> list[Any]:
    """A JSON list; `ConfigurationError` when the file is none."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); expected JSON.") from error
    if not isinstance(parsed, list):
        raise ConfigurationError(f"{path} holds a {type(parsed).__name__}; expected a list.")
    return parsed


_LOADERS: dict[str, Callable[..., torch.nn.Module]] = {
    "Pooling": Pooling.load,
    "Dense": Dense.load,
    "Normalize": Normalize.load,
}


def _read_modules(folder: Path, listed: Sequence[dict[str, Any]]) -> list[torch.nn.Module]:
    modules = []
    for module in listed[1:]:
        load = _LOADERS.get(module["kind"])
        if load is None:
            raise ConfigurationError(
                f"{folder / 'modules.json'} has a {module['type']}; expected Pooling, Dense and "
                "Normalize after the Transformer; this model is not served here."
            )
        modules.append(load(str(folder), subfolder=module["path"], local_files_only=True))
    return modules


def _stated_modules(folder: Path, facts: EmbeddingFacts, encoder: Any) -> list[torch.nn.Module]:
    if facts.pooling is None:
        raise ConfigurationError(
            f"{folder} does not say how its token vectors become one vector; expected modules.json "
            'or sllm.json with {"embedding": {"pooling": "cls" or "mean", "normalize": true or '
            "false}}; look it up in the model's card: the wrong one gives another space."
        )
    return [Pooling(int(encoder.config.hidden_size), facts.pooling)]


def _check(folder: Path, facts: EmbeddingFacts, modules: Sequence[torch.nn.Module]) -> None:
    pooling = _pooling(modules)
    problems = []
    if facts.pooling not in (None, pooling):
        problems.append(f"pooling {pooling!r} where {facts.pooling!r} is known")
    if facts.normalize is False and any(isinstance(module, Normalize) for module in modules):
        problems.append("normalisation where none is known")
    if problems:
        raise ConfigurationError(
            f"{folder / 'modules.json'} has {' and '.join(problems)}; expected the model's own "
            "(sllm.json or the table of known models); correct whichever is wrong."
        )


def _pooling(modules: Sequence[torch.nn.Module]) -> str:
    mode = next(module.pooling_mode for module in modules if isinstance(module, Pooling))
    return mode if isinstance(mode, str) else "+".join(mode)


def _encoder(folder: Path, device: torch.device) -> PreTrainedModel:
    exaone.register()
    before = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (ValueError, RuntimeError, OSError, KeyError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"{folder} cannot be loaded as an encoder ({reason}); expected a model that "
            "transformers knows natively, with its weights; copy or download it again."
        ) from error
    finally:
        transformers_logging.set_verbosity(before)
        if bar:
            transformers_logging.enable_progress_bar()
    _check_report(loaded[1], folder)
    model: PreTrainedModel = loaded[0].to(device)
    model.eval()
    model.requires_grad_(False)
    return model


def _check_report(report: dict[str, Any], folder: Path) -> None:
    missing = sorted(name for name in report["missing_keys"] if not _UNUSED_HEADS.search(name))
    unused = sorted(name for name in report["unexpected_keys"] if not _UNUSED_HEADS.search(name))
    if missing or unused:
        raise ConfigurationError(
            f"{folder} does not match its config.json: {len(missing)} parameters are not in the "
            f"checkpoint ({', '.join(missing[:3])}), {len(unused)} tensors belong to no parameter "
            f"({', '.join(unused[:3])}); expected every weight of the encoder exactly once."
        )


def _tokenizer(folder: Path) -> tuple[Tokenizer, int]:
    """The tokenizer exactly as `tokenizer.json` says, without truncation or padding, and its
    padding id. A folder that has only a vocabulary is read by its own tokenizer class."""
    path = folder / "tokenizer.json"
    try:
        declared: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        backend = (
            Tokenizer.from_file(str(path))
            if path.is_file()
            else Tokenizer.from_str(declared.backend_tokenizer.to_str())
        )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"The tokenizer in {folder} cannot be read ({error}); expected an intact "
            "tokenizer.json; copy or download it again."
        ) from error
    backend.no_truncation()
    backend.no_padding()
    return backend, int(declared.pad_token_id or 0)


def _transformer_settings(folder: Path) -> dict[str, Any]:
    path = folder / "sentence_bert_config.json"
    return read_json(path) if path.is_file() else {}


def _max_tokens(encoder: Any, settings: dict[str, Any], facts: EmbeddingFacts) -> int:
    """The smallest limit of architecture, folder and facts, special tokens counted."""
    config = encoder.config
    positions = int(getattr(config, "max_position_embeddings", 0) or 2**31)
    if config.model_type in _TURNED_BY_POSITION:
        positions -= int(config.pad_token_id) + 1
    stated = (settings.get("max_seq_length"), facts.max_tokens)
    return min([positions, *(int(limit) for limit in stated if limit)])


def _prompts(folder: Path) -> dict[str, str]:
    path = folder / "config_sentence_transformers.json"
    prompts = read_json(path).get("prompts") if path.is_file() else None
    return {str(name): str(text) for name, text in (prompts or {}).items()}
