"""Every field of a chat completion request, with its type and range, as OpenAI checks them."""

from __future__ import annotations

from typing import Any

from tests.standin.checks import (
    Check,
    anything,
    array,
    boolean,
    decimal,
    either,
    integer,
    mapping,
    nullable,
    one_of,
    record,
    string,
    tagged,
)

_NAME = r"[a-zA-Z0-9_-]+"
_text = string()
_function_name = string(longest=64, pattern=_NAME)


def _content(*kinds: str) -> Check:
    parts: dict[str, Check] = {
        "text": record(
            {"type": anything, "text": _text, "prompt_cache_breakpoint": anything}, ["text"]
        ),
        "refusal": record({"type": anything, "refusal": _text}, ["refusal"]),
        "image_url": record(
            {
                "type": anything,
                "image_url": record(
                    {"url": _text, "detail": one_of("auto", "low", "high")}, ["url"]
                ),
                "prompt_cache_breakpoint": anything,
            },
            ["image_url"],
        ),
        "input_audio": record({"type": anything, "input_audio": anything}, ["input_audio"]),
        "file": record({"type": anything, "file": anything}, ["file"]),
    }
    chosen = {kind: parts[kind] for kind in kinds}
    return either(
        "one of a string or array of objects",
        (str, _text),
        (list, array(tagged("type", chosen), shortest=1)),
    )


_call = tagged(
    "type",
    {
        "function": record(
            {
                "id": _text,
                "type": anything,
                "function": record(
                    {"name": _function_name, "arguments": _text}, ["name", "arguments"]
                ),
            },
            ["id", "function"],
        ),
        "custom": record({"id": _text, "type": anything, "custom": anything}, ["id", "custom"]),
    },
)
_plain = record({"role": anything, "content": _content("text"), "name": _text}, ["content"])
_message = tagged(
    "role",
    {
        "system": _plain,
        "assistant": record(
            {
                "role": anything,
                "content": nullable(_content("text", "refusal")),
                "name": _text,
                "refusal": nullable(_text),
                "audio": nullable(anything),
                "annotations": anything,
                "tool_calls": array(_call, shortest=1),
                "function_call": nullable(
                    record({"name": _function_name, "arguments": _text}, ["name", "arguments"])
                ),
            }
        ),
        "user": record(
            {
                "role": anything,
                "content": _content("text", "image_url", "input_audio", "file"),
                "name": _text,
            },
            ["content"],
        ),
        "function": record(
            {"role": anything, "content": nullable(_text), "name": _function_name},
            ["content", "name"],
        ),
        "tool": record(
            {"role": anything, "content": _content("text"), "tool_call_id": _text},
            ["content", "tool_call_id"],
        ),
        "developer": _plain,
    },
)

_function = record(
    {
        "name": _function_name,
        "description": nullable(_text),
        "parameters": nullable(mapping(anything)),
        "strict": nullable(boolean),
    },
    ["name"],
)
_tool = tagged(
    "type",
    {
        "function": record({"type": anything, "function": _function}, ["function"]),
        "custom": record({"type": anything, "custom": anything}, ["custom"]),
    },
)
_named_tool = tagged(
    "type",
    {
        "function": record(
            {"type": anything, "function": record({"name": _function_name}, ["name"])},
            ["function"],
        ),
        "custom": record({"type": anything, "custom": anything}, ["custom"]),
        "allowed_tools": record({"type": anything, "allowed_tools": anything}, ["allowed_tools"]),
    },
)
_response_format = tagged(
    "type",
    {
        "text": record({"type": anything}),
        "json_object": record({"type": anything}),
        "json_schema": record(
            {
                "type": anything,
                "json_schema": record(
                    {
                        "name": string(longest=64, pattern=_NAME),
                        "description": _text,
                        "schema": mapping(anything),
                        "strict": nullable(boolean),
                    },
                    ["name"],
                ),
            },
            ["json_schema"],
        ),
    },
)
_effort = one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")

FIELDS: dict[str, Check] = {
    "model": _text,
    "messages": array(_message, shortest=1),
    "audio": nullable(anything),
    "frequency_penalty": nullable(decimal(-2, 2)),
    "function_call": either(
        "one of 'none', 'auto' or an object",
        (str, one_of("none", "auto")),
        (dict, record({"name": _function_name}, ["name"])),
    ),
    "functions": array(
        record(
            {"name": _function_name, "description": _text, "parameters": mapping(anything)},
            ["name"],
        ),
        shortest=1,
        longest=128,
    ),
    "logit_bias": nullable(mapping(decimal(-100, 100))),
    "logprobs": nullable(boolean),
    "max_completion_tokens": nullable(integer(1)),
    "max_tokens": nullable(integer(1)),
    "metadata": nullable(mapping(string(longest=512), longest=16)),
    "modalities": nullable(array(one_of("text", "audio"))),
    "moderation": nullable(anything),
    "n": nullable(integer(1, 128)),
    "parallel_tool_calls": boolean,
    "prediction": nullable(
        tagged(
            "type",
            {"content": record({"type": anything, "content": _content("text")}, ["content"])},
        )
    ),
    "presence_penalty": nullable(decimal(-2, 2)),
    "prompt_cache_key": nullable(_text),
    "prompt_cache_options": anything,
    "prompt_cache_retention": nullable(one_of("in_memory", "24h")),
    "reasoning_effort": nullable(_effort),
    "response_format": _response_format,
    "safety_identifier": nullable(_text),
    "seed": nullable(integer(-(2**63), 2**63 - 1)),
    "service_tier": nullable(one_of("auto", "default", "flex", "scale", "priority", "fast")),
    "stop": nullable(
        either(
            "one of a string or array of strings",
            (str, _text),
            (list, array(_text, shortest=1, longest=4)),
        )
    ),
    "store": nullable(boolean),
    "stream": nullable(boolean),
    "stream_options": nullable(record({"include_usage": boolean, "include_obfuscation": boolean})),
    "temperature": nullable(decimal(0, 2)),
    "tool_choice": either(
        "one of 'none', 'auto', 'required' or an object",
        (str, one_of("none", "auto", "required")),
        (dict, _named_tool),
    ),
    "tools": array(_tool, shortest=1, longest=128),
    "top_logprobs": nullable(integer(0, 20)),
    "top_p": nullable(decimal(0, 1)),
    "user": _text,
    "verbosity": nullable(one_of("low", "medium", "high")),
    "web_search_options": anything,
}

_check_fields = record(FIELDS, ["messages"])


def check_fields(body: dict[str, Any]) -> None:
    _check_fields(body, "")
