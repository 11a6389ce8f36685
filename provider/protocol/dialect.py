"""How a chat request is spelt for a server that speaks OpenAI's API with an accent. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from provider.protocol import values
from provider.protocol.chat import ChatRequest
from provider.protocol.formats import JSON, STRUCTURED

_DEFAULTS = {"temperature": 1.0, "top_p": 1.0}
"""OpenAI's. vLLM takes others from the model's `generation_config.json`, llama.cpp has its own."""
_LLAMA_CPP_PYTHON = "me"
_VLLM = "vllm"


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


def extended(body: Mapping[str, Any], asked: ChatRequest, maker: str) -> dict[str, Any]:
    """The body with what it says beyond OpenAI's API as `maker` understands it.

    JSON under a schema is asked for as OpenAI has it. Raises `InvalidRequest` for what would be
    ignored: others than vLLM have other names for these parameters, or none.
    """
    extras = asked.extras
    kept = {name: value for name, value in body.items() if name not in STRUCTURED}
    if extras.binds and asked.format.type in JSON:
        schema = asked.format.schema if asked.format.schema is not None else {"type": "object"}
        form = {"name": "answer", "strict": True, "schema": schema}
        kept["response_format"] = {"type": "json_schema", "json_schema": form}
    rest = [name for name in extras.used if name in kept or asked.format.type not in JSON]
    if rest and maker != _VLLM:
        raise values.unsupported(
            rest[0], "The server behind LOCAL_LLM_BASE_URL is no vLLM, whose parameter it is."
        )
    if extras.binds and asked.format.type not in JSON:
        kind, source = asked.format.type, asked.format.source
        value = json.loads(source) if kind == "choice" else source
        kept |= {"structured_outputs": {kind: value}, f"guided_{kind}": value}
    return kept
