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


def obj(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: Schema, **limits: Any) -> Schema:
    return {"type": "array", "items": items, **limits}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


def const(value: str | bool) -> Schema:
    return {"const": value}


_REASONS = {"enum": ["stop", "length", "tool_calls", "content_filter", "function_call"]}
_TOKEN = {
    "token": STRING,
    "logprob": {"type": "number", "maximum": 0},
    "bytes": or_null(array({"type": "integer", "minimum": 0, "maximum": 255})),
}
_TOKEN_LOGPROB = obj({**_TOKEN, "top_logprobs": array(obj(_TOKEN), maxItems=20)})
_LOGPROBS = or_null(
    obj({"content": or_null(array(_TOKEN_LOGPROB)), "refusal": or_null(array(_TOKEN_LOGPROB))})
)
_CALLED = obj({"name": STRING, "arguments": STRING})
_TOOL_CALL = obj(
    {"id": {"type": "string", "minLength": 1}, "type": const("function"), "function": _CALLED}
)
_MESSAGE = obj(
    {"role": const("assistant"), "content": or_null(STRING), "refusal": or_null(STRING)},
    {
        "annotations": array({"type": "object"}),
        "audio": NULL,
        "function_call": _CALLED,
        "tool_calls": array(_TOOL_CALL, minItems=1),
    },
)
_USAGE = obj(
    {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    {
        "prompt_tokens_details": obj({}, {"cached_tokens": COUNT, "audio_tokens": COUNT}),
        "completion_tokens_details": obj(
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
_TIER = or_null({"enum": ["auto", "default", "flex", "scale", "priority", "fast"]})
_EXTRA = {"service_tier": _TIER, "system_fingerprint": STRING}

_CHOICE = obj(
    {"index": COUNT, "message": _MESSAGE, "finish_reason": _REASONS, "logprobs": _LOGPROBS}
)
_DELTA = obj(
    {},
    {
        "role": {"enum": ["developer", "system", "user", "assistant", "tool"]},
        "content": or_null(STRING),
        "refusal": or_null(STRING),
        "function_call": obj({}, {"name": STRING, "arguments": STRING}),
        "tool_calls": array(
            obj(
                {"index": COUNT},
                {
                    "id": STRING,
                    "type": const("function"),
                    "function": obj({}, {"name": STRING, "arguments": STRING}),
                },
            ),
            minItems=1,
        ),
    },
)
_CHUNK_CHOICE = obj(
    {"index": COUNT, "delta": _DELTA, "finish_reason": or_null(_REASONS)}, {"logprobs": _LOGPROBS}
)
_CARD: Schema = {
    **obj({"id": STRING, "object": const("model"), "created": INTEGER, "owned_by": STRING}),
    "additionalProperties": True,
}
_VECTOR = {"anyOf": [array({"type": "number"}, minItems=1), {"type": "string", "minLength": 4}]}

COMPONENTS: dict[str, Schema] = {
    "completion": obj(
        {**_HEAD, "object": const("chat.completion"), "choices": array(_CHOICE, minItems=1)},
        {**_EXTRA, "usage": _USAGE},
    ),
    "chunk": obj(
        {**_HEAD, "object": const("chat.completion.chunk"), "choices": array(_CHUNK_CHOICE)},
        {**_EXTRA, "usage": or_null(_USAGE), "obfuscation": STRING},
    ),
    "embeddings": obj(
        {
            "object": const("list"),
            "model": {"type": "string", "minLength": 1},
            "data": array(
                obj({"object": const("embedding"), "index": COUNT, "embedding": _VECTOR}),
                minItems=1,
            ),
            "usage": obj({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        }
    ),
    "models": obj({"object": const("list"), "data": array(_CARD)}),
    "model": _CARD,
    "error": obj(
        {
            "error": obj(
                {
                    "message": {"type": "string", "minLength": 1},
                    "type": STRING,
                    "param": or_null(STRING),
                    "code": or_null(STRING),
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
