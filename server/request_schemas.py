"""JSON Schemas of the request bodies, as `/openapi.json` shows them.

They describe shapes and ranges. Which of these a provider honours is in docs/compatibility.md;
what it cannot honour it refuses with a 400 that names the parameter.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _optional(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _number(low: float, high: float) -> Schema:
    return _optional({"type": "number", "minimum": low, "maximum": high})


def _count(low: int, high: int | None = None) -> Schema:
    bounds = {"minimum": low} if high is None else {"minimum": low, "maximum": high}
    return _optional({"type": "integer", **bounds})


_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_FLAG: Schema = _optional({"type": "boolean"})
_OBJECT: Schema = {"type": "object"}

_PART: Schema = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": _TEXT},
}
_CONTENT: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _PART, "minItems": 1}]}


def _message(role: list[str], required: list[str], **properties: Schema) -> Schema:
    shape = {"role": {"enum": role}, "content": _CONTENT, "name": _TEXT, **properties}
    return {"type": "object", "required": ["role", *required], "properties": shape}


_CALL: Schema = {
    "type": "object",
    "required": ["id", "type", "function"],
    "properties": {
        "id": _TEXT,
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name", "arguments"],
            "properties": {"name": _TEXT, "arguments": _TEXT},
        },
    },
}

_MESSAGE: Schema = {
    "anyOf": [
        _message(["system", "developer", "user"], ["content"]),
        _message(
            ["assistant"],
            [],
            content=_optional(_CONTENT),
            tool_calls={"type": "array", "items": _CALL, "minItems": 1},
        ),
        _message(["tool"], ["content", "tool_call_id"], tool_call_id=_TEXT),
    ]
}

_FUNCTION: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
        "description": _TEXT,
        "parameters": _OBJECT,
        "strict": _FLAG,
    },
}

_CHOSEN_TOOL: Schema = {
    "type": "object",
    "required": ["type", "function"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "function"},
        "function": {"type": "object", "required": ["name"], "properties": {"name": _TEXT}},
    },
}

_RESPONSE_FORMAT: Schema = {
    "anyOf": [
        {
            "type": "object",
            "required": ["type"],
            "additionalProperties": False,
            "properties": {"type": {"enum": ["text", "json_object"]}},
        },
        {
            "type": "object",
            "required": ["type", "json_schema"],
            "properties": {
                "type": {"const": "json_schema"},
                "json_schema": {
                    "type": "object",
                    "required": ["name", "schema"],
                    "properties": {
                        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
                        "description": _TEXT,
                        "schema": _OBJECT,
                        "strict": _FLAG,
                    },
                },
            },
        },
    ]
}

_EXTENSIONS: dict[str, Schema] = {
    "top_k": _count(-1),
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0.01, 10),
    "min_tokens": _count(0),
    "ignore_eos": _FLAG,
    "stop_token_ids": _optional(
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 256}
    ),
    "include_stop_str_in_output": _FLAG,
    "structured_outputs": _optional(
        {
            "type": "object",
            "properties": {
                "json": {"anyOf": [_OBJECT, _NAME]},
                "regex": _NAME,
                "choice": {"type": "array", "items": _NAME, "minItems": 1},
                "grammar": _NAME,
                "json_object": {"type": "boolean"},
            },
        }
    ),
}
"""Parameters of other servers that are honoured; further spellings are in docs/compatibility.md."""

_STOP: Schema = _optional(
    {"anyOf": [_NAME, {"type": "array", "items": _NAME, "minItems": 1, "maxItems": 4}]}
)
_BIAS: Schema = _optional(
    {
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    }
)
_SEED: Schema = _optional({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1})

_TOKENS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}

_GENERATION: dict[str, Schema] = {
    "model": _NAME,
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "n": _count(1, 128),
    "stop": _STOP,
    "max_tokens": _count(1),
    "seed": _SEED,
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "logit_bias": _BIAS,
    "stream": _FLAG,
    "stream_options": _optional(
        {"type": "object", "properties": {"include_usage": {"type": "boolean"}}}
    ),
    "user": _TEXT,
    **_EXTENSIONS,
}

COMPLETION_REQUEST: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["model", "prompt"],
    "properties": {
        **_GENERATION,
        "prompt": {
            "anyOf": [
                _NAME,
                {"type": "array", "items": _NAME, "minItems": 1},
                _TOKENS,
                {"type": "array", "items": _TOKENS, "minItems": 1},
            ]
        },
        "echo": _FLAG,
        "logprobs": _count(0, 20),
    },
}

CHAT_REQUEST: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["model", "messages"],
    "properties": {
        **_GENERATION,
        "messages": {"type": "array", "items": _MESSAGE, "minItems": 1},
        "max_completion_tokens": _count(1),
        "logprobs": _FLAG,
        "top_logprobs": _count(0, 20),
        "response_format": _RESPONSE_FORMAT,
        "tools": {
            "type": "array",
            "minItems": 1,
            "maxItems": 128,
            "items": {
                "type": "object",
                "required": ["type", "function"],
                "properties": {"type": {"const": "function"}, "function": _FUNCTION},
            },
        },
        "tool_choice": {"anyOf": [{"enum": ["none", "auto", "required"]}, _CHOSEN_TOOL]},
        "parallel_tool_calls": {"type": "boolean"},
        "metadata": _optional(_OBJECT),
    },
}

EMBEDDING_REQUEST: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["model", "input"],
    "properties": {
        "model": _NAME,
        "input": {
            "anyOf": [
                _NAME,
                {
                    "type": "array",
                    "items": _NAME,
                    "minItems": 1,
                    "maxItems": 2048,
                },
            ]
        },
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": {"type": "integer", "minimum": 1},
        "user": _TEXT,
    },
}

ADAPTER_LOAD: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["lora_name", "lora_path"],
    "properties": {
        "lora_name": _NAME,
        "lora_path": _NAME,
    },
}

ADAPTER_UNLOAD: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["lora_name"],
    "properties": {"lora_name": _NAME},
}
