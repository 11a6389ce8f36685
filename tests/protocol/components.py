"""Response schemas of OpenAI's public OpenAPI document, transcribed with their `required` and
nullable members (https://github.com/openai/openai-openapi, components/schemas), made closed: a
member that the document does not have is an error here."""

from __future__ import annotations

from typing import Any

import jsonschema

STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}


def closed(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def listed(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


BYTES = nullable(listed({"type": "integer", "minimum": 0, "maximum": 255}))
TOKEN = {"token": STRING, "logprob": {"type": "number"}, "bytes": BYTES}
TOKEN_LOGPROB = closed({**TOKEN, "top_logprobs": listed(closed(TOKEN))})
LOGPROBS = nullable(
    closed({"content": nullable(listed(TOKEN_LOGPROB)), "refusal": nullable(listed(TOKEN_LOGPROB))})
)
FUNCTION_CALL = closed({"name": STRING, "arguments": STRING})
TOOL_CALL = closed({"id": STRING, "type": {"const": "function"}, "function": FUNCTION_CALL})
FINISH = ["stop", "length", "tool_calls", "content_filter", "function_call"]
USAGE = closed(
    {"prompt_tokens": INTEGER, "completion_tokens": INTEGER, "total_tokens": INTEGER},
    prompt_tokens_details=closed({"cached_tokens": INTEGER, "audio_tokens": INTEGER}),
    completion_tokens_details=closed(
        {
            "reasoning_tokens": INTEGER,
            "audio_tokens": INTEGER,
            "accepted_prediction_tokens": INTEGER,
            "rejected_prediction_tokens": INTEGER,
        }
    ),
)
MESSAGE = closed(
    {"role": {"const": "assistant"}, "content": TEXT_OR_NULL, "refusal": TEXT_OR_NULL},
    annotations=listed({"type": "object"}),
    tool_calls={**listed(TOOL_CALL), "minItems": 1},
    function_call=FUNCTION_CALL,
)
_HEAD = {"id": STRING, "created": INTEGER, "model": STRING}
_TIER = nullable({"enum": ["auto", "default", "flex", "scale", "priority"]})

COMPLETION = closed(
    {
        **_HEAD,
        "object": {"const": "chat.completion"},
        "choices": listed(
            closed(
                {
                    "finish_reason": {"enum": FINISH},
                    "index": INTEGER,
                    "message": MESSAGE,
                    "logprobs": LOGPROBS,
                }
            )
        ),
    },
    usage=USAGE,
    service_tier=_TIER,
    system_fingerprint=STRING,
)
CALL_CHUNK = closed(
    {"index": INTEGER},
    id=STRING,
    type={"const": "function"},
    function=closed({}, name=STRING, arguments=STRING),
)
DELTA = closed(
    {},
    role={"const": "assistant"},
    content=TEXT_OR_NULL,
    refusal=TEXT_OR_NULL,
    tool_calls=listed(CALL_CHUNK),
    function_call=closed({}, name=STRING, arguments=STRING),
)
CHUNK = closed(
    {
        **_HEAD,
        "object": {"const": "chat.completion.chunk"},
        "choices": listed(
            closed(
                {
                    "delta": DELTA,
                    "finish_reason": {"enum": [*FINISH, None]},
                    "index": INTEGER,
                },
                logprobs=LOGPROBS,
            )
        ),
    },
    usage=nullable(USAGE),
    service_tier=_TIER,
    system_fingerprint=STRING,
)
EMBEDDING = closed(
    {
        "index": INTEGER,
        "object": {"const": "embedding"},
        "embedding": {"anyOf": [listed({"type": "number"}), STRING]},
    }
)
EMBEDDINGS = closed(
    {
        "object": {"const": "list"},
        "model": STRING,
        "data": listed(EMBEDDING),
        "usage": closed({"prompt_tokens": INTEGER, "total_tokens": INTEGER}),
    }
)
# Open: licence, device and the like stand beside OpenAI's members.
MODEL = {
    **closed({"id": STRING, "created": INTEGER, "object": {"const": "model"}, "owned_by": STRING}),
    "additionalProperties": True,
}
MODELS = closed({"object": {"const": "list"}, "data": listed(MODEL)})
ERROR = closed(
    {
        "error": closed(
            {"type": STRING, "message": STRING, "param": TEXT_OR_NULL, "code": TEXT_OR_NULL}
        )
    }
)


def check(body: Any, schema: dict[str, Any]) -> None:
    """Raises `jsonschema.ValidationError` for a body that the schema does not describe."""
    jsonschema.validate(body, schema, jsonschema.Draft202012Validator)
