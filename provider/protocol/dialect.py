"""How a chat request is spelt for a server that speaks OpenAI's API with an accent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEFAULTS = {"temperature": 1.0, "top_p": 1.0}
"""OpenAI's. vLLM takes others from the model's `generation_config.json`, llama.cpp has its own."""
_LLAMA_CPP_PYTHON = "me"


def spelt(body: Mapping[str, Any], maker: str) -> dict[str, Any]:
    """The same request as `maker` (`owned_by` in its list of models) understands it.

    Null means "not given", which not every server knows; defaults are said; `max_tokens` is the
    name that all know; llama-cpp-python takes a schema beside `json_object` only.
    """
    given = {name: value for name, value in body.items() if value is not None}
    if (limit := given.pop("max_completion_tokens", None)) is not None:
        given["max_tokens"] = limit
    form = given.get("response_format") or {}
    if maker == _LLAMA_CPP_PYTHON and form.get("type") == "json_schema":
        schema = form["json_schema"].get("schema") or {"type": "object"}
        given["response_format"] = {"type": "json_object", "schema": schema}
    return {**_DEFAULTS, **given}
