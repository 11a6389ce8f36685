"""EXAONE-3.x's two layouts and the names of one in the other.

`original` is what LG publishes (`transformer.h.N.mlp.c_fc_0`), `llama` the same weights under
Llama's names (`model.layers.N.mlp.gate_proj`). A name is renamed as a whole path or as a fragment
of one (`c_fc_0`, `h.3.mlp.c_fc_0`), with whatever follows the module left alone (`.lora_A.weight`).

Pure: no torch, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

Layout = Literal["original", "llama"]

_TOP = {"transformer.wte": "model.embed_tokens", "transformer.ln_f": "model.norm"}
_IN_LAYER = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.attention.q_proj": "self_attn.q_proj",
    "attn.attention.k_proj": "self_attn.k_proj",
    "attn.attention.v_proj": "self_attn.v_proj",
    "attn.attention.out_proj": "self_attn.o_proj",
    "mlp.c_fc_0": "mlp.gate_proj",
    "mlp.c_fc_1": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}
_SINGLE = {
    **{path.rsplit(".", 1)[-1]: to.rsplit(".", 1)[-1] for path, to in _IN_LAYER.items()},
    "wte": "embed_tokens",
    "ln_f": "norm",
    "h": "layers",
    "lm_head": "lm_head",
}
_LAYERS = {"original": "transformer.h", "llama": "model.layers"}


def _inverted(names: Mapping[str, str]) -> dict[str, str]:
    return {to: name for name, to in names.items()}


_TOPS = {"llama": _TOP, "original": _inverted(_TOP)}
_MODULES = {"llama": _IN_LAYER, "original": _inverted(_IN_LAYER)}
_SINGLES = {"llama": _SINGLE, "original": _inverted(_SINGLE)}


class UnknownName(ValueError):
    """A name that has no counterpart in the other layout."""


def other(layout: Layout) -> Layout:
    return "llama" if layout == "original" else "original"


def layout_of(names: Iterable[str]) -> Layout | None:
    """The layout whose full paths occur among `names`; None when neither or both do."""
    listed = list(names)
    original = any(re.search(r"(^|\.)transformer\.(h\.\d|wte|ln_f)", name) for name in listed)
    llama = any(re.search(r"(^|\.)model\.(layers\.\d|embed_tokens|norm)", name) for name in listed)
    if original == llama:
        return None
    return "original" if original else "llama"


def rename(name: str, to: Layout) -> str:
    """A full path (`transformer.h.0.ln_1.weight`) in the layout `to`; `UnknownName` otherwise."""
    if name == "lm_head" or name.startswith("lm_head."):
        return name
    for known, renamed in _TOPS[to].items():
        if _starts(name, known):
            return renamed + name[len(known) :]
    found = re.match(rf"{re.escape(_LAYERS[other(to)])}\.(\d+)\.", name)
    if found:
        return f"{_LAYERS[to]}.{found[1]}.{_rename_in_layer(name[found.end() :], to, name)}"
    raise UnknownName(f"{name} is no name of the {other(to)} layout")


def _rename_in_layer(rest: str, to: Layout, name: str) -> str:
    for known, renamed in _MODULES[to].items():
        if _starts(rest, known):
            return renamed + rest[len(known) :]
    raise UnknownName(f"{name} is no name of the {other(to)} layout")


def rename_fragment(name: str, to: Layout) -> str:
    """A module name of any length (`c_fc_0`, `mlp.c_fc_0`, a full path) in the layout `to`."""
    try:
        return rename(name, to)
    except UnknownName:
        pass
    layer = re.match(r"(h|layers)\.(\d+)\.", name)
    if layer:
        prefix = "layers" if to == "llama" else "h"
        return f"{prefix}.{layer[2]}.{_rename_in_layer(name[layer.end() :], to, name)}"
    for table in (_MODULES[to], _SINGLES[to]):
        if name in table:
            return table[name]
    raise UnknownName(f"{name!r} is no module name of the {other(to)} layout")


def _starts(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
