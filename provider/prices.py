"""What a hosted answer cost, from LiteLLM's price map as it is installed; offline, never imported.

Importing LiteLLM takes seconds; its price map is a JSON file in its package. A model that is not in
it has an unknown price, which is None and never zero.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_MAP = "model_prices_and_context_window_backup.json"


@cache
def price_map() -> dict[str, Any]:
    """LiteLLM's map: model -> facts; empty where LiteLLM is not installed."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).with_name(_MAP)
    if not path.exists():
        return {}
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def cost(model: str, usage: dict[str, Any] | None) -> float | None:
    """US dollars of one answer; None where the price or the usage is unknown."""
    facts = price_map().get(model) or {}
    per_input = facts.get("input_cost_per_token")
    if usage is None or per_input is None:
        return None
    per_output = facts.get("output_cost_per_token") or 0.0
    per_cached = facts.get("cache_read_input_token_cost", per_input)
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    prompt = usage.get("prompt_tokens") or 0
    completion = usage.get("completion_tokens") or 0
    return float((prompt - cached) * per_input + cached * per_cached + completion * per_output)
