"""Requests and answers as the attributes of OpenTelemetry's GenAI semantic conventions. Pure.

Names and meanings: https://github.com/open-telemetry/semantic-conventions-genai (client inference,
client embeddings, OpenAI). A request's values are the client's: one of another type than the
convention's, or absurdly long, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Attributes = dict[str, Any]

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""Paths that are GenAI operations, and the operation's name."""

LONGEST = 256
"""Characters of a string that a client chose (a model's name, a stop sequence)."""

_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
_COUNTS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "dimensions": "gen_ai.embeddings.dimension.count",
}
_WORDS = {
    "reasoning_effort": "gen_ai.request.reasoning.level",
    "service_tier": "openai.request.service_tier",
}
_ANSWERED = {
    "id": "gen_ai.response.id",
    "model": "gen_ai.response.model",
    "service_tier": "openai.response.service_tier",
    "system_fingerprint": "openai.response.system_fingerprint",
}
_USED = (
    ("prompt_tokens", None, "gen_ai.usage.input_tokens"),
    ("completion_tokens", None, "gen_ai.usage.output_tokens"),
    ("prompt_tokens_details", "cached_tokens", "gen_ai.usage.cache_read.input_tokens"),
    ("completion_tokens_details", "reasoning_tokens", "gen_ai.usage.reasoning.output_tokens"),
)


def of_request(body: Mapping[str, Any]) -> Attributes:
    """What was asked for, without what was said."""
    found: Attributes = {}
    for names, fits in ((_NUMBERS, _is_number), (_COUNTS, _is_count), (_WORDS, _is_word)):
        found.update({to: body[name] for name, to in names.items() if fits(body.get(name))})
    found.update({to: float(found[to]) for to in _NUMBERS.values() if to in found})
    if (model := model_of(body)) is not None:
        found["gen_ai.request.model"] = model
    if body.get("stream") is True:
        found["gen_ai.request.stream"] = True
    if _is_count(body.get("n")) and body["n"] != 1:
        found["gen_ai.request.choice.count"] = body["n"]
    if stops := _stops(body.get("stop")):
        found["gen_ai.request.stop_sequences"] = stops
    if _is_word(body.get("encoding_format")):
        found["gen_ai.request.encoding_formats"] = [body["encoding_format"]]
    text = body.get("text")
    form = text.get("format") if isinstance(text, Mapping) else body.get("response_format")
    if (kind := _output_type(form)) is not None:
        found["gen_ai.output.type"] = kind
    return found


def model_of(body: Mapping[str, Any]) -> str | None:
    """The model's name as it was asked for."""
    model = body.get("model")
    return model[:LONGEST] if isinstance(model, str) and model else None


def of_answer(head: Mapping[str, Any]) -> Attributes:
    """What an answer, or a chunk of one, says of itself and of the tokens it took."""
    found = {to: head[name] for name, to in _ANSWERED.items() if _is_word(head.get(name))}
    said = head.get("usage")
    usage: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    for field, inner, to in _USED:
        value = usage.get(field)
        if inner is not None:
            value = value.get(inner) if isinstance(value, Mapping) else None
        if _is_count(value):
            found[to] = value
    return found


def finish_reasons(choices: Any) -> dict[int, str]:
    """Why each choice ended, by its index; of a chunk, those that ended in it."""
    found: dict[int, str] = {}
    for position, choice in enumerate(choices if isinstance(choices, list) else ()):
        reason = choice.get("finish_reason") if isinstance(choice, Mapping) else None
        if isinstance(reason, str):
            found[choice.get("index", position)] = reason
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST


def _stops(value: Any) -> list[str]:
    stops = value if isinstance(value, list) else [value]
    return [stop[:LONGEST] for stop in stops[:16] if isinstance(stop, str)]


def _output_type(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    return {"text": "text", "json_object": "json", "json_schema": "json"}.get(str(kind))
