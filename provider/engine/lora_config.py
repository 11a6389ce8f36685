"""`adapter_config.json`: which modules a LoRA adapter says it changes, and by which scale.

Only plain LoRA is served. A PEFT feature that would change the result and is not implemented here
is refused by name; a key that this version does not know, with a value, is such a feature.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_UNDERSTOOD = {
    "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "peft_type", "bias", "init_lora_weights",
}  # fmt: skip
_WITHOUT_EFFECT = {
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "lora_dropout", "fan_in_fan_out", "megatron_core", "loftq_config",
    "eva_config", "lora_ga_config", "corda_config", "runtime_config", "qalora_group_size",
    "ensure_weight_tying",
}  # fmt: skip
"""Of training, of initialisation, or about features that are off."""
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations that leave the base weights alone; PiSSA, OLoRA, CorDA, LoftQ do not."""


@dataclass(frozen=True)
class LoraConfig:
    """A checked `adapter_config.json`; module names are those of the layout it was trained in."""

    stated: Mapping[str, Any]

    def problems(self) -> list[str]:
        """Everything about it that cannot be served."""
        stated = self.stated
        found = []
        if stated.get("peft_type") != "LORA":
            found.append(f"peft_type is {stated.get('peft_type')!r}; expected 'LORA'")
        if stated.get("bias", "none") != "none":
            found.append(f"bias is {stated['bias']!r}; expected 'none'")
        if stated.get("init_lora_weights", True) not in _PLAIN_STARTS:
            found.append(
                f"init_lora_weights is {stated['init_lora_weights']!r}, which changes the base "
                "weights too; convert it to plain LoRA when saving"
            )
        if not isinstance(stated.get("target_modules"), (list, str)):
            found.append("target_modules is missing; expected names or a pattern")
        if not _positive(stated.get("r")) or not _positive(stated.get("lora_alpha")):
            found.append("r and lora_alpha must be positive numbers")
        known = _UNDERSTOOD | _WITHOUT_EFFECT
        extra = sorted(key for key, value in stated.items() if value and key not in known)
        found += [
            f"{key} is {_short(stated[key])}; this PEFT feature is not served" for key in extra
        ]
        return found

    def rank(self, module: str) -> int:
        return int(self._patterned("rank_pattern", module, self.stated["r"]))

    def scaling(self, module: str) -> float:
        """What `B @ A` is multiplied by: alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
        alpha = float(self._patterned("alpha_pattern", module, self.stated["lora_alpha"]))
        rank = self.rank(module)
        return alpha / (math.sqrt(rank) if self.stated.get("use_rslora") else rank)

    def _patterned(self, key: str, module: str, default: Any) -> Any:
        for pattern, value in (self.stated.get(key) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return default

    def targets(self, modules: Iterable[str]) -> set[str]:
        """Those of the model's linear `modules` that the config selects, by PEFT's rules."""
        return {name for name in modules if self._selects(name) and self._in_layers(name)}

    def _selects(self, name: str) -> bool:
        targets = self.stated["target_modules"]
        if _names(self.stated.get("exclude_modules") or [], name):
            return False
        if isinstance(targets, str) and targets.lower() == "all-linear":
            return not name.endswith("lm_head")
        return _names(targets, name)

    def _in_layers(self, name: str) -> bool:
        wanted = self.stated.get("layers_to_transform")
        if wanted is None:
            return True
        patterns = self.stated.get("layers_pattern") or r"[^.]*"
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            found = re.match(rf".*\.{pattern}\.(\d+)\.", name)
            if found:
                return int(found[1]) in ([wanted] if isinstance(wanted, int) else wanted)
        return False


def _names(targets: list[str] | str, name: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
