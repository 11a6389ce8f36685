"""What OpenAI refuses in a chat request whose single fields are all well-formed."""

from __future__ import annotations

import re
from typing import Any

from tests.standin import tokens
from tests.standin.chat_fields import check_fields
from tests.standin.errors import Refusal
from tests.standin.models import Model
from tests.standin.strict_schema import check_strict

_DEFAULTS = {
    "temperature": 1,
    "top_p": 1,
    "n": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}


def check(body: dict[str, Any], model: Model) -> None:
    """Raise the refusal that OpenAI would answer with, if any."""
    check_fields(body)
    for rule in (
        _reasoning,
        _lengths,
        _conversation,
        _together,
        _tools,
        _response_format,
        _media,
        _context,
    ):
        rule(body, model)


def _reasoning(body: dict[str, Any], model: Model) -> None:
    if not model.reasoning:
        if body.get("reasoning_effort") is not None:
            raise Refusal(
                "Unrecognized request argument supplied: reasoning_effort",
                param=None,
            )
        return
    if body.get("max_tokens") is not None:
        raise Refusal(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        )
    for name, default in _DEFAULTS.items():
        if body.get(name) not in (None, default):
            raise Refusal(
                f"Unsupported value: '{name}' does not support {body[name]} with this model. "
                f"Only the default ({default}) value is supported.",
                param=name,
                code="unsupported_value",
            )
    for name in ("logprobs", "top_logprobs", "logit_bias", "stop"):
        if body.get(name):
            raise Refusal(
                f"Unsupported parameter: '{name}' is not supported with this model.",
                param=name,
                code="unsupported_parameter",
            )


def _lengths(body: dict[str, Any], model: Model) -> None:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise Refusal(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is not None and value > model.longest_answer:
            raise Refusal(
                f"{name} is too large: {value}. This model supports at most "
                f"{model.longest_answer} completion tokens, whereas you provided {value}.",
                param=name,
                code="invalid_value",
            )


def _conversation(body: dict[str, Any], model: Model) -> None:
    """Every call is answered by tool messages, and every tool message answers a call."""
    open_calls: list[str] = []
    for index, message in enumerate(body["messages"]):
        at = f"messages.[{index}].role"
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                raise Refusal(
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'.",
                    param=at,
                )
            open_calls.remove(message["tool_call_id"])
            continue
        _all_answered(open_calls, at)
        open_calls = [call["id"] for call in message.get("tool_calls") or ()]
        _says_something(message, index)
    _all_answered(open_calls, f"messages.[{len(body['messages'])}].role")


def _all_answered(open_calls: list[str], at: str) -> None:
    if open_calls:
        raise Refusal(
            "An assistant message with 'tool_calls' must be followed by tool messages "
            "responding to each 'tool_call_id'. The following tool_call_ids did not have "
            f"response messages: {', '.join(open_calls)}",
            param=at,
        )


def _says_something(message: dict[str, Any], index: int) -> None:
    if message["role"] != "assistant" or message.get("content") is not None:
        return
    if not (message.get("tool_calls") or message.get("function_call") or message.get("refusal")):
        raise Refusal(
            "Invalid value for 'content': expected a string, got null.",
            param=f"messages.[{index}].content",
        )


def _together(body: dict[str, Any], model: Model) -> None:
    """Parameters that need another one beside them."""
    needs = {
        "stream_options": ("stream", "enabled"),
        "top_logprobs": ("logprobs", "enabled"),
        "tool_choice": ("tools", "specified"),
        "parallel_tool_calls": ("tools", "specified"),
        "function_call": ("functions", "specified"),
    }
    for name, (other, how) in needs.items():
        if body.get(name) is None or body.get(other):
            continue
        verb = "are" if other.endswith("s") and other != "logprobs" else "is"
        raise Refusal(
            f"Invalid value for '{name}': '{name}' is only allowed when '{other}' {verb} {how}.",
            param=name,
        )
    if body.get("functions") and body.get("tools"):
        raise Refusal("'functions' and 'tools' cannot be used together.", param="functions")


def _tools(body: dict[str, Any], model: Model) -> None:
    names = []
    for index, tool in enumerate(body.get("tools") or ()):
        function = tool.get("function")
        if function is None:
            continue
        names.append(function["name"])
        at = f"tools[{index}].function.parameters"
        check_strict(
            function.get("parameters"),
            f"function '{function['name']}'",
            strict=bool(function.get("strict")),
            param=at,
            code="invalid_function_parameters",
        )
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] == "function":
        wanted = choice["function"]["name"]
        if wanted not in names:
            raise Refusal(
                f"Tool choice '{wanted}' not found in 'tools' parameter.", param="tool_choice"
            )
    _named_function(body)


def _named_function(body: dict[str, Any]) -> None:
    choice = body.get("function_call")
    if isinstance(choice, dict):
        names = [function["name"] for function in body["functions"]]
        if choice["name"] not in names:
            raise Refusal(
                f"Invalid value for 'function_call': no function named '{choice['name']}' was "
                "specified in the 'functions' parameter.",
                param="function_call",
            )


def _response_format(body: dict[str, Any], model: Model) -> None:
    wanted = body.get("response_format") or {"type": "text"}
    if wanted["type"] == "json_object":
        said = " ".join(tokens.message_text(message) for message in body["messages"])
        if not re.search("json", said, re.IGNORECASE):
            raise Refusal(
                "'messages' must contain the word 'json' in some form, to use "
                "'response_format' of type 'json_object'.",
                param="messages",
            )
    if wanted["type"] == "json_schema":
        described = wanted["json_schema"]
        if "schema" not in described:
            raise Refusal(
                "Missing required parameter: 'response_format.json_schema.schema'.",
                param="response_format.json_schema.schema",
                code="missing_required_parameter",
            )
        check_strict(
            described["schema"],
            f"response_format '{described['name']}'",
            strict=bool(described.get("strict")),
            param="response_format",
        )


def _media(body: dict[str, Any], model: Model) -> None:
    if "audio" in (body.get("modalities") or ()) or body.get("audio") is not None:
        raise Refusal(
            "This model does not support the requested modalities: 'audio'.",
            param="modalities",
            code="invalid_value",
        )


def _context(body: dict[str, Any], model: Model) -> None:
    prompt = tokens.count_prompt(body["messages"], body.get("tools"), body.get("functions"))
    if prompt > model.context:
        raise Refusal(
            f"This model's maximum context length is {model.context} tokens. However, your "
            f"messages resulted in {prompt} tokens. Please reduce the length of the messages.",
            param="messages",
            code="context_length_exceeded",
        )
