"""LiteLLM's answers in OpenAI's shapes. Pure."""

from __future__ import annotations

from typing import Any

from provider.protocol.normal import normal_chunk, normal_completion

_DETAILS = {
    "prompt_tokens_details": ("cached_tokens", "audio_tokens"),
    "completion_tokens_details": (
        "reasoning_tokens",
        "audio_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
    ),
}


def litellm_completion(body: dict[str, Any]) -> dict[str, Any]:
    """A `chat.completion`; LiteLLM keeps a refusal among `provider_specific_fields`."""
    for choice in body["choices"]:
        message = choice["message"]
        extra = message.get("provider_specific_fields") or {}
        message.setdefault("refusal", extra.get("refusal"))
    result = normal_completion(body)
    if "usage" in result:
        result["usage"] = _usage(result["usage"])
    return result


def litellm_chunk(body: dict[str, Any], usage: bool) -> dict[str, Any]:
    """A `chat.completion.chunk`. With `usage`, as OpenAI: null until a last chunk without choices;
    LiteLLM gives that one an empty choice."""
    if body.get("usage") is None:
        body.pop("usage", None)
    result = normal_chunk(body)
    for choice in result["choices"]:
        choice["delta"] = {k: v for k, v in choice["delta"].items() if v is not None}
        for call in choice["delta"].get("tool_calls", ()):
            _without_nulls(call)
    if "usage" in result:
        result["usage"] = _usage(result["usage"])
        result["choices"] = [c for c in result["choices"] if c["delta"] or c["finish_reason"]]
    elif usage:
        result["usage"] = None
    return result


def litellm_embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """A list of embeddings with the two counts that OpenAI's usage has."""
    usage = body.get("usage") or {}
    counts = {name: usage.get(name) or 0 for name in ("prompt_tokens", "total_tokens")}
    return {"object": "list", "data": body["data"], "model": body["model"], "usage": counts}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """The counts alone: LiteLLM adds costs and kinds of tokens that OpenAI's shape has not."""
    result = dict(usage)
    for part, names in _DETAILS.items():
        details = result.get(part)
        if details is not None:
            result[part] = {name: details.get(name) or 0 for name in names}
    return result


def _without_nulls(call: dict[str, Any]) -> None:
    for holder in (call, call.get("function") or {}):
        for name in [name for name, value in holder.items() if value is None]:
            del holder[name]
