"""`config.json` and `adapter_config.json` from one EXAONE-3.x layout into the other.

Every value that the two architectures' defaults disagree on is written out, so that nothing depends
on a default. Keys that neither knows are carried along; `auto_map` is not, because it names code
that only one layout has and that is never run here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from provider.engine.layout import Layout, UnknownName, rename_fragment
from provider.errors import ConfigurationError

_NAMES = {"num_hidden_layers": "num_layers", "rms_norm_eps": "layer_norm_epsilon",
          "hidden_act": "activation_function"}  # fmt: skip
_ARCHITECTURE = {
    "llama": ("llama", ["LlamaForCausalLM"]),
    "original": ("exaone", ["ExaoneForCausalLM"]),
}
_STATED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
    "head_dim", "max_position_embeddings", "initializer_range", "tie_word_embeddings",
    "attention_dropout", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
_LLAMA_ONLY = ("attention_bias", "mlp_bias", "pretraining_tp")
_PLAIN_NAME = re.compile(r"[\w.]+")


def convert_config(stated: dict[str, Any], to: Layout) -> dict[str, Any]:
    """A `config.json` of the other layout; `ConfigurationError` if `to` cannot express it."""
    config = _parsed(stated)
    if to == "original":
        _check_representable(config)
    read_away = {*_NAMES, *_NAMES.values(), *_LLAMA_ONLY, "rope_parameters", "auto_map"}
    written = {key: value for key, value in stated.items() if key not in read_away}
    written |= {key: getattr(config, key) for key in _STATED}
    for theirs, ours in _NAMES.items():
        written[theirs if to == "llama" else ours] = getattr(config, theirs)
    rope = dict(config.rope_parameters)
    written["rope_theta"] = rope.pop("rope_theta")
    written["rope_scaling"] = None if rope == {"rope_type": "default"} else rope
    if to == "llama":
        written |= {"attention_bias": False, "mlp_bias": False}
    written["model_type"], written["architectures"] = _ARCHITECTURE[to]
    return dict(sorted(written.items()))


def _parsed(stated: dict[str, Any]) -> Any:
    from transformers import LlamaConfig

    from provider.engine.exaone import ExaoneConfig

    classes: dict[Any, Any] = {"exaone": ExaoneConfig, "llama": LlamaConfig}
    kind = stated.get("model_type")
    if kind not in classes:
        raise ConfigurationError(
            f"config.json has model_type {kind!r}; expected exaone (3.x) or llama; "
            "no other architecture has two layouts."
        )
    try:
        return classes[kind].from_dict(copy.deepcopy(stated))
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"config.json cannot be used ({reason}); expected that of an intact checkpoint."
        ) from error


def _check_representable(config: Any) -> None:
    for key in ("attention_bias", "mlp_bias"):
        if getattr(config, key):
            raise ConfigurationError(
                f"config.json has {key}={getattr(config, key)!r}; expected false: EXAONE-3.x has "
                "no such parameters, so this Llama model has no original layout."
            )


def convert_adapter_config(
    stated: dict[str, Any], modules: Iterable[str], to: Layout
) -> dict[str, Any]:
    """An `adapter_config.json`; `modules` are the full paths (new names) that the weights adapt.

    A `target_modules` pattern becomes the list of those paths, which selects the same modules.
    """
    written = dict(stated)
    if written.get("auto_mapping"):
        written["auto_mapping"] = None
    targets = written.get("target_modules")
    if isinstance(targets, list):
        written["target_modules"] = sorted(_renamed(name, to) for name in targets)
    elif isinstance(targets, str) and targets != "all-linear":
        written["target_modules"] = sorted(modules)
    for key in ("exclude_modules", "modules_to_save"):
        if isinstance(written.get(key), list):
            written[key] = [_renamed(name, to) for name in written[key]]
        elif written.get(key):
            raise _unconvertible(key, written[key])
    for key in ("rank_pattern", "alpha_pattern"):
        written[key] = {
            _renamed(name, to): value for name, value in (stated.get(key) or {}).items()
        }
    pattern = written.get("layers_pattern")
    if pattern:
        names = [pattern] if isinstance(pattern, str) else pattern
        written["layers_pattern"] = [_renamed(name, to) for name in names]
    if written.get("target_parameters"):
        raise _unconvertible("target_parameters", written["target_parameters"])
    return written


def _renamed(name: str, to: Layout) -> str:
    try:
        if _PLAIN_NAME.fullmatch(name):
            return rename_fragment(name, to)
    except UnknownName as error:
        raise ConfigurationError(f"adapter_config.json: {error}.") from error
    raise _unconvertible("a module pattern", name)


def _unconvertible(key: str, value: Any) -> ConfigurationError:
    return ConfigurationError(
        f"adapter_config.json has {key} {value!r}; expected plain module names, which can be "
        "renamed; list the modules by name."
    )
