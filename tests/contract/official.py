"""What OpenAI's public OpenAPI document says of its answers, as JSON Schemas.

Facts (fields, which are required, which may be null) of the components
CreateChatCompletionResponse, CreateChatCompletionStreamResponse, CreateEmbeddingResponse, Model,
ListModelsResponse and ErrorResponse, https://github.com/openai/openai-openapi, together with the
fields that the official SDK's types added since. A field that is not named here is refused, except
on model cards, which every vendor extends.
"""

from __future__ import annotations

from typing import Any

import jsonschema

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NULL: Schema = {"type": "null"}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _array(items: Schema, **limits: Any) -> Schema:
    return {"type": "array", "items": items, **limits}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


def _const(value: str) -> Schema:
    return {"const": value}


_REASONS = {"enum": ["stop", "length", "tool_calls", "content_filter", "function_call"]}
_TOKEN = {
    "token": STRING,
    "logprob": {"type": "number", "maximum": 0},
    "bytes": _or_null(_array({"type": "integer", "minimum": 0, "maximum": 255})),
}
_TOKEN_LOGPROB = _object({**_TOKEN, "top_logprobs": _array(_object(_TOKEN), maxItems=20)})
_LOGPROBS = _or_null(
    _object(
        {"content": _or_null(_array(_TOKEN_LOGPROB)), "refusal": _or_null(_array(_TOKEN_LOGPROB))}
    )
)
_CALLED = _object({"name": STRING, "arguments": STRING})
_TOOL_CALL = _object(
    {"id": {"type": "string", "minLength": 1}, "type": _const("function"), "function": _CALLED}
)
_MESSAGE = _object(
    {"role": _const("assistant"), "content": _or_null(STRING), "refusal": _or_null(STRING)},
    {
        "annotations": _array({"type": "object"}),
        "audio": NULL,
        "function_call": _CALLED,
        "tool_calls": _array(_TOOL_CALL, minItems=1),
    },
)
_USAGE = _object(
    {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    {
        "prompt_tokens_details": _object({}, {"cached_tokens": COUNT, "audio_tokens": COUNT}),
        "completion_tokens_details": _object(
            {},
            {
                "reasoning_tokens": COUNT,
                "audio_tokens": COUNT,
                "accepted_prediction_tokens": COUNT,
                "rejected_prediction_tokens": COUNT,
            },
        ),
    },
)
_HEAD = {
    "id": {"type": "string", "minLength": 1},
    "created": {"type": "integer", "minimum": 1},
    "model": {"type": "string", "minLength": 1},
}
_TIER = _or_null({"enum": ["auto", "default", "flex", "scale", "priority", "fast"]})
_EXTRA = {"service_tier": _TIER, "system_fingerprint": STRING}

_CHOICE = _object(
    {"index": COUNT, "message": _MESSAGE, "finish_reason": _REASONS, "logprobs": _LOGPROBS}
)
_DELTA = _object(
    {},
    {
        "role": {"enum": ["developer", "system", "user", "assistant", "tool"]},
        "content": _or_null(STRING),
        "refusal": _or_null(STRING),
        "function_call": _object({}, {"name": STRING, "arguments": STRING}),
        "tool_calls": _array(
            _object(
                {"index": COUNT},
                {
                    "id": STRING,
                    "type": _const("function"),
                    "function": _object({}, {"name": STRING, "arguments": STRING}),
                },
            ),
            minItems=1,
        ),
    },
)
_CHUNK_CHOICE = _object(
    {"index": COUNT, "delta": _DELTA, "finish_reason": _or_null(_REASONS)}, {"logprobs": _LOGPROBS}
)
_CARD: Schema = {
    **_object({"id": STRING, "object": _const("model"), "created": INTEGER, "owned_by": STRING}),
    "additionalProperties": True,
}
_VECTOR = {"anyOf": [_array({"type": "number"}, minItems=1), {"type": "string", "minLength": 4}]}

COMPONENTS: dict[str, Schema] = {
    "completion": _object(
        {**_HEAD, "object": _const("chat.completion"), "choices": _array(_CHOICE, minItems=1)},
        {**_EXTRA, "usage": _USAGE},
    ),
    "chunk": _object(
        {**_HEAD, "object": _const("chat.completion.chunk"), "choices": _array(_CHUNK_CHOICE)},
        {**_EXTRA, "usage": _or_null(_USAGE), "obfuscation": STRING},
    ),
    "embeddings": _object(
        {
            "object": _const("list"),
            "model": {"type": "string", "minLength": 1},
            "data": _array(
                _object({"object": _const("embedding"), "index": COUNT, "embedding": _VECTOR}),
                minItems=1,
            ),
            "usage": _object({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        }
    ),
    "models": _object({"object": _const("list"), "data": _array(_CARD)}),
    "model": _CARD,
    "error": _object(
        {
            "error": _object(
                {
                    "message": {"type": "string", "minLength": 1},
                    "type": STRING,
                    "param": _or_null(STRING),
                    "code": _or_null(STRING),
                }
            )
        }
    ),
}


def check(component: str, value: Any) -> None:
    """Raise AssertionError, naming the place, for a value that is not of the component."""
    validator = jsonschema.Draft202012Validator(COMPONENTS[component])
    problems = [
        f"{component} at {error.json_path}: {error.message[:300]}"
        for error in validator.iter_errors(value)
    ]
    assert not problems, "\n".join(problems)
