"""What other servers send, in OpenAI's shape. Pure.

Fields that OpenAI's component schemas do not have are left out, required ones that are missing are
added with the value that says "nothing", and error bodies of any make become OpenAI's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "invalid_request_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}

_CHOICE = ("index", "finish_reason", "logprobs")
_MESSAGE = ("role", "content", "refusal", "tool_calls", "function_call", "annotations", "audio")
_DELTA = ("role", "content", "refusal", "tool_calls", "function_call")
_BODY = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_USAGE = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
)
_NO_PREDICTION = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
_GRAMMAR = "Grammar error"
_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}


def normal_completion(body: Mapping[str, Any], predicted: bool = False) -> dict[str, Any]:
    """A `chat.completion`; `predicted` where the request sent a prediction."""
    choices = [
        {**_kept(choice, _CHOICE, logprobs=None), "message": _message(choice["message"])}
        for choice in body["choices"]
    ]
    for choice in choices:
        choice["finish_reason"] = _reason(choice.get("finish_reason")) or "stop"
        choice["logprobs"] = _logprobs(choice["logprobs"])
    result = {**_kept(body, _BODY), "object": "chat.completion", "choices": choices}
    if body.get("usage") is not None:
        result["usage"] = _usage(body["usage"], predicted)
    return result


def normal_chunk(body: Mapping[str, Any], predicted: bool = False) -> dict[str, Any]:
    """A `chat.completion.chunk`; `predicted` where the request sent a prediction."""
    choices = [
        {
            **_kept(choice, _CHOICE, logprobs=None),
            "finish_reason": _reason(choice.get("finish_reason")),
            "logprobs": _logprobs(choice.get("logprobs")),
            "delta": _delta(choice.get("delta") or {}),
        }
        for choice in body.get("choices") or ()
    ]
    result = {**_kept(body, _BODY), "object": "chat.completion.chunk", "choices": choices}
    if "usage" in body:
        result["usage"] = None if body["usage"] is None else _usage(body["usage"], predicted)
    return result


def normal_models(body: Mapping[str, Any]) -> dict[str, Any]:
    """A model list; facts beside OpenAI's own four fields are kept, they are additions."""
    data = [
        {"created": 0, "owned_by": "local", **model, "object": "model"} for model in body["data"]
    ]
    return {"object": "list", "data": data}


def normal_error(body: Any, status: int) -> dict[str, Any]:
    """An error body from `{"error": {...}}`, `{"error": "text"}`, `{"message": ...}` (older vLLM),
    `{"detail": ...}` (FastAPI), or anything else."""
    said = body.get("error", body) if isinstance(body, Mapping) else body
    facts = said if isinstance(said, Mapping) else {}
    message = facts.get("message") or facts.get("detail") or (said if isinstance(said, str) else "")
    text = str(message or f"The server failed with status {status}.")
    if text.startswith(_GRAMMAR):
        text = f"Invalid schema for response_format: {text}"
    code = facts.get("code")
    return {
        "error": {
            "message": text,
            "type": _TYPES.get(status, "server_error"),
            "param": _param(facts, text),
            "code": code if isinstance(code, str) and not code.isdigit() else _code(text, status),
        }
    }


def _param(facts: Mapping[str, Any], text: str) -> str | None:
    """The request's parameter; vLLM names its own internal one, or none for a schema."""
    if "maximum context length" in text:
        return "messages"
    if _GRAMMAR in text:
        return "response_format"
    return facts["param"] if isinstance(facts.get("param"), str) else None


def _code(text: str, status: int) -> str | None:
    if status == 400 and "maximum context length" in text:
        return "context_length_exceeded"
    return _CODES.get(status)


def _kept(source: Mapping[str, Any], names: tuple[str, ...], **missing: Any) -> dict[str, Any]:
    return {**missing, **{name: source[name] for name in names if name in source}}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = _kept(message, _MESSAGE, role="assistant", content=None, refusal=None)
    return {name: value for name, value in kept.items() if not _empty(name, value)}


def _delta(delta: Mapping[str, Any]) -> dict[str, Any]:
    kept = _kept(delta, _DELTA)
    return {name: value for name, value in kept.items() if not _empty(name, value)}


def _empty(name: str, value: Any) -> bool:
    """Lists and objects that say nothing are absent in OpenAI's answers, not null or empty."""
    return name in {"tool_calls", "function_call", "audio", "annotations"} and not value


def _usage(usage: Mapping[str, Any], predicted: bool) -> dict[str, Any]:
    """OpenAI's counts; a prediction, which only OpenAI uses, is accounted for as unused."""
    kept = _kept(usage, _USAGE)
    counts = {name: value for name, value in kept.items() if value is not None}
    if predicted:
        details = counts.get("completion_tokens_details") or {}
        counts["completion_tokens_details"] = {**_NO_PREDICTION, **details}
    return counts


def _logprobs(logprobs: Any) -> Any:
    """A refusal has logprobs of its own in OpenAI's shape, null where nothing was refused; a token
    without bytes (llama.cpp) has those of its text."""
    if not isinstance(logprobs, Mapping):
        return None
    content = logprobs.get("content")
    tokens = content and [
        {
            **_bytes(token),
            "top_logprobs": [_bytes(other) for other in token.get("top_logprobs") or ()],
        }
        for token in content
    ]
    return {"refusal": None, **logprobs, "content": tokens}


def _bytes(token: Mapping[str, Any]) -> dict[str, Any]:
    if token.get("bytes") is not None:
        return dict(token)
    return {**token, "bytes": list(str(token["token"]).encode())}


def _reason(reason: Any) -> str | None:
    if reason is None:
        return None
    return reason if reason in _REASONS else "stop"
